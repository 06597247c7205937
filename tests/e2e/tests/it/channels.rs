//! The other channels: the VM's guest attributes, for whoever can read the instance.

use std::time::Duration;

use e2e::{UNTIL_LET_GO, Vm, expect};
use fakecloud::{Answer, Config, Recorded};
use serde_json::{Value, json};

const ENABLED: (&str, &str) = ("enable-guest-attributes", "TRUE");

/// What was written there in the first minute of it.
fn writes(vm: &Vm) -> Vec<Recorded> {
    let mut requests = vm.cloud.metadata_requests();
    requests.retain(|request| request.method != "GET");
    let first = requests.first().map(|first| first.at);
    requests.retain(|request| first.is_some_and(|first| request.at - first < Duration::from_mins(1)));
    requests
}

#[tokio::test]
async fn guest_attributes_hold_state_heartbeat_and_report() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_attribute(ENABLED.0, ENABLED.1);
        vm.set_job(&format!("echo up > /shared/starts; {UNTIL_LET_GO}; exit 7"), json!({}));
        let agent = vm.start();
        let state = |vm: &Vm| vm.cloud.guest_attributes().get("vmjob/state").cloned().unwrap_or_default();
        vm.until_started().await;
        e2e::until("the state", async || (state(&vm) == b"RUNNING").then_some(())).await;
        vm.let_go();
        let report = vm.finish(agent).await;
        let attributes = vm.cloud.guest_attributes();
        assert_eq!(attributes.keys().collect::<Vec<_>>(), ["vmjob/heartbeat", "vmjob/report", "vmjob/state"]);
        assert_eq!(attributes["vmjob/state"], b"DELIVERED");
        let heartbeat = String::from_utf8_lossy(&attributes["vmjob/heartbeat"]);
        assert!(heartbeat.parse::<jiff::Timestamp>().is_ok(), "{heartbeat}");
        let there: Value = serde_json::from_slice(&attributes["vmjob/report"]).unwrap();
        assert_eq!(there, report);
        assert!(writes(&vm).len() <= 10, "{:#?}", writes(&vm));
    }
}

/// From the notice on: the VM may be gone before its report is out.
#[tokio::test]
async fn a_vm_that_is_being_preempted_says_so_in_its_state_before_the_report_is_out() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_attribute(ENABLED.0, ENABLED.1);
        let script = format!("trap '' TERM; echo up > /shared/starts; {UNTIL_LET_GO}; exit 7");
        vm.set_job(&script, json!({"grace": "60s"}));
        let agent = vm.start();
        vm.until_started().await;
        let state = |vm: &Vm| vm.cloud.guest_attributes().get("vmjob/state").cloned().unwrap_or_default();
        vm.cloud.set("instance/preempted", "TRUE");
        e2e::until("the state", async || (state(&vm) == b"PREEMPTED").then_some(())).await;
        assert_eq!(vm.cloud.accepted().len(), 0);
        vm.let_go();
        expect(&vm.finish(agent).await, &json!({"cause": "PREEMPTED", "exit_code": 7}));
        assert_eq!(state(&vm), b"DELIVERED");
    }
}

/// However often its state changed before: the server takes ten writes a minute.
#[tokio::test]
async fn the_report_of_a_job_that_was_tried_often_gets_there() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_attribute(ENABLED.0, ENABLED.1);
        let report = vm.run_job("exit 7", json!({"retry": {"max_attempts": 4, "on": ["EXIT_CODE:7"]}})).await;
        expect(&report, &json!({"cause": "EXIT_CODE", "job": {"attempt": 4}}));
        let attributes = vm.cloud.guest_attributes();
        let there: Value = serde_json::from_slice(&attributes["vmjob/report"]).unwrap();
        assert_eq!(there, report);
        assert_eq!(attributes["vmjob/state"], b"DELIVERED");
        assert!(writes(&vm).len() <= 8, "{:#?}", writes(&vm));
    }
}

#[tokio::test]
async fn a_report_that_nobody_takes_is_still_there() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.cloud.set_attribute(ENABLED.0, ENABLED.1);
    vm.cloud.set_attribute("job-spec", "{}");
    vm.cloud.end_execution();
    let mut agent = vm.start();
    assert_eq!(agent.wait().await, 75);
    let there: Value = serde_json::from_slice(&vm.cloud.guest_attributes()["vmjob/report"]).unwrap();
    expect(&there, &json!({"cause": "INVALID_SPEC"}));
}

/// Off is the default: one refusal is enough to know.
#[tokio::test]
async fn a_vm_without_guest_attributes_is_left_alone() {
    for vm in Vm::of_each_kind().await {
        vm.run_job("sleep 1", json!({})).await;
        let writes = writes(&vm);
        assert!(writes.len() <= 1 && writes.iter().all(|write| write.answer == Answer::Status(403)), "{writes:#?}");
    }
}

#[tokio::test]
async fn guest_attributes_in_trouble_cost_nothing() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_attribute(ENABLED.0, ENABLED.1);
        vm.cloud.script_metadata("instance/guest-attributes/", "hang,503,reset,429*100".parse().unwrap());
        expect(&vm.run_job("exit 7", json!({})).await, &json!({"exit_code": 7}));
    }
}
