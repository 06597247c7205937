//! Trouble with the metadata server: it costs time, never the job.

use std::time::Duration;

use e2e::{UNTIL_LET_GO, Vm, expect};
use fakecloud::Config;
use futures_util::future::join_all;
use serde_json::json;

#[tokio::test]
async fn a_metadata_server_in_trouble_costs_time_only() {
    if !e2e::docker::is_there().await {
        return;
    }
    let cases = [
        ("", "503*8"),
        ("", "pass+delay=300ms*20"),
        ("", "truncate*6"),
        ("", "reset*4,garbage*4"),
        ("instance/attributes/job-spec", "500,truncate,reset"),
        ("instance/attributes/callback-url", "503*3"),
        ("instance/service-accounts/", "503,truncate,garbage"),
    ];
    let all = cases.map(async |(prefix, script)| {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.cloud.script_metadata(prefix, script.parse().unwrap());
        let report = vm.run_job("echo x >> /shared/starts; exit 7", json!({})).await;
        expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 7, "vm": {"id": vm.id(), "name": "fake-vm"}}));
        assert_eq!(vm.starts(), 1, "{prefix} {script}");
    });
    join_all(all).await;
}

#[tokio::test]
async fn a_metadata_server_that_comes_up_late_is_waited_for() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("exit 7", json!({}));
        vm.cloud.metadata_down(true).await.unwrap();
        let mut agent = vm.start();
        vm.until_logged("still trying").await;
        assert!(agent.ended().is_none());
        vm.cloud.metadata_down(false).await.unwrap();
        expect(&vm.finish(agent).await, &json!({"exit_code": 7}));
    }
}

#[tokio::test]
async fn a_metadata_server_that_goes_away_does_not_disturb_the_job() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(&format!("echo up > /shared/starts; {UNTIL_LET_GO}; exit 7"), json!({}));
        let agent = vm.start();
        vm.until_started().await;
        vm.cloud.metadata_down(true).await.unwrap();
        vm.let_go();
        vm.until_logged("the report is not out yet").await;
        vm.cloud.metadata_down(false).await.unwrap();
        expect(&vm.finish(agent).await, &json!({"exit_code": 7}));
    }
}

/// A cancellation gets through although the watch was cut off in between.
#[tokio::test]
async fn a_watch_that_was_cut_off_is_taken_up_again() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("echo up > /shared/starts; sleep 100", json!({"grace": "0s"}));
        let agent = vm.start();
        vm.until_started().await;
        vm.cloud.metadata_down(true).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        vm.cloud.metadata_down(false).await.unwrap();
        vm.cloud.set_attribute("job-cancel", "true");
        expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED"}));
    }
}

#[tokio::test]
async fn without_a_metadata_server_it_says_so() {
    for host in ["127.0.0.1:1", "no-such-host.invalid:80"] {
        let vm = Vm::without_docker(Config::default()).await;
        let mut command = vm.command();
        command.args(["--metadata-host", host, "--metadata-patience", "2s"]);
        let mut agent = vm.spawn(command);
        assert_eq!(agent.wait().await, 69, "{}", agent.log());
        assert!(agent.log().contains(host), "{}", agent.log());
    }
}

/// Values are asked for as the real server wants it.
#[tokio::test]
async fn requests_are_such_as_google_s_server_takes() {
    for vm in Vm::of_each_kind().await {
        vm.run_job("true", json!({})).await;
        for request in vm.cloud.metadata_requests() {
            assert_eq!(request.header("metadata-flavor"), Some("Google"), "{request:?}");
            assert_eq!(request.header("x-forwarded-for"), None, "{request:?}");
            assert!(!request.path.contains("//"), "{request:?}");
        }
    }
}

/// The VM may be there before its job is.
#[tokio::test]
async fn a_job_that_comes_later_is_waited_for() {
    for vm in Vm::of_each_kind().await {
        let url = vm.cloud.callback_url();
        vm.cloud.remove_attribute("callback-url");
        let agent = vm.start();
        vm.until_logged("no job yet").await;
        vm.set_job("exit 7", json!({}));
        vm.cloud.set_attribute("callback-url", url);
        let mut agent = agent;
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        let report: serde_json::Value = serde_json::from_str(&vm.written_report()).unwrap();
        expect(&report, &json!({"exit_code": 7}));
    }
}
