//! A VM in which something that the startup script asks does not answer: what that means, and what it does not.

use std::fs;

use e2e::{agent_binary, expect};
use serde_json::json;
use vm::{Machine, Setup, sha256, startup_script, startup_script_with};

use crate::failures::{AFRESH, machine, setup};

/// Without one the agent cannot be had, whatever answers.
fn no_checksum(setup: Setup) -> Setup {
    setup.attribute("agent-sha256", "none")
}

/// Runs the script with no way to the endpoint, until a try has failed; then with one. Such a try has sent nothing, so a 429
/// after it is none of its doing.
#[tokio::test]
async fn a_report_that_finds_no_endpoint_is_sent_once_there_is_one() {
    let Some(mut machine) = machine(no_checksum(setup())).await else { return };
    let direct = machine.cloud.callback_url();
    let path = direct.splitn(4, '/').last().unwrap().to_owned();
    let named = format!("https://workflowexecutions.googleapis.com/{path}");
    let port = machine.cloud.callback_addr().port();
    let rule = |target: &str| {
        let change = |verb: &str| format!("iptables {verb} INPUT -p tcp --dport {port} -j {target}");
        (change("-I"), change("-D"))
    };
    let no_name = ("cp /etc/hosts /tmp/hosts && echo >/etc/hosts".to_owned(), "cat /tmp/hosts >/etc/hosts".to_owned());
    let cases = [
        ("the port is closed", &direct, rule("REJECT --reject-with tcp-reset")),
        ("nothing answers", &direct, rule("DROP")),
        ("the name is unknown", &named, no_name),
    ];
    for (what, url, (spoil, mend)) in cases {
        let sent = machine.cloud.callback_requests().len();
        machine.cloud.set_attribute("callback-url", url.as_str());
        machine.cloud.script_callback("429,pass".parse().unwrap());
        let until = "until grep -q 'not out yet: no answer' /tmp/said || ! kill -0 $!; do sleep 0.1; done";
        let line =
            format!("{spoil} || exit 9; ({AFRESH}) >/tmp/said 2>&1 & {until}; {mend}; wait; cat /tmp/said; exit 7");
        assert_eq!(machine.run(&line).await, 7, "{what}");
        assert_eq!(machine.cloud.callback_requests().len() - sent, 2, "{what}");
        expect(&machine.report().await, &json!({"cause": "INVALID_SPEC"}));
        machine.cloud.consume_callback();
    }
}

/// The endpoint has the report, but the VM goes down before it hears of that: a 429 of the next boot's try says so.
#[tokio::test]
async fn a_try_that_a_power_cut_ends_may_have_arrived() {
    let setup = no_checksum(setup()).attribute("startup-script", startup_script());
    let Some(mut machine) = machine(setup).await else { return };
    machine.cloud.script_callback("hang-after".parse().unwrap());
    machine.boot();
    expect(&machine.report().await, &json!({"cause": "INVALID_SPEC"}));
    machine.cut().await;
    machine.cloud.script_callback("429*2".parse().unwrap());
    machine.boot();
    machine.until_said("vmjob: the report: 429").await;
    assert_eq!(machine.cloud.callback_requests().len(), 2);
}

/// A server that is silent for a moment is not one that says that there is no service account.
#[tokio::test]
async fn a_metadata_server_that_gives_no_token_is_asked_again() {
    let asks_once = startup_script_with(&[("METADATA_PATIENCE_S", 0), ("DOWNLOAD_PATIENCE_S", 0)]);
    let Some(mut machine) = machine(setup().program("startup.sh", asks_once)).await else { return };
    let silent = |machine: &Machine, times: usize| {
        let script = format!("503*{times}").parse().unwrap();
        machine.cloud.script_metadata("instance/service-accounts/default/token", script);
    };
    // The report's: the first two tries have no token.
    machine.cloud.set_attribute("agent-sha256", "none");
    silent(&machine, 2);
    assert_eq!(machine.run(AFRESH).await, 1);
    expect(&machine.report().await, &json!({"cause": "INVALID_SPEC"}));
    assert_eq!(machine.cloud.callback_requests().len(), 1);
    machine.cloud.consume_callback();

    // The bucket's, which is not waited for here, and the report's once more.
    machine.cloud.set_attribute("agent-sha256", sha256(&agent_binary()));
    silent(&machine, 2);
    assert_eq!(machine.run(AFRESH).await, 1);
    let wanted = json!({"cause": "AGENT_ERROR", "message": "~metadata server does not answer", "retryable": true});
    expect(&machine.report().await, &wanted);
    assert!(machine.bucket.requests().is_empty());
}

