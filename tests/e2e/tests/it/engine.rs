//! An engine that is not there, comes late, goes away under the job, or has no room left.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Fate, Gate, UNTIL_LET_GO, Vm, docker, expect, until};
use fakecloud::Config;
use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};

const TALKS: &str = "echo x >> /shared/starts; for i in $(seq 30); do echo line $i; echo err $i >&2; sleep 0.1; done";

#[tokio::test]
async fn an_engine_that_is_not_there_is_waited_for_and_then_reported() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.set_job("true", json!({}));
    expect(
        &vm.run().await,
        &json!({"cause": "ENGINE_UNAVAILABLE", "exit_code": null, "message": "~/no/such/docker.sock", "fix": "~Docker"}),
    );
}

#[tokio::test]
async fn an_engine_that_comes_late_runs_the_job() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("exit 7", json!({}));
    let socket = vm.dir().join("late.sock");
    let mut command = vm.command();
    command.arg("--docker-host").arg(format!("unix://{}", socket.display()));
    let agent = vm.spawn(command);
    vm.until_logged("waiting for the Docker daemon").await;
    symlink(docker::host().trim_start_matches("unix://"), &socket).unwrap();
    expect(&vm.finish(agent).await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
}

/// The daemon restarts with live-restore: the job runs on, and not a byte is lost.
#[tokio::test]
async fn an_engine_that_is_away_for_a_while_does_not_end_the_job() {
    for driver in ["json-file", "local"] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job(&format!("{TALKS}; {UNTIL_LET_GO}; exit 7"), json!({"container": {"log_driver": driver}}));
        let gate = Gate::open_to_all(vm.dir());
        let agent = vm.start_through(&gate);
        vm.until_running().await;
        drop(gate);
        vm.until_logged("lost the engine").await;
        let _gate = Gate::open_to_all(vm.dir());
        vm.let_go();
        let report = vm.finish(agent).await;
        expect(
            &report,
            &json!({"cause": "EXIT_CODE", "exit_code": 7,
                    "logs": {"stdout_bytes": 231, "stderr_bytes": 201, "stdout_lines": 30, "stderr_lines": 30}}),
        );
        assert_eq!(vm.starts(), 1, "{driver}");
    }
}

/// The daemon goes down and takes the job with it: that is not the job's own end.
#[tokio::test]
async fn an_engine_that_takes_the_job_with_it_is_to_blame() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("echo x >> /shared/starts; sleep 100", json!({}));
    let gate = Gate::open_to_all(vm.dir());
    let agent = vm.start_through(&gate);
    vm.until_running().await;
    drop(gate);
    vm.until_logged("lost the engine").await;
    docker::docker(&["kill", &vm.container(1)]).await;
    docker::docker(&["wait", &vm.container(1)]).await;
    let _gate = Gate::open_to_all(vm.dir());
    expect(&vm.finish(agent).await, &json!({"cause": "ENGINE_RESTARTED", "evidence": ["~the engine"]}));
}

/// An exit of the job's own while the daemon is away is the job's own.
#[tokio::test]
async fn a_job_that_ends_while_the_engine_is_away_keeps_its_exit() {
    for (code, cause) in [(0, "NONE"), (7, "EXIT_CODE")] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job(&format!("echo x >> /shared/starts; {UNTIL_LET_GO}; exit {code}"), json!({}));
        let gate = Gate::open_to_all(vm.dir());
        let agent = vm.start_through(&gate);
        vm.until_running().await;
        drop(gate);
        vm.until_logged("lost the engine").await;
        vm.let_go();
        docker::docker(&["wait", &vm.container(1)]).await;
        let _gate = Gate::open_to_all(vm.dir());
        expect(&vm.finish(agent).await, &json!({"cause": cause, "exit_code": code}));
    }
}

