//! Getting the report out: what each answer of the callback endpoint leads to.

use std::time::Duration;

use e2e::{Vm, expect, until};
use fakecloud::{Answer, Config, Recorded};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// A VM whose job is over before it begins: delivery is all there is. `give_up_after` is left to the default.
async fn vm() -> Vm {
    let vm = Vm::without_docker(Config::default()).await;
    vm.cloud.set_attribute("job-spec", "{}");
    vm
}

/// The same, with a job that sets how long to try.
async fn impatient_vm(give_up_after: &str) -> Vm {
    let vm = Vm::without_docker(Config::default()).await;
    vm.set_job("true", json!({"callback": {"give_up_after": give_up_after}}));
    vm
}

/// Runs an agent that does not deliver, and returns why not, as the journal has it.
async fn gives_up(vm: &Vm) -> String {
    let mut agent = vm.start();
    assert_eq!(agent.wait().await, 75, "{}", agent.log());
    assert!(vm.cloud.accepted().is_empty());
    assert_eq!(vm.phase(), "DELIVERED");
    vm.written_report();
    vm.check_remains().await;
    let why = vm.journal()["delivery"]["end"]["gave_up"].as_str().unwrap_or_default().to_owned();
    assert!(agent.log().contains(&why), "{}", agent.log());
    why
}

fn tries(vm: &Vm) -> Vec<Recorded> {
    vm.cloud.callback_requests()
}

#[tokio::test]
async fn what_may_pass_is_tried_again_until_it_has() {
    let cases = [
        ("", 1),
        ("503*3", 4),
        ("500,502,504,429", 5),
        ("408", 2),
        ("reset*2", 3),
        ("garbage", 2),
        ("pass+delay=3s", 1),
        ("302+Location:http://127.0.0.1:1/", 2),
    ];
    let all = cases.map(async |(script, count)| {
        let vm = vm().await;
        vm.cloud.script_callback(script.parse().unwrap());
        vm.run().await;
        assert_eq!(tries(&vm).len(), count, "{script}");
    });
    join_all(all).await;
}

/// The endpoint queues one payload and refuses the next, so a refusal says that the first has come.
#[tokio::test]
async fn a_report_whose_answer_was_lost_is_not_sent_twice() {
    let all = ["reset-after", "503,reset-after,503", "hang-after", "truncate"].map(async |script| {
        let vm = vm().await;
        vm.cloud.script_callback(script.parse().unwrap());
        vm.run().await;
    });
    join_all(all).await;
}

#[tokio::test]
async fn a_refused_token_is_replaced_by_a_fresh_one() {
    let vm = vm().await;
    vm.cloud.script_callback("503+retry-after=10".parse().unwrap());
    let agent = vm.start();
    until("the first try", async || tries(&vm).first().filter(|first| first.answer != Answer::Pending).map(drop)).await;
    vm.cloud.revoke_tokens();
    vm.finish(agent).await;
    let tokens = vm.tokens();
    assert_ne!(tokens.first(), tokens.last());

    let vm = self::vm().await;
    vm.cloud.script_callback("401".parse().unwrap());
    vm.run().await;
    assert_eq!(tries(&vm).len(), 2);
}

#[tokio::test]
async fn the_endpoint_says_how_long_to_wait() {
    let date = |s: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(s);
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
    };
    let all = ["3".to_owned(), date(4)].map(async |wait| {
        let vm = vm().await;
        // A comma separates steps, so the date comes as a step of its own making; it is taken by the endpoint's clock.
        let headers = vec![("Date".to_owned(), date(0)), ("Retry-After".to_owned(), wait.clone())];
        let action = fakecloud::Action::Answer { status: 503, headers, body: Vec::new() };
        vm.cloud.script_callback([fakecloud::Step::from(action)].into_iter().collect());
        vm.run().await;
        let pause = tries(&vm)[1].at - tries(&vm)[0].at;
        assert!(pause >= Duration::from_millis(2500), "{wait}: {pause:?}");
    });
    join_all(all).await;
}

#[tokio::test]
async fn what_will_never_be_taken_is_given_up_and_explained() {
    let cases = [("404", "execution is over"), ("410", "execution is over"), ("405", "http_callback_method: POST")];
    let all = cases.map(async |(script, words)| {
        let vm = vm().await;
        vm.cloud.script_callback(script.parse().unwrap());
        let why = gives_up(&vm).await;
        assert!(why.contains(words) && why.contains(script), "{script}: {why}");
        assert_eq!(tries(&vm).len(), 1, "{script}");

        // Started again it has nothing to do.
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 75);
        assert_eq!(tries(&vm).len(), 1, "{script}");
    });
    join_all(all).await;
}

#[tokio::test]
async fn an_execution_that_ended_or_an_endpoint_for_another_method_is_explained() {
    let vm = vm().await;
    vm.cloud.end_execution();
    assert!(gives_up(&vm).await.contains("execution is over"));

    let get = Config { callback_method: "GET".into(), ..Config::default() };
    let vm = Vm::without_docker(get).await;
    vm.cloud.set_attribute("job-spec", "{}");
    assert!(gives_up(&vm).await.contains("http_callback_method: POST"));
}

