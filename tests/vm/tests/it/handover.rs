//! One agent after another, while the job runs: the next is installed beside it, or the service manager replaces one that hangs.

use std::fs;

use e2e::{agent_binary, expect, until};
use serde_json::json;
use vm::{Machine, Setup, startup_script, unit};

const JOB: &str = "echo x >>/shared/starts; echo one; until [ -e /shared/end ]; do sleep 0.2; done; echo two; exit 5";

/// The agent under test, with other bytes: a later release, so to speak.
fn other_agent() -> Vec<u8> {
    let mut agent = fs::read(agent_binary()).unwrap();
    agent.extend(b"another release");
    agent
}

/// The process of the agent's unit, once there is one.
async fn agent(machine: &Machine) -> String {
    let show = ["systemctl", "show", "--property=MainPID", "--value", "vmjob-agent"];
    until("the agent", async || Some(printed(machine, &show).await).filter(|pid| !pid.is_empty() && pid != "0")).await
}

/// What a command prints in the machine, in one line.
async fn printed(machine: &Machine, command: &[&str]) -> String {
    let output = machine.inside(command).await;
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn sha256(machine: &Machine, path: &str) -> String {
    printed(machine, &["sha256sum", path]).await.chars().take(64).collect()
}

/// Lets the job end, and sees that it was one and that its report is whole.
async fn ends_well(mut machine: Machine) {
    machine.look_from_here(); // the agents before this one have ended as well
    machine.touch("end");
    let wanted = json!({"cause": "EXIT_CODE", "exit_code": 5, "job": {"attempt": 1}, "logs": {"tail": "one\ntwo\n"}});
    expect(&machine.report().await, &wanted);
    machine.until_said("vmjob-agent.service: Deactivated successfully").await;
    assert_eq!((machine.starts(), machine.cloud.accepted().len()), (1, 1));
}

/// The startup script is told of another agent: it fetches and starts that, and the one that is there hands over.
#[tokio::test]
async fn another_agent_by_the_startup_script_takes_over_the_job() {
    for job in [Setup::with_job(JOB), Setup::with_process(JOB)] {
        let setup = job.attribute("startup-script", startup_script()).program("startup.sh", startup_script());
        let setup = setup.attribute("agent-url", "gs://agents/vmjob-agent");
        let setup = setup.attribute("agent-sha256", vm::sha256(&agent_binary())).program("other", other_agent());
        let Some(mut machine) = Machine::new(setup).await else { return };
        machine.bucket.put("vmjob-agent", fs::read(agent_binary()).unwrap());
        machine.boot();
        machine.until_started().await;

        let other = sha256(&machine, "/other").await;
        machine.bucket.put("vmjob-agent", other_agent());
        machine.cloud.set_attribute("agent-sha256", other.as_str());
        let output = machine.inside(&["bash", "/startup.sh"]).await;
        assert!(output.status.success(), "{output:?}");
        until("the one that was fetched", async || {
            let exe = format!("/proc/{}/exe", agent(&machine).await);
            (sha256(&machine, &exe).await == other).then_some(())
        })
        .await;
        assert_eq!(sha256(&machine, "/usr/bin/vmjob-agent").await, other, "and it is in its place");
        ends_well(machine).await;
    }
}

/// A package brings its unit to another directory. The installer's, which is in force from then on, names another program; that
/// is started, which takes a service manager that has read it.
#[tokio::test]
async fn a_program_below_a_prefix_takes_over_from_a_package() {
    let agent_of_package = fs::read(agent_binary()).unwrap();
    let setup = Setup::with_job(JOB).program("usr/bin/vmjob-agent", agent_of_package).program("other", other_agent());
    let setup = setup.file("usr/lib/systemd/system/vmjob-agent.service", unit());
    let Some(mut machine) = Machine::new(setup).await else { return };
    machine.boot();
    machine.until_said("Startup finished").await;
    machine.inside(&["systemctl", "enable", "--now", "vmjob-agent"]).await;
    machine.until_started().await;
    let output = machine.inside(&["/other", "install", "--now", "--prefix", "/opt/vmjob"]).await;
    assert!(output.status.success(), "{output:?}");
    until("the program below the prefix", async || {
        let exe = printed(&machine, &["readlink", &format!("/proc/{}/exe", agent(&machine).await)]).await;
        (exe == "/opt/vmjob/bin/vmjob-agent").then_some(())
    })
    .await;
    ends_well(machine).await;
}

/// A unit of the machine's own, of which a restart would stop the job: the agent that runs goes on.
#[tokio::test]
async fn an_agent_whose_restart_would_stop_the_job_is_left_alone() {
    let own = unit().replace("RestartKillSignal=SIGHUP\n", "");
    let setup = Setup::with_process(JOB)
        .program("other", other_agent())
        .file("etc/systemd/system/vmjob-agent.service.d/own.conf", "[Service]\nRestartKillSignal=SIGTERM\n");
    let setup =
        setup.program("usr/bin/vmjob-agent", fs::read(agent_binary()).unwrap()).unit("vmjob-agent.service", own);
    let Some(mut machine) = Machine::new(setup).await else { return };
    machine.boot();
    machine.until_started().await;
    let before = agent(&machine).await;
    let output = machine.inside(&["/other", "install", "--now"]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("RestartKillSignal"), "{output:?}");
    assert_eq!(agent(&machine).await, before);
    ends_well(machine).await;
}

/// The watchdog: an agent that hangs is killed, and the next carries on.
#[tokio::test]
async fn an_agent_that_hangs_is_replaced_and_its_job_goes_on() {
    for job in [Setup::with_job(JOB), Setup::with_process(JOB)] {
        let unit = unit()
            .replace("\nWatchdogSec=3min\n", "\nWatchdogSec=5s\n")
            .replace("\nRestartSec=5\n", "\nRestartSec=1\n");
        let setup = job.program("usr/bin/vmjob-agent", fs::read(agent_binary()).unwrap());
        let Some(mut machine) = Machine::new(setup.unit("vmjob-agent.service", unit)).await else { return };
        machine.boot();
        machine.until_started().await;
        let before = agent(&machine).await;
        machine.inside(&["kill", "-STOP", &before]).await;
        machine.until_said("vmjob-agent.service: Watchdog timeout").await;
        until("another agent", async || Some(agent(&machine).await).filter(|pid| *pid != before)).await;
        ends_well(machine).await;
    }
}
