//! What ends under a job: the power, the VM, or nothing but the way to the agent.

use std::fs;

use e2e::{agent_binary, expect};
use serde_json::json;
use vm::{Machine, Setup, sha256, startup_script};

const JOB: &str = "echo x >>/shared/starts; up=up; echo the job is $up; exec sleep 600";
/// What the agent shows of it once the line is in the job's log: the engine writes that when the job has begun long since.
const UP: &str = "the job is up";

fn setup() -> Setup {
    with_agent(Setup::with_job(JOB))
}

fn with_agent(setup: Setup) -> Setup {
    setup
        .attribute("startup-script", startup_script())
        .attribute("agent-url", "gs://agents/vmjob-agent")
        .attribute("agent-sha256", sha256(&agent_binary()))
}

/// A job that runs until something ends it, in a machine that is on.
async fn running_job(setup: Setup) -> Option<Machine> {
    let mut machine = Machine::new(setup).await?;
    machine.bucket.put("vmjob-agent", fs::read(agent_binary()).unwrap());
    machine.boot();
    machine.until_started().await;
    machine.until_said(UP).await;
    Some(machine)
}

#[tokio::test]
async fn a_power_cut_is_reported_by_the_next_boot() {
    for setup in [setup(), with_agent(Setup::with_process(JOB))] {
        let Some(mut machine) = running_job(setup).await else { return };
        machine.cut().await;
        machine.boot();
        let wanted = json!({"cause": "VM_REBOOTED", "exit_code": null, "logs": {"tail": format!("{UP}\n")}});
        expect(&machine.report().await, &wanted);
        assert_eq!(machine.starts(), 1);
        assert_eq!(machine.bucket.requests().len(), 1, "the agent was there already");
    }
}

#[tokio::test]
async fn poweroff_is_reported_before_the_machine_is_off() {
    for setup in [setup(), with_agent(Setup::with_process(JOB))] {
        let Some(mut machine) = running_job(setup).await else { return };
        machine.inside(&["systemctl", "poweroff"]).await;
        machine.off().await;
        assert_eq!(machine.cloud.accepted().len(), 1, "reports by the time it is off");
        expect(&machine.report().await, &json!({"cause": "VM_SHUTDOWN", "logs": {"tail": format!("{UP}\n")}}));
        assert_eq!(machine.starts(), 1);
    }
}

/// The shim is a unit of its own: neither a restart of the agent nor a crash ends the job.
#[tokio::test]
async fn a_process_outlives_the_agent() {
    let script = JOB.replace("exec sleep 600", "until [ -e /shared/end ]; do sleep 0.2; done; id -u; echo end; exit 5");
    let Some(mut machine) = running_job(with_agent(Setup::with_process(&script))).await else { return };
    let agent = async |command: &[&str]| {
        let output = machine.inside(command).await;
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    agent(&["systemctl", "restart", "vmjob-agent.service"]).await;
    agent(&["systemctl", "kill", "--signal=KILL", "vmjob-agent.service"]).await;
    agent(&["touch", "/shared/end"]).await;
    let tail = format!("{UP}\n0\nend\n");
    expect(&machine.report().await, &json!({"cause": "EXIT_CODE", "exit_code": 5, "logs": {"tail": tail}}));
    assert_eq!(machine.starts(), 1);
    // What ends with the job is the job's.
    let output = machine.inside(&["systemctl", "is-active", "docker.service", "systemd-logind.service"]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "active\nactive\n");
}

/// The job's report matters more than which version of the agent makes it. On Container-Optimized OS only the journal
/// tells that there is a job: no unit is left from the boot before.
#[tokio::test]
async fn a_job_under_way_is_reported_by_the_agent_that_is_there() {
    let Some(mut machine) = running_job(setup().as_cos()).await else { return };
    machine.cut().await;
    machine.cloud.set_attribute("agent-sha256", "0".repeat(64));
    machine.boot();
    expect(&machine.report().await, &json!({"cause": "VM_REBOOTED"}));
    machine.until_said("the agent that is installed carries on").await;
    assert_eq!(machine.starts(), 1);
}
