//! Reboots: a host error brings the VM up again with the same disk and the same metadata.

use e2e::{Agent, Fate, Gate, UNTIL_LET_GO, Vm, docker, expect, skip};
use serde_json::{Value, json};
use tokio::process::Command;

/// A VM that can pretend to be rebooted.
async fn vm() -> Option<Vm> {
    can_reboot().await.then_some(())?;
    Vm::with_docker().await
}

/// One for each kind of job.
async fn vms() -> Vec<Vm> {
    if can_reboot().await { Vm::of_each_kind().await } else { Vec::new() }
}

async fn can_reboot() -> bool {
    let unshared = Command::new("unshare").args(["--mount", "true"]).output().await;
    let can = unshared.is_ok_and(|output| output.status.success());
    if !can {
        skip("only root can make a mount namespace, and so pretend a reboot");
    }
    can
}

/// The power goes: the agent and the job end without a word.
async fn lose_power(vm: &Vm, agent: &mut Agent) {
    agent.kill9().await;
    vm.kill_job().await;
    vm.reboot();
}

#[tokio::test]
async fn a_reboot_under_the_job_is_reported_and_nothing_is_guessed() {
    for vm in vms().await {
        vm.set_job("echo x >> /shared/starts; echo out; sleep 100", json!({}));
        let mut agent = vm.start();
        vm.until_running().await;
        lose_power(&vm, &mut agent).await;
        let report = vm.run().await;
        expect(
            &report,
            &json!({"cause": "VM_REBOOTED", "exit_code": null, "signal": null, "job": {"attempt": 1}, "logs": {"tail": "out\n"},
                "evidence": ["~boot"]}),
        );
        assert_eq!(vm.starts(), 1);
    }
}

/// Docker may have seen an exit, and be wrong about it.
#[tokio::test]
async fn after_a_reboot_an_exit_code_proves_nothing() {
    for vm in vms().await {
        vm.set_job(&format!("echo x >> /shared/starts; {UNTIL_LET_GO}"), json!({}));
        let mut agent = vm.start();
        vm.until_running().await;
        agent.kill9().await;
        vm.let_go();
        vm.until_job_ended().await;
        vm.reboot();
        expect(&vm.run().await, &json!({"cause": "VM_REBOOTED", "exit_code": null}));
    }
}

#[tokio::test]
async fn a_reboot_may_be_retried() {
    for vm in vms().await {
        let script = r#"echo x >> /shared/starts; echo "attempt $JOB_ATTEMPT"; [ "$JOB_ATTEMPT" = 2 ] || sleep 100"#;
        vm.set_job(script, json!({"retry": {"max_attempts": 2, "on": ["VM_REBOOTED"]}}));
        let mut agent = vm.start();
        vm.until_running().await;
        lose_power(&vm, &mut agent).await;
        let report = vm.run().await;
        let evidence = json!(["~attempt 1: VM_REBOOTED"]);
        expect(
            &report,
            &json!({"cause": "NONE", "job": {"attempt": 2}, "logs": {"head": "attempt 2\n"}, "evidence": evidence}),
        );
        assert_eq!(vm.starts(), 2);
    }
}

/// Of a start that was asked for nobody knows: an engine whose power was cut may not have written down that it had done it.
#[tokio::test]
async fn a_reboot_before_the_start_runs_only_what_cannot_have_run() {
    for (call, wanted, starts) in [
        ("/containers/create", json!({"cause": "EXIT_CODE", "exit_code": 7, "job": {"attempt": 1}}), 1),
        ("/start", json!({"cause": "VM_REBOOTED", "exit_code": null}), 0),
    ] {
        let Some(vm) = vm().await else { return };
        vm.set_job("echo x >> /shared/starts; exit 7", json!({}));
        let mut gate = Gate::open_but_for(vm.dir(), call, Fate::HoldBefore);
        let mut agent = vm.start_through(&gate);
        gate.stopped().await;
        lose_power(&vm, &mut agent).await;
        expect(&vm.run().await, &wanted);
        assert_eq!(vm.starts(), starts, "{call}");
    }
}

/// The agent dies between the start and the note of it: the labels know the boot.
#[tokio::test]
async fn a_reboot_right_after_the_start_is_a_reboot() {
    let Some(vm) = vm().await else { return };
    vm.set_job("echo x >> /shared/starts; sleep 100", json!({}));
    let mut gate = Gate::open_but_for(vm.dir(), "/start", Fate::HoldAfter);
    let mut agent = vm.start_through(&gate);
    gate.stopped().await;
    vm.until_started().await;
    lose_power(&vm, &mut agent).await;
    expect(&vm.run().await, &json!({"cause": "VM_REBOOTED", "exit_code": null}));
    assert_eq!(vm.starts(), 1);
}

/// The journal may be lost with the power; the container's labels are still there.
#[tokio::test]
async fn a_reboot_that_costs_the_journal_does_not_run_the_job_again() {
    for vm in vms().await {
        vm.set_job("echo x >> /shared/starts; sleep 100", json!({}));
        let mut agent = vm.start();
        vm.until_running().await;
        lose_power(&vm, &mut agent).await;
        std::fs::write(vm.journal_file(), "").unwrap();
        expect(&vm.run().await, &json!({"cause": "VM_REBOOTED", "exit_code": null}));
        assert_eq!(vm.starts(), 1);
    }
}

#[tokio::test]
async fn a_report_that_was_written_before_the_reboot_is_the_one_delivered() {
    for vm in vms().await {
        vm.set_job("echo x >> /shared/starts; exit 7", json!({}));
        vm.cloud.callback_down(true).await.unwrap();
        let mut agent = vm.start();
        vm.until_logged("the report is not out yet").await;
        lose_power(&vm, &mut agent).await;
        vm.cloud.callback_down(false).await.unwrap();
        expect(&vm.run().await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
    }
}

/// A startup script runs at every boot.
#[tokio::test]
async fn a_reboot_after_delivery_does_nothing() {
    for vm in vms().await {
        vm.run_job("echo x >> /shared/starts", json!({})).await;
        vm.reboot();
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        assert_eq!((vm.starts(), vm.cloud.callback_requests().len()), (1, 1));
    }
}

/// A disk image that was made of a VM at work carries its journal along; on another VM that means nothing.
#[tokio::test]
async fn the_journal_of_another_vm_is_not_ours() {
    let Some(vm) = vm().await else { return };
    vm.set_job("echo x >> /shared/starts; echo $JOB_ID; sleep 100", json!({}));
    let mut agent = vm.start();
    vm.until_running().await;
    lose_power(&vm, &mut agent).await;
    docker::remove(&vm.container(1)).await;
    vm.cloud.set("instance/id", "42");
    vm.set_job("echo x >> /shared/starts; echo $JOB_ID; exit 3", json!({}));
    let mut agent = vm.start();
    assert_eq!(agent.wait().await, 0, "{}", agent.log());
    let report: Value = serde_json::from_slice(&vm.cloud.accepted()[0].body).unwrap();
    expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3, "job": {"id": "42"}, "logs": {"tail": "42\n"}}));
    assert_eq!(vm.starts(), 2);
}
