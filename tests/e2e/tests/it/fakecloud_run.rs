//! `fakecloud run`: the whole of vmjob in one command on a laptop.

use std::process::Output;

use e2e::{Vm, agent_binary, docker, fakecloud_binary};
use serde_json::{Value, json};
use tokio::process::Command;

async fn run(options: &[&str], words: &[&str]) -> Output {
    let mut command = Command::new(fakecloud_binary());
    command.arg("run").arg("--agent").arg(agent_binary()).args(options).args(words).kill_on_drop(true);
    command.output().await.unwrap()
}

/// One after the other: the fake's VM has always the same id, and so its job's container the same name.
#[tokio::test]
async fn a_command_line_goes_in_and_its_exit_and_report_come_out() {
    if !docker::is_there().await {
        return;
    }
    let command = ["--", "docker", "run", "--rm", docker::IMAGE, "sh", "-c", "echo 'it is' done; exit 3"];
    let output = run(&[], &command).await;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    for words in ["FAILED, EXIT_CODE, exit code 3", "the job exited with 3", "it is done"] {
        assert!(stdout.contains(words), "{words:?} is not in {stdout}");
    }

    let output = run(&["--json", "--quiet"], &command).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    e2e::expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3, "logs": {"tail": "it is done\n"}}));
}

#[tokio::test]
async fn a_spec_goes_in_likewise_and_secrets_with_it() {
    let Some(vm) = Vm::with_docker().await else { return };
    let file = vm.dir().join("job.json").display().to_string();
    let secret = json!({"secret_env": {"A": "projects/p/secrets/a/versions/latest"}});
    let job = vm.job("[ \"$A\" = hidden ] && echo \"it is $A\"", json!({"id": vm.id(), "container": secret}));
    std::fs::write(&file, job.to_string()).unwrap();
    let output = run(&["--spec", &file, "--secret", "projects/p/secrets/a=hidden"], &[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("SUCCEEDED") && stdout.contains("it is ***"), "{output:?}");
    vm.check_remains().await;
}