#[tokio::test]
async fn a_report_that_is_too_large_goes_without_its_log() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.set_callback_max_bytes(8 << 10);
    let report = vm.run_job("seq 10000; exit 3", json!({})).await;
    expect(
        &report,
        &json!({"cause": "EXIT_CODE", "logs": {"stdout_bytes": 48_894, "head": "", "tail": "", "errors": []}}),
    );
    assert_eq!(tries(&vm).len(), 2);

    for (script, job) in
        [("413*2", "echo text"), ("400*2", "echo text"), ("413,503,400", "echo text"), ("400*2", "true")]
    {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.cloud.script_callback(script.parse().unwrap());
        vm.set_job(job, json!({}));
        let why = gives_up(&vm).await;
        assert!(why.contains("also without log texts"), "{why}");
        assert_eq!(tries(&vm).len(), script.split([',', '*']).count().max(2), "{script}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_for_a_while_gets_the_report_later() {
    let vm = vm().await;
    vm.cloud.callback_down(true).await.unwrap();
    let agent = vm.start();
    vm.until_logged("the report is not out yet").await;
    vm.cloud.callback_down(false).await.unwrap();
    vm.finish(agent).await;
}

/// A VM that goes down takes its agent with it, the report undelivered; the next boot's agent delivers it.
#[tokio::test]
async fn what_is_not_out_when_the_vm_ends_is_left_to_the_next_run() {
    let vm = vm().await;
    vm.cloud.callback_down(true).await.unwrap();
    let mut agent = vm.start();
    vm.until_logged("the report is not out yet").await;
    vm.cloud.set("instance/preempted", "TRUE");
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.wait().await, 75, "{}", agent.log());
    assert_eq!(vm.phase(), "EXITED");
    vm.cloud.callback_down(false).await.unwrap();
    vm.run().await;
}

#[tokio::test]
async fn there_is_an_end_to_trying() {
    let all = ["503*100", "reset*100", "401*100", "503+retry-after=3600"].map(async |script| {
        let vm = impatient_vm("10s").await;
        vm.cloud.script_callback(script.parse().unwrap());
        // The last try is made however long the endpoint asks to wait.
        vm.cloud.script_callback("503".parse().unwrap());
        let why = gives_up(&vm).await;
        assert!(why.contains("tries in"), "{script}: {why}");
        assert!(tries(&vm).len() >= 2, "{script}");
    });
    join_all(all).await;
}

#[tokio::test]
async fn a_missing_permission_is_named_with_its_role() {
    let vm = impatient_vm("1s").await;
    vm.cloud.set_permission(false);
    let why = gives_up(&vm).await;
    assert!(why.contains("403") && why.contains("roles/workflows.invoker") && why.contains("cloud-platform"), "{why}");
}

#[tokio::test]
async fn a_vm_without_a_service_account_is_explained() {
    let vm = Vm::without_docker(Config { service_account: None, ..Config::default() }).await;
    vm.cloud.set_attribute("job-spec", "{}");
    let why = gives_up(&vm).await;
    assert!(why.contains("service account"), "{why}");
}

#[tokio::test]
async fn the_token_goes_to_no_stranger() {
    let cases = [
        ("https://example.com/callback", "--callback-allow example.com"),
        ("https://workflowexecutions.googleapis.com.example.com/", "stranger"),
        ("http://workflowexecutions.googleapis.com/v1/x", "https"),
        ("gopher://127.0.0.1/", "https"),
        ("not a URL", "no URL"),
    ];
    for (url, words) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.cloud.set_attribute("callback-url", url);
        vm.set_job("echo x > /shared/ran", json!({}));
        let why = gives_up(&vm).await;
        assert!(why.contains(words), "{url}: {why}");
        let report: Value = serde_json::from_str(&vm.written_report()).unwrap();
        expect(&report, &json!({"cause": "INVALID_SPEC", "exit_code": null}));
        assert_eq!(vm.shared("ran"), "", "the job ran before the URL was checked");
    }
}

#[tokio::test]
async fn a_job_without_a_callback_runs_all_the_same() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.remove_attribute("callback-url");
        vm.set_job("echo hello", json!({}));
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        assert!(agent.log().contains("callback-url"), "a warning: {}", agent.log());
        let report: Value = serde_json::from_str(&vm.written_report()).unwrap();
        expect(&report, &json!({"cause": "NONE", "logs": {"tail": "hello\n"}}));
        vm.check_remains().await;
        assert!(tries(&vm).is_empty());
    }
}

#[tokio::test]
async fn the_token_stands_in_no_argument_and_no_variable() {
    let vm = vm().await;
    vm.cloud.script_callback("hang".parse().unwrap());
    let mut agent = vm.start();
    until("the callback", async || tries(&vm).first().map(drop)).await;
    let token = vm.tokens().remove(0);
    for file in ["cmdline", "environ"] {
        let text = std::fs::read(format!("/proc/{}/{file}", agent.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(&token), "{file}");
    }
    agent.kill9().await;
    vm.check_remains().await;
}

#[tokio::test]
async fn a_job_may_want_an_identity_token_or_none() {
    // The fake endpoint wants an access token, as the real one does: it is enough to see what was sent.
    let cases =
        [(json!({"auth": "id_token", "audience": "https://aud.example"}), Some(2)), (json!({"auth": "none"}), None)];
    for (auth, dots) in cases {
        let vm = Vm::without_docker(Config::default()).await;
        vm.cloud.script_callback("204".parse().unwrap());
        vm.set_job("true", json!({"callback": auth}));
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        let token = tries(&vm)[0].header("authorization").map(|token| token.matches('.').count());
        assert_eq!(token, dots);
    }
}