/// The engine goes away for good. A job that is seen to run on is waited for as long as its timeout lets it; its end, a stop and a
/// timeout are reported without the engine.
#[tokio::test]
async fn an_engine_that_never_comes_back_is_reported() {
    let cases = [
        ("ENGINE_UNAVAILABLE", json!({})),
        ("TIMEOUT", json!({"timeout": "12s"})),
        ("CANCELLED", json!({})),
        ("PREEMPTED", json!({})),
        ("VM_SHUTDOWN", json!({})),
    ];
    let all = cases.map(async |(cause, changes)| {
        let vm = Vm::with_docker().await?;
        vm.set_job(&format!("echo x >> /shared/starts; {UNTIL_LET_GO}; exit 7"), changes);
        let gate = Gate::open_to_all(vm.dir());
        let mut command = vm.command();
        // Long enough for a busy engine to answer before it goes.
        command.args(["--docker-host", &gate.host(), "--engine-patience", "10s"]);
        let mut agent = vm.spawn(command);
        vm.until_running().await;
        let main = docker::docker(&["inspect", "-f", "{{.State.Pid}}", &vm.container(1)]).await;
        drop(gate);
        vm.until_logged("lost the engine").await;
        let began = Instant::now();
        match cause {
            "ENGINE_UNAVAILABLE" => vm.let_go(),
            "CANCELLED" => vm.cloud.set_attribute("job-cancel", "true"),
            "PREEMPTED" => vm.cloud.set("instance/preempted", "TRUE"),
            "VM_SHUTDOWN" => agent.signal(Signal::TERM),
            _ => {}
        }
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        assert!(began.elapsed() < Duration::from_mins(1), "{cause}: {:?}", began.elapsed());
        let report: Value = serde_json::from_slice(&vm.cloud.accepted()[0].body).unwrap();
        expect(&report, &json!({"cause": cause, "exit_code": null, "evidence": ["~ended"]}));
        expect(&report, &json!({"evidence": ["~the engine did not answer"]}));
        let stat = std::fs::read_to_string(format!("/proc/{main}/stat"));
        assert!(stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")), "{cause}: the job runs on");
        docker::remove(&vm.container(1)).await;
        Some(())
    });
    join_all(all).await;
}

/// The same where the job's process was never seen: nothing can tell whether it runs.
#[tokio::test]
async fn an_engine_that_never_comes_back_and_whose_job_was_not_seen_is_reported() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("echo x >> /shared/starts", json!({}));
    let mut gate = Gate::open_but_for(vm.dir(), "/wait", Fate::Cut);
    let mut command = vm.command();
    command.args(["--docker-host", &gate.host(), "--engine-patience", "5s"]);
    let mut agent = vm.spawn(command);
    gate.stopped().await;
    drop(gate);
    assert_eq!(agent.wait().await, 0, "{}", agent.log());
    let report: Value = serde_json::from_slice(&vm.cloud.accepted()[0].body).unwrap();
    expect(&report, &json!({"cause": "ENGINE_UNAVAILABLE", "exit_code": null}));
    docker::remove(&vm.container(1)).await;
}

/// A daemon that is there and hangs is not one to be installed.
#[tokio::test]
async fn an_engine_that_takes_calls_and_answers_none_is_said_to() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.set_job("true", json!({}));
    let gate = Gate::open(vm.dir(), |_, _| Fate::HoldBefore);
    let mut command = vm.command();
    command.args(["--docker-host", &gate.host(), "--engine-patience", "5s"]);
    expect(
        &vm.finish(vm.spawn(command)).await,
        &json!({"cause": "ENGINE_UNAVAILABLE", "message": "~answers no call within", "fix": "~hangs"}),
    );
}

/// An engine that answers nothing any more must not cost a preempted VM its report: of its 30 seconds some are left.
#[tokio::test]
async fn a_frozen_engine_does_not_keep_the_report_back() {
    if !docker::is_there().await {
        return;
    }
    let cases = [("json-file", true), ("json-file", false), ("local", true), ("local", false)];
    let all = cases.map(async |(driver, at_once)| {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job("echo x | tee /shared/starts; sleep 100", json!({"container": {"log_driver": driver}}));
        let frozen = Arc::new(AtomicBool::new(false));
        let gate = freezing_gate(&vm, at_once, Arc::clone(&frozen));
        let mut agent = vm.start_through(&gate);
        vm.until_running().await;
        if !at_once {
            until("the log", async || agent.stdout().contains('x').then_some(())).await;
        }
        frozen.store(true, Ordering::Relaxed);
        let notice = Instant::now();
        vm.cloud.set("instance/preempted", "TRUE");
        let callback = vm.cloud.next_accepted(e2e::DEADLINE).await.expect("a callback");
        assert!(notice.elapsed() < Duration::from_secs(30), "{driver} {at_once}: {:?}", notice.elapsed());
        let report: Value = serde_json::from_slice(&callback.body).unwrap();
        expect(&report, &json!({"cause": "PREEMPTED", "exit_code": null}));
        agent.kill9().await;
        docker::remove(&vm.container(1)).await;
    });
    join_all(all).await;
}