/// Nobody was told of the failure, so it is not the job's one outcome.
#[tokio::test]
async fn a_vm_that_was_given_a_service_account_runs_its_job_at_the_next_boot() {
    let Some(mut machine) = machine(setup().attribute("startup-script", startup_script())).await else { return };
    machine.cloud.script_metadata("instance/service-accounts/default/token", "404*50".parse().unwrap());
    assert_eq!(machine.run(AFRESH).await, 1);
    assert!(machine.console().contains("has no service account, so it cannot report"), "{}", machine.console());
    assert!(machine.cloud.callback_requests().is_empty());
    machine.cloud.clear_scripts();
    machine.boot();
    expect(&machine.report().await, &json!({"cause": "NONE"}));
    assert_eq!(machine.starts(), 1);
}

/// On Container-Optimized OS nothing but the script starts the agent, which waits for the metadata on its own terms.
#[tokio::test]
async fn a_job_under_way_is_carried_on_where_the_metadata_server_is_silent() {
    let job = Setup::with_job("echo x >>/shared/starts; up=up; echo the job is $up; exec sleep 600");
    let impatient = startup_script_with(&[("METADATA_PATIENCE_S", 0)]);
    let setup = job.as_cos().program("startup.sh", impatient).attribute("startup-script", startup_script());
    let setup = setup.attribute("agent-url", "gs://agents/vmjob-agent");
    let Some(mut machine) = machine(setup.attribute("agent-sha256", sha256(&agent_binary()))).await else { return };
    machine.boot();
    machine.until_started().await;
    machine.until_said("the job is up").await; // the line is in the job's log, too
    machine.cut().await;

    machine.cloud.remove_attribute("startup-script");
    machine.boot();
    machine.until_said("Startup finished").await;
    machine.cloud.script_metadata("instance/attributes/callback-url", "503*1000".parse().unwrap());
    let output = machine.inside(&["bash", "/startup.sh"]).await;
    assert!(output.status.success(), "{output:?}");
    machine.cloud.clear_scripts();
    expect(&machine.report().await, &json!({"cause": "VM_REBOOTED", "logs": {"tail": "the job is up\n"}}));
    assert_eq!(machine.starts(), 1);
}

/// The service manager is asked to start the agent, and then something goes wrong: the report says that nothing was run.
#[tokio::test]
async fn a_start_that_was_asked_for_does_not_come_true_after_the_report() {
    // It waits for the script to end, as ours may wait for the network.
    let unit = "[Unit]\nAfter=google-startup-scripts.service\n[Service]\nExecStart=true\n";
    let installer = format!(
        "#!/bin/sh\nprintf '%s' \"{unit}\" >/etc/systemd/system/vmjob-agent.service\n\
         systemctl start --no-block vmjob-agent.service\necho out of luck >&2\nexit 1\n"
    );
    let setup = setup().attribute("startup-script", startup_script());
    let Some(mut machine) = machine(setup).await else { return };
    machine.bucket.put("vmjob-agent", installer.as_str());
    let file = std::env::temp_dir().join(format!("vmjob-vm.installer.{}", std::process::id()));
    fs::write(&file, installer).unwrap();
    machine.cloud.set_attribute("agent-sha256", sha256(&file));
    fs::remove_file(&file).unwrap();
    machine.boot();
    expect(&machine.report().await, &json!({"cause": "AGENT_ERROR", "message": "~out of luck"}));
    machine.until_said("Finished google-startup-scripts.service").await;
    machine.inside(&["systemctl", "is-system-running", "--wait"]).await;
    let jobs = machine.inside(&["systemctl", "list-jobs", "--no-legend"]).await;
    assert_eq!(String::from_utf8_lossy(&jobs.stdout), "", "nothing is to be started any more");
    assert!(!machine.console().contains("Started vmjob-agent.service"));
}

/// The report is kept in memory then, and gone after a reboot; that it was delivered is not.
#[tokio::test]
async fn a_report_from_a_full_disk_is_the_last_word_too() {
    let Some(mut machine) = machine(no_checksum(setup())).await else { return };
    let full = "mkdir -p /var/lib/vmjob && mount -t tmpfs -o size=4k tmpfs /var/lib/vmjob && \
                { cat /dev/zero >/var/lib/vmjob/full; bash /startup.sh; rm -rf /run/startup-failure-* /var/lib/vmjob/full; }";
    assert_eq!(machine.run(&format!("{full}; bash /startup.sh")).await, 0, "the next boot");
    expect(&machine.report().await, &json!({"cause": "INVALID_SPEC"}));
    assert_eq!(machine.cloud.callback_requests().len(), 1);
}
