//! `job-context`: what a workflow says of a job beside the job itself.

use e2e::{UNTIL_LET_GO, Vm, expect};
use fakecloud::Config;
use serde_json::{Value, json};

const TELL: &str =
    r#"echo "$JOB_ATTEMPT,$JOB_VM_ATTEMPT,$JOB_PREVIOUS_CAUSE,$JOB_ITEM_lr,$JOB_ITEM_n,$JOB_ITEM_on" >> /shared/told"#;

fn retried(env: &Value) -> Value {
    let work = json!({"env": env});
    json!({"container": work, "retry": {"max_attempts": 2, "on": ["EXIT_CODE"]}})
}

#[tokio::test]
async fn a_job_is_told_of_the_vms_before_it_and_of_its_item() {
    for vm in Vm::of_each_kind().await {
        let context =
            r#"{"vm_attempt": 2, "previous_cause": "PREEMPTED", "item": {"lr": "a b", "n": 1.50, "on": true}}"#;
        vm.cloud.set_attribute("job-context", context);
        let mut job = vm.job(&format!("{TELL}; [ $JOB_ATTEMPT = 2 ]"), json!({}));
        job["retry"] = json!({"max_attempts": 2, "on": ["EXIT_CODE"]});
        vm.cloud.set_attribute("job-spec", job.to_string());
        expect(&vm.run().await, &json!({"cause": "NONE", "job": {"attempt": 2}}));
        assert_eq!(vm.shared("told"), "1,2,PREEMPTED,a b,1.50,true\n2,2,EXIT_CODE,a b,1.50,true\n");
    }
}

#[tokio::test]
async fn a_job_without_a_context_is_the_first_of_its_vms() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.run_job(TELL, json!({})).await;
    assert_eq!(vm.shared("told"), "1,1,,,,\n");
}

#[tokio::test]
async fn a_context_is_read_once() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.set_attribute("job-context", r#"{"item": {"lr": "first"}}"#);
    let env = json!({"JOB_ITEM_lr": "own", "JOB_ITEM_n": "own"});
    vm.set_job(&format!("{TELL}; echo x >> /shared/starts; {UNTIL_LET_GO}; [ $JOB_ATTEMPT = 2 ]"), retried(&env));
    let mut agent = vm.start();
    vm.until_running().await;
    agent.kill9().await;
    vm.cloud.set_attribute("job-context", r#"{"item": {"lr": "second"}, "vm_attempt": 7}"#);
    vm.let_go();
    expect(&vm.run().await, &json!({"cause": "NONE"}));
    assert_eq!(vm.shared("told"), "1,1,,first,own,\n2,1,EXIT_CODE,first,own,\n");
    let warning = "the value given for JOB_ITEM_lr is not used: vmjob sets it itself";
    assert_eq!(vm.logs().matches(warning).count(), 1, "{}", vm.logs());
}

#[tokio::test]
async fn a_context_that_is_not_understood_is_an_invalid_spec() {
    for (context, message) in [
        (r#"{"vm_attempt": 2"#, "~job-context: line 1, column"),
        (r#"{"itme": {}}"#, "~job-context: unknown field \"itme\" in the context"),
        (r#"{"item": {"a": []}}"#, "~job-context: item[\"a\"]: expected a string, a number, or true or false"),
    ] {
        let vm = Vm::without_docker(Config::default()).await;
        vm.cloud.set_attribute("job-context", context);
        expect(&vm.run_job("true", json!({})).await, &json!({"cause": "INVALID_SPEC", "message": message}));
    }
}