/// A gate that holds all calls once `frozen` is set, or `at_once` when the agent has seen the job started.
fn freezing_gate(vm: &Vm, at_once: bool, frozen: Arc<AtomicBool>) -> Gate {
    let is_started = AtomicBool::new(false);
    Gate::open(vm.dir(), move |_, call| {
        let fate = if frozen.load(Ordering::Relaxed) { Fate::HoldBefore } else { Fate::Pass };
        if at_once && is_started.fetch_or(call.contains("/start"), Ordering::Relaxed) {
            frozen.store(true, Ordering::Relaxed);
        }
        fate
    })
}

/// What an engine answers in trouble, at which call, and what that is for the job.
#[tokio::test]
async fn what_an_engine_answers_in_trouble_has_its_cause() {
    const FULL: &str = "write /var/lib/docker/overlay2/x: no space left on device";
    let cases = [
        ("/containers/create", 500, FULL, "DISK_FULL"),
        ("/start", 500, FULL, "DISK_FULL"),
        ("/images/create", 500, FULL, "DISK_FULL"),
        ("/containers/create", 500, "something is odd", "CREATE_FAILED"),
        ("/containers/create", 400, "invalid mount config", "CREATE_FAILED"),
        ("/start", 500, "OCI runtime create failed", "START_FAILED"),
        ("/images/create", 404, "manifest unknown", "IMAGE_NOT_FOUND"),
        ("/images/create", 500, "Get https://r/v2/: unauthorized: authentication required", "IMAGE_DENIED"),
        ("/images/create", 404, "pull access denied for x, repository does not exist", "IMAGE_DENIED"),
    ];
    for (call, status, message, cause) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job(
            "echo x >> /shared/starts",
            json!({"container": {"pull": if call.contains("images") { "always" } else { "never" }}}),
        );
        let gate = Gate::open_but_for(vm.dir(), call, Fate::Refuse(status, message));
        let report = vm.finish(vm.start_through(&gate)).await;
        expect(&report, &json!({"cause": cause, "exit_code": null, "message": format!("~{message}")}));
        assert_eq!(vm.starts(), 0, "{call} {status}");
    }
}

/// An engine that contradicts itself, or refuses to wait, holds no report up and costs no exit code.
#[tokio::test]
async fn an_engine_that_always_refuses_to_wait_or_to_start_is_reported() {
    let cases = [("/wait", 500, "EXIT_CODE", json!(7)), ("/start", 304, "START_FAILED", Value::Null)];
    for (call, status, cause, code) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job("echo x >> /shared/starts; sleep 2; exit 7", json!({}));
        let gate = Gate::open_but_for(vm.dir(), call, Fate::Refuse(status, "odd words"));
        let began = Instant::now();
        let report = vm.finish(vm.start_through(&gate)).await;
        expect(&report, &json!({"cause": cause, "exit_code": code}));
        assert!(began.elapsed() < Duration::from_secs(45), "{call} {status}: {:?}", began.elapsed());
    }
}

/// One call that fails for a moment does not cost the job.
#[tokio::test]
async fn an_engine_that_stumbles_once_loses_no_job() {
    for call in ["/version", "/wait", "/events", "/info", "/json"] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job("echo x >> /shared/starts; sleep 1; exit 7", json!({}));
        let gate = Gate::open_but_for_once(vm.dir(), call, Fate::Refuse(500, "a stumble"));
        expect(&vm.finish(vm.start_through(&gate)).await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
        assert_eq!(vm.starts(), 1, "{call}");
    }
}
