//! What is a process's own: jobs without a container. What holds of both kinds is tested where the other is.

use std::time::{Duration, Instant};

use e2e::{Kind, Vm, expect};
use serde_json::json;

async fn vm() -> Option<Vm> {
    Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == Kind::Process)
}

#[tokio::test]
async fn it_runs_as_the_user_where_and_with_what_the_job_says_and_its_result_comes_back() {
    let Some(vm) = vm().await else { return };
    let script = r#"echo "$(id -un) $(pwd) $A $USER $JOB_ATTEMPT"; read -r x || echo no input; echo '{"n": 7}' >"$JOB_RESULT_FILE""#;
    let process = json!({"process": {"user": "nobody", "workdir": "/usr", "env": {"A": "1"}}});
    let report = vm.run_job(script, process).await;
    expect(
        &report,
        &json!({"cause": "NONE", "result": {"n": 7}, "image": {"ref": null, "digest": null},
                "logs": {"head": "nobody /usr 1 nobody 1\nno input\n"}}),
    );
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    for (process, words) in [
        (json!({"command": ["/no/such/program"]}), "~/no/such/program: No such file"),
        (json!({"command": ["/etc/passwd"]}), "~/etc/passwd: Permission denied"),
        (json!({"workdir": "/no/such/dir"}), "~/no/such/dir"),
        (json!({"user": "nosuchuser"}), "~no user \"nosuchuser\""),
    ] {
        let Some(vm) = vm().await else { return };
        let report = vm.run_job("true", json!({"process": process})).await;
        expect(&report, &json!({"cause": "START_FAILED", "exit_code": null, "message": words}));
    }
}

/// A child that has the output open holds the report up for five seconds at most, and does not outlive the job.
#[tokio::test]
async fn what_a_job_leaves_behind_ends_with_it() {
    let Some(vm) = vm().await else { return };
    let script = "(sleep 3; echo late; sleep 1000) & echo $! >/shared/child; echo done; printf last >&2; exit 3";
    let began = Instant::now();
    let report = vm.run_job(script, json!({})).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3, "logs": {"stdout_bytes": 10, "stderr_bytes": 4}}));
    // It had ended long before.
    assert!(report["durations_s"]["run"].as_f64().unwrap() < 3.0, "{report:#}");
    let child = format!("/proc/{}", vm.shared("child").trim());
    assert!(!std::path::Path::new(&child).exists(), "{child} is still there");
}

/// The job does not outlive its shim, and how it ended is nobody's to guess.
#[tokio::test]
async fn a_shim_that_is_killed_takes_the_job_with_it() {
    let Some(vm) = vm().await else { return };
    vm.set_job("echo x >>/shared/starts; sleep 1000", json!({}));
    let agent = vm.start();
    vm.until_running().await;
    vm.kill_job().await;
    expect(&vm.finish(agent).await, &json!({"cause": "CONTAINER_LOST", "exit_code": null, "retryable": true}));
    assert_eq!(vm.starts(), 1);
}
