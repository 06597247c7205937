//! `keep-on-failure`: the container of a job that failed stays for a while after the report, and goes then.

use std::time::{Duration, Instant};

use e2e::{Agent, UNTIL_LET_GO, Vm, docker, expect, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

/// Long enough to be ended by something else.
const LONG: &str = "1h";

/// A job that fails, with its report out.
async fn kept(time: &str, changes: Value) -> Option<(Vm, Agent)> {
    let vm = Vm::with_docker().await?;
    vm.cloud.set_attribute("keep-on-failure", time);
    vm.set_job("echo x > /left; exit 3", changes);
    let agent = vm.start();
    vm.until_logged("keep-on-failure: the container and the VM stay until").await;
    assert_eq!((vm.phase().as_str(), is_there(&vm).await), ("DELIVERED", true));
    Some((vm, agent))
}

async fn is_there(vm: &Vm) -> bool {
    !docker::containers(&vm.container(1)).await.is_empty()
}

#[tokio::test]
async fn the_container_of_a_failed_job_stays_for_the_time_and_then_goes() {
    let began = Instant::now();
    let Some((vm, agent)) = kept("8s", json!({})).await else { return };
    let reported = Instant::now();
    let name = vm.container(1);
    assert_eq!(docker::docker(&["cp", &format!("{name}:/left"), &vm.dir().display().to_string()]).await, "");
    let mut status = Command::new(e2e::agent_binary());
    let status = status.args(["status", "--state-dir"]).arg(vm.state_dir()).output().await.unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    expect(&status, &json!({"phase": "DELIVERED", "keep": {"for_s": 8.0}}));
    assert!(status["keep"]["until"]["at"].is_string(), "{status:#}");
    expect(&vm.finish(agent).await, &json!({"cause": "EXIT_CODE", "exit_code": 3}));
    assert!(began.elapsed() > Duration::from_secs(8) && reported.elapsed() < Duration::from_secs(40));
    // A run after that finds nothing to keep.
    let (again, mut agent) = (Instant::now(), vm.start());
    assert_eq!(agent.wait().await, 0);
    assert!(again.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn the_rest_of_the_time_is_kept_to_over_a_crash_and_a_reboot() {
    for reboots in [false, true] {
        let Some((vm, mut agent)) = kept("15s", json!({})).await else { return };
        let reported = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        agent.kill9().await;
        if reboots {
            vm.reboot();
        }
        let agent = vm.start();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(is_there(&vm).await, "{}", vm.logs());
        vm.finish(agent).await;
        let took = reported.elapsed();
        assert!(took > Duration::from_secs(13) && took < Duration::from_secs(40), "{took:?}");
    }
}

#[tokio::test]
async fn sigterm_and_job_cancel_end_the_time_early_for_good() {
    for is_cancelled in [true, false] {
        let Some((vm, agent)) = kept(LONG, json!({})).await else { return };
        if is_cancelled {
            vm.cloud.set_attribute("job-cancel", "true");
        } else {
            agent.signal(Signal::TERM);
        }
        expect(&vm.finish(agent).await, &json!({"cause": "EXIT_CODE"}));
        assert!(vm.journal()["keep"].is_null());
    }
}

/// As for an upgrade: the next run goes on keeping.
#[tokio::test]
async fn sighup_hands_the_keeping_over() {
    let Some((vm, mut agent)) = kept(LONG, json!({})).await else { return };
    agent.signal(Signal::HUP);
    assert_eq!(agent.wait().await, 0);
    assert!(is_there(&vm).await);
    let agent = vm.start();
    until("the second run to keep", async || (vm.logs().matches("stay until").count() == 2).then_some(())).await;
    vm.cloud.set_attribute("job-cancel", "true");
    vm.finish(agent).await;
}

#[tokio::test]
async fn what_did_not_fail_is_not_kept() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.set_attribute("keep-on-failure", LONG);
    expect(&vm.run_job("true", json!({})).await, &json!({"cause": "NONE"}));

    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.set_attribute("keep-on-failure", LONG);
    vm.set_job(&format!("echo x >> /shared/starts; {UNTIL_LET_GO}"), json!({}));
    let agent = vm.start();
    vm.until_running().await;
    vm.cloud.set_attribute("job-cancel", "true");
    expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED"}));
}

#[tokio::test]
async fn a_time_that_is_not_understood_keeps_nothing() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.set_attribute("keep-on-failure", "for a while");
    expect(&vm.run_job("exit 3", json!({})).await, &json!({"cause": "EXIT_CODE"}));
    assert!(vm.logs().contains("keep-on-failure is no duration"), "{}", vm.logs());
}
