//! The ways in which the agent gets into a VM, from the power button to the report.

use std::fs;

use e2e::{agent_binary, expect};
use packaging::{Scratch, deb};
use serde_json::json;
use vm::{Machine, Setup, sha256, startup_script, startup_script_of, user_data};

const JOB: &str = "echo x >>/shared/starts; echo hello";
const BUCKET: &str = "https://storage.googleapis.com/agents";

/// A machine whose metadata say which agent.
fn setup() -> Setup {
    Setup::with_job(JOB)
        .attribute("agent-url", "gs://agents/vmjob-agent")
        .attribute("agent-sha256", sha256(&agent_binary()))
}

/// Boots it, and sees that the workflow gets the job's report, and that another boot runs nothing.
async fn boots(setup: Setup) {
    let Some(machine) = Machine::new(setup).await else { return };
    boots_as_it_is(machine).await;
}

async fn boots_as_it_is(mut machine: Machine) {
    machine.bucket.put("vmjob-agent", fs::read(agent_binary()).unwrap());
    machine.bucket.put("startup.sh", startup_script_of("gs://agents/vmjob-agent", &sha256(&agent_binary())));
    machine.boot();
    expect(&machine.report().await, &json!({"cause": "NONE", "logs": {"tail": "hello\n"}}));
    assert_eq!(machine.shared("apt"), "", "nothing is missing that would have to be installed");
    machine.cut().await;

    machine.boot();
    machine.until_said("vmjob-agent.service: Deactivated successfully").await;
    assert_eq!((machine.starts(), machine.cloud.accepted().len()), (1, 1));
}

#[tokio::test]
async fn startup_script_in_the_metadata() {
    boots(setup().attribute("startup-script", startup_script())).await;
}

#[tokio::test]
async fn startup_script_url_to_the_script() {
    boots(Setup::with_job(JOB).attribute("startup-script-url", format!("{BUCKET}/startup.sh"))).await;
}

/// The script runner fetches it as the VM's service account.
#[tokio::test]
async fn startup_script_url_to_a_gs_object() {
    boots(setup().attribute("startup-script-url", "gs://agents/startup.sh")).await;
}

#[tokio::test]
async fn startup_script_url_to_the_agent_itself() {
    boots(Setup::with_job(JOB).attribute("startup-script-url", format!("{BUCKET}/vmjob-agent"))).await;
}

/// On most images the journal stays in the VM.
#[tokio::test]
async fn the_report_is_on_the_console_where_the_journal_is_not() {
    let setup = Setup::with_process("echo hello; exit 7")
        .attribute("startup-script-url", format!("{BUCKET}/vmjob-agent"))
        .file("etc/systemd/journald.conf.d/console.conf", "[Journal]\nStorage=volatile\n");
    let Some(mut machine) = Machine::new(setup).await else { return };
    machine.bucket.put("vmjob-agent", fs::read(agent_binary()).unwrap());
    machine.boot();
    machine.until_said("vmjob-report {\"version\":1,").await;
    machine.until_said("the report was delivered").await;
    assert!(machine.console().contains("hello"));
    expect(&machine.report().await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
}

#[tokio::test]
async fn user_data_on_debian() {
    boots(setup().with_cloud_init().attribute("user-data", user_data("debian.yaml"))).await;
}

/// Both fetch the agent and start it, at about the same time.
#[tokio::test]
async fn user_data_and_a_startup_script_at_once() {
    let setup = setup().with_cloud_init().attribute("user-data", user_data("debian.yaml"));
    boots(setup.attribute("startup-script", startup_script())).await;
}

#[tokio::test]
async fn user_data_on_cos() {
    boots(setup().as_cos().with_cloud_init().attribute("user-data", user_data("cos.yaml"))).await;
}

#[tokio::test]
async fn startup_script_on_cos() {
    boots(setup().as_cos().attribute("startup-script", startup_script())).await;
}

/// The script runner puts it where Google has it put things on Container-Optimized OS.
#[tokio::test]
async fn startup_script_url_to_the_agent_itself_on_cos() {
    boots(Setup::with_job(JOB).as_cos().attribute("startup-script-url", format!("{BUCKET}/vmjob-agent"))).await;
}

#[tokio::test]
async fn a_job_without_a_container_on_cos() {
    let setup = Setup::with_process(JOB).as_cos();
    boots(setup.attribute("startup-script-url", format!("{BUCKET}/startup.sh"))).await;
}

#[tokio::test]
async fn baked_into_the_image() {
    let setup = Setup::with_job(JOB).program("agent", fs::read(agent_binary()).unwrap());
    let Some(mut machine) = Machine::new(setup).await else { return };
    let verify = "systemd-analyze verify --recursive-errors=no --man=no /etc/systemd/system/vmjob-agent.service";
    assert_eq!(machine.run(&format!("/agent install && {verify}")).await, 0, "{}", machine.console());
    boots_as_it_is(machine).await;
}

#[tokio::test]
async fn installed_as_a_package() {
    let scratch = Scratch::new();
    let Some(package) = deb("0.0.1", scratch.path()) else { return };
    let setup = Setup::with_job(JOB).file("vmjob-agent.deb", fs::read(package).unwrap());
    let Some(mut machine) = Machine::new(setup).await else { return };
    let status = machine.run("dpkg --force-confold --install /vmjob-agent.deb").await;
    assert_eq!(status, 0, "{}", machine.console());
    boots_as_it_is(machine).await;
}

#[tokio::test]
async fn a_job_without_a_container() {
    boots(Setup::with_process(JOB).attribute("startup-script-url", format!("{BUCKET}/vmjob-agent"))).await;
}

/// What the tests above rely on: without it they would prove nothing about Container-Optimized OS.
#[tokio::test]
async fn on_cos_programs_run_from_one_place_and_the_root_is_read_only() {
    let Some(mut machine) = Machine::new(Setup::default().as_cos()).await else { return };
    machine.boot();
    machine.until_said("Startup finished").await;
    for (dir, runs) in
        [("/tmp", false), ("/run", false), ("/var", false), ("/var/lib/vmjob", false), ("/var/lib/google", true)]
    {
        let script = format!("mkdir -p {dir} && cp /bin/true {dir}/program && {dir}/program");
        let output = machine.inside(&["sh", "-c", &script]).await;
        assert_eq!(output.status.success(), runs, "{dir}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for tool in ["python3", "perl", "jq", "awk", "find", "apt-get", "wget"] {
        // Not by the path of whoever runs the tests.
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let output = machine.inside(&["env", "-i", path, "sh", "-c", &format!("command -v {tool}")]).await;
        assert!(!output.status.success(), "it has no {tool}");
    }
    let output = machine.inside(&["touch", "/usr/bin/program"]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("Read-only file system"), "{output:?}");
}
