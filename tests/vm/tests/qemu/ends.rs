//! What ends under a job, as only a machine with a kernel of its own can.

use serde_json::{Value, json};
use vm::{job, process};

use crate::{boot, ends, next};

const JOB: &str = "echo x >>/shared/starts; echo out; exec sleep 600";

async fn off(job: &Value, presses: bool) {
    let Some(mut machine) = boot(job).await else { return };
    if presses {
        machine.until_started().await;
        machine.press_power_button();
    }
    machine.off().await;
    assert_eq!(machine.cloud.accepted().len(), 1, "reports by the time it is off");
    e2e::expect(&machine.report().await, &json!({"cause": "VM_SHUTDOWN", "logs": {"tail": "out\n"}}));
    assert_eq!(machine.starts(), 1);
}

/// So a VM is stopped: the report has to be out before the network goes.
#[tokio::test]
async fn the_power_button_is_reported_before_the_machine_is_off() {
    off(&job(JOB, json!({})), true).await;
}

#[tokio::test]
async fn a_process_that_powers_the_machine_off_is_reported_before_it_is() {
    off(&process("echo x >>/shared/starts; echo out; systemctl poweroff; exec sleep 600"), false).await;
}

/// What was not on the disk is lost, and the boot is another one: so it is after a crash of the host.
#[tokio::test]
async fn a_power_cut_is_reported_by_the_next_boot() {
    let Some(mut machine) = boot(&job(JOB, json!({}))).await else { return };
    let wanted = json!({"cause": "VM_REBOOTED", "exit_code": null});
    machine.until_started().await;
    machine.cut().await;
    machine.boot();
    ends(&mut machine, &wanted).await;
    assert_eq!(machine.starts(), 1);
    next(&mut machine, &process(JOB));
    machine.until_started_times(2).await;
    machine.cut().await;
    machine.boot();
    ends(&mut machine, &wanted).await;
    assert_eq!((machine.starts(), machine.cloud.accepted().len()), (2, 2));
}
