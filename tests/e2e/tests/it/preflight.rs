//! Before a job is run: will anybody hear how it ended? Where nobody can, it is not run; every other doubt is a warning.

use std::time::{Duration, Instant};

use e2e::{Vm, docker, expect};
use fakecloud::{Action, Config, ServiceAccount, Step};
use serde_json::{Value, json};

const JOB: &str = "echo x >> /shared/starts; sleep 0.5; exit 7";

/// A cloud whose VM may only write logs.
fn without_scope() -> Config {
    let scopes = vec!["https://www.googleapis.com/auth/logging.write".to_owned()];
    Config { service_account: Some(ServiceAccount { scopes, ..ServiceAccount::default() }), ..Config::default() }
}

fn without_account() -> Config {
    Config { service_account: None, ..Config::default() }
}

/// The report as it stands on the console and in the guest attributes.
fn other_channels(vm: &Vm) -> Value {
    let there: Value = serde_json::from_slice(&vm.cloud.guest_attributes()["vmjob/report"]).unwrap();
    assert_eq!(there, serde_json::from_str::<Value>(&vm.written_report()).unwrap());
    there
}

/// How often the VM's scopes were asked for.
fn looks(vm: &Vm) -> usize {
    let requests = vm.cloud.metadata_requests();
    requests.iter().filter(|request| request.path.contains("service-accounts/default/?recursive=true")).count()
}

#[tokio::test]
async fn a_job_of_which_nobody_could_hear_is_not_run_and_the_report_says_what_mends_it() {
    let cases = [(without_account(), "~--service-account=ACCOUNT", 0), (without_scope(), "~compute@developer", 1)];
    for (config, account, posts) in cases {
        let Some(vm) = Vm::with_docker_and(config).await else { return };
        vm.cloud.set_attribute("enable-guest-attributes", "TRUE");
        vm.set_job(JOB, json!({"retry": {"max_attempts": 3, "on": ["INVALID_SPEC"]}}));
        let began = Instant::now();
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 75, "{}", agent.log());
        assert!(began.elapsed() < Duration::from_mins(1), "it does not try for an hour: {:?}", began.elapsed());
        let report = other_channels(&vm);
        let wanted = json!({"state": "FAILED", "cause": "INVALID_SPEC", "retryable": false, "exit_code": null,
                            "times": {"pull_started_at": null, "started_at": null}});
        expect(&report, &wanted);
        expect(
            &report,
            &json!({"fix": "~gcloud compute instances set-service-account fake-vm --project=fake-project --zone=europe-west1-b"}),
        );
        expect(&report, &json!({"fix": account, "message": "~nobody would hear"}));
        assert_eq!((vm.starts(), vm.cloud.callback_requests().len()), (0, posts));
        vm.check_remains().await;

        // Within this boot nothing changes.
        assert_eq!(vm.start().wait().await, 75);
        assert_eq!((vm.starts(), vm.cloud.callback_requests().len()), (0, posts));
    }
}

/// `gcloud compute instances set-service-account` wants the VM stopped, so what mends it comes with another boot.
#[tokio::test]
async fn a_vm_that_was_mended_runs_its_job_at_the_next_boot() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.script_metadata("instance/service-accounts/", "404*2".parse().unwrap());
        vm.set_job(JOB, json!({}));
        assert_eq!(vm.start().wait().await, 75);
        assert_eq!(vm.starts(), 0);
        let first: Value = serde_json::from_str(&vm.written_report()).unwrap();
        expect(&first, &json!({"cause": "INVALID_SPEC", "message": "~no service account"}));
        vm.reboot();
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        let report: Value = serde_json::from_slice(&vm.cloud.accepted()[0].body).unwrap();
        expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
        assert_eq!(vm.starts(), 1);
        vm.check_remains().await;
    }
}

#[tokio::test]
async fn a_callback_that_needs_less_of_the_vm_is_asked_for_less() {
    let none = json!({"auth": "none"});
    let cases = [
        (without_account(), none.clone()),
        (without_scope(), none),
        (without_scope(), json!({"auth": "id_token", "audience": "https://aud.example"})),
    ];
    for (config, auth) in cases {
        let Some(vm) = Vm::with_docker_and(config).await else { return };
        vm.cloud.script_callback("204".parse().unwrap());
        vm.set_job(JOB, json!({"callback": auth}));
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        assert_eq!(vm.starts(), 1, "{auth}");
    }
}

/// What cannot be found out, or may pass, is said, and the job is run.
#[tokio::test]
async fn a_doubt_is_a_warning_in_the_log_and_in_the_evidence() {
    let date = "Fri, 31 Dec 2100 23:59:59 GMT".to_owned();
    let headers = vec![("Date".to_owned(), date)];
    let in_2100 = || Step::from(Action::Answer { status: 200, headers: headers.clone(), body: b"1".to_vec() });

    for vm in Vm::of_each_kind().await {
        // The VM's id is read with its other names, then for the time.
        vm.cloud.script_metadata("instance/id", [Step::from(Action::Pass), in_2100()].into_iter().collect());
        let report = vm.run_job(JOB, json!({})).await;
        expect(&report, &json!({"exit_code": 7, "evidence": ["~s behind the metadata server's"]}));
        assert!(vm.logs().contains("WARN clock: "), "{}", vm.logs());
    }

    for vm in Vm::of_each_kind().await {
        vm.cloud.callback_down(true).await.unwrap();
        vm.set_job(JOB, json!({}));
        let agent = vm.start();
        vm.until_logged("the report is not out yet").await;
        vm.cloud.callback_down(false).await.unwrap();
        let report = vm.finish(agent).await;
        expect(&report, &json!({"exit_code": 7, "evidence": ["~callback host: failed to connect to 127.0.0.1: "]}));
    }

    // No service account is known, nor that there is none.
    for script in ["503*30", "hang", "garbage*30"] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.cloud.script_metadata("instance/service-accounts/", script.parse().unwrap());
        vm.set_job(JOB, json!({}));
        let began = Instant::now();
        let agent = vm.start();
        vm.until_started().await;
        let delay = began.elapsed();
        vm.cloud.clear_scripts();
        let report = vm.finish(agent).await;
        expect(&report, &json!({"exit_code": 7, "evidence": ["~service account: "]}));
        assert!(delay < Duration::from_secs(30), "{script} delayed the job by {delay:?}");
    }
}

/// Where all is well nothing is said, and the endpoint hears of nothing but the report.
#[tokio::test]
async fn a_look_leaves_no_trace() {
    for vm in Vm::of_each_kind().await {
        vm.run_job("true", json!({})).await;
        assert_eq!(vm.journal()["preflight"], json!({"is_done": true, "warnings": [], "cannot_report": false}));
        assert_eq!((vm.cloud.callback_requests().len(), looks(&vm)), (1, 1));
    }
}

/// A registry that takes the connection and never answers: the agent dies while it waits.
#[tokio::test]
async fn an_agent_that_carries_on_does_not_look_again() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/a:1", silent.local_addr().unwrap());
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(JOB, json!({"container": {"image": image}}));
    let mut agent = vm.start();
    vm.until_logged("pulling the image").await;
    agent.kill9().await;
    let agent = vm.start();
    vm.until_logged("carrying on").await;
    vm.cloud.set_attribute("job-cancel", "true");
    expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED"}));
    assert_eq!(looks(&vm), 1);
    assert!(docker::containers(&vm.container(1)).await.is_empty());
}
