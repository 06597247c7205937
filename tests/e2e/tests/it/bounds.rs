//! Every stop, timeout and exit is reported in bounded time, whatever the engine, a log driver or a shim does; what is left is
//! removed once the engine answers again, and nothing is reported twice.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Agent, DEADLINE, Fate, Gate, Kind, UNTIL_LET_GO, Vm, docker, expect, until};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const SLEEPS: &str = "echo up | tee /shared/starts; sleep 1000";
/// How long the agent waits for an engine, and for the confirmation of an exit.
const PATIENCE: &str = "15s";
/// With it, how long a report may take from the moment the job has to have ended: the drain of the log, and a busy machine.
const BOUND: Duration = Duration::from_mins(1);

fn start(vm: &Vm, gate: Option<&Gate>) -> Agent {
    let mut command = vm.command();
    command.args(["--engine-patience", PATIENCE]);
    if let Some(gate) = gate {
        command.args(["--docker-host", &gate.host()]);
    }
    vm.spawn(command)
}

/// The report as it comes in, with the engine still as it is.
async fn reported(vm: &Vm) -> Value {
    let callback = vm.cloud.next_accepted(DEADLINE).await.expect("a callback");
    serde_json::from_slice(&callback.body).unwrap()
}

/// What shims a container: the parent of its main process.
async fn containerd_shim(vm: &Vm) -> Pid {
    let main = docker::docker(&["inspect", "-f", "{{.State.Pid}}", &vm.container(1)]).await;
    parent_of(&main)
}

fn parent_of(pid: &str) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    Pid::from_raw(parent).unwrap()
}

fn is_running(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The shim of containerd stands still: nothing the engine is asked about the container is answered.
#[tokio::test]
async fn a_frozen_containerd_shim_holds_up_neither_a_timeout_nor_a_cancel_nor_an_exit() {
    let cases = [
        ("TIMEOUT", "json-file", json!({"timeout": "6s"}), SLEEPS.to_owned()),
        ("CANCELLED", "json-file", json!({}), SLEEPS.to_owned()),
        ("CANCELLED", "local", json!({}), SLEEPS.to_owned()),
        ("CONTAINER_LOST", "json-file", json!({}), format!("echo up | tee /shared/starts; {UNTIL_LET_GO}; exit 3")),
    ];
    let all = cases.map(async |(cause, driver, changes, script)| {
        let vm = Vm::with_docker().await?;
        vm.set_job(&script, merged(json!({"container": {"log_driver": driver}}), changes));
        let agent = start(&vm, None);
        vm.until_running().await;
        let shim = containerd_shim(&vm).await;
        kill_process(shim, Signal::STOP).unwrap();
        let began = Instant::now();
        match cause {
            "CANCELLED" => vm.cloud.set_attribute("job-cancel", "true"),
            "CONTAINER_LOST" => vm.let_go(),
            _ => {}
        }
        let report = reported(&vm).await;
        expect(&report, &json!({"cause": cause, "exit_code": null, "evidence": ["~ended"]}));
        expect(&report, &json!({"evidence": ["~the engine did not"], "logs": {"tail": "up\n"}}));
        assert!(began.elapsed() < BOUND, "{cause}: {:?}", began.elapsed());
        // It removes what is left once it can.
        kill_process(shim, Signal::CONT).unwrap();
        vm.finish(agent).await;
        Some(())
    });
    join_all(all).await;
}

fn merged(mut value: Value, changes: Value) -> Value {
    e2e::merge(&mut value, changes);
    value
}

/// A pause holds even a KILL back where control groups are of version 1, and a shim that stands still cannot end the pause.
#[tokio::test]
async fn a_paused_container_whose_shim_is_frozen_is_killed_at_the_stop_s_end() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(SLEEPS, json!({"grace": "2s"}));
    let agent = start(&vm, None);
    vm.until_running().await;
    let main = docker::docker(&["inspect", "-f", "{{.State.Pid}}", &vm.container(1)]).await;
    let shim = containerd_shim(&vm).await;
    docker::docker(&["pause", &vm.container(1)]).await;
    kill_process(shim, Signal::STOP).unwrap();
    vm.cloud.set_attribute("job-cancel", "true");
    expect(&reported(&vm).await, &json!({"cause": "CANCELLED", "exit_code": null, "evidence": ["~ended"]}));
    assert!(!is_running(&main), "{}", vm.logs());
    kill_process(shim, Signal::CONT).unwrap();
    vm.finish(agent).await;
}

/// A log driver that waits for a server that accepts and never reads: as the job ends, the engine holds the container's lock for it.
/// Where an engine tells of the exit all the same, the report has it.
#[tokio::test]
async fn a_log_driver_that_hangs_holds_up_no_report() {
    let cases = [
        ("TIMEOUT", "CONTAINER_LOST", json!({"timeout": "20s"}), "sleep 1000"),
        ("CONTAINER_LOST", "EXIT_CODE", json!({}), "exit 3"),
    ];
    let all = cases.map(async |(cause, other, changes, end)| {
        let vm = Vm::with_docker().await?;
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", server.local_addr().unwrap());
        let options = json!({"syslog-address": address, "mode": "non-blocking"});
        let container = json!({"container": {"log_driver": "syslog", "log_options": options}});
        vm.set_job(&format!("yes 123456789 | head -c 8000000; {end}"), merged(container, changes));
        let agent = start(&vm, None);
        vm.until_phase("RUNNING").await;
        let began = Instant::now();
        let report = reported(&vm).await;
        assert!(began.elapsed() < BOUND + Duration::from_secs(20), "{cause}: {:?}", began.elapsed());
        if report["exit_code"].is_null() {
            expect(&report, &json!({"cause": cause, "evidence": ["~the engine did not"]}));
        } else {
            assert!([cause, other].contains(&report["cause"].as_str().unwrap()), "{report:#}");
        }
        drop(server);
        vm.finish(agent).await;
        Some(())
    });
    join_all(all).await;
}

/// The engine answers about everything but this container. What it told of the end before that counts; where it told nothing, the
/// kernel's word is that there was an end.
#[tokio::test]
async fn an_engine_that_is_silent_about_one_container_holds_up_no_report() {
    let cases = [
        ("EXIT_CODE", json!(7), false, "exit 7"),
        ("CONTAINER_LOST", Value::Null, true, "exit 7"),
        ("CANCELLED", Value::Null, true, "sleep 1000"),
    ];
    let all = cases.map(async |(cause, code, is_deaf, end)| {
        let vm = Vm::with_docker().await?;
        vm.set_job(&format!("echo up | tee /shared/starts; {UNTIL_LET_GO}; {end}"), json!({}));
        let silent = Arc::new(AtomicBool::new(false));
        let is_silent = Arc::clone(&silent);
        let gate = Gate::open(vm.dir(), move |_, call| {
            let about_it = call.contains("/json") || call.contains("/kill") || call.contains("DELETE");
            let hears = call.contains("/events") || call.contains("/wait");
            let is_held = (is_silent.load(Ordering::Relaxed) && about_it) || (is_deaf && hears);
            if is_held { Fate::HoldBefore } else { Fate::Pass }
        });
        let agent = start(&vm, Some(&gate));
        vm.until_running().await;
        silent.store(true, Ordering::Relaxed);
        let began = Instant::now();
        if cause == "CANCELLED" {
            vm.cloud.set_attribute("job-cancel", "true");
        }
        vm.let_go();
        let report = reported(&vm).await;
        expect(&report, &json!({"cause": cause, "exit_code": code, "evidence": ["~the engine did not"]}));
        assert!(began.elapsed() < BOUND, "{cause}: {:?}", began.elapsed());
        silent.store(false, Ordering::Relaxed);
        vm.finish(agent).await;
        Some(())
    });
    join_all(all).await;
}

/// The same clock goes on in a restarted agent, which reports once, and the run after it removes what is left.
#[tokio::test]
async fn a_restarted_agent_keeps_the_clock_and_the_next_run_removes_what_is_left() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(SLEEPS, json!({}));
    let mut agent = start(&vm, None);
    vm.until_running().await;
    let shim = containerd_shim(&vm).await;
    kill_process(shim, Signal::STOP).unwrap();
    vm.cloud.set_attribute("job-cancel", "true");
    until("the end of the main process in the journal", async || vm.journal()["attempt"]["gone_since_boot_s"].as_f64())
        .await;
    let noted = vm.journal()["attempt"]["gone_since_boot_s"].clone();
    agent.kill9().await;
    vm.cloud.remove_attribute("job-cancel");
    let mut second = start(&vm, None);
    expect(&reported(&vm).await, &json!({"cause": "CANCELLED", "exit_code": null}));
    assert_eq!(vm.journal()["attempt"]["gone_since_boot_s"], noted);
    vm.until_phase("DELIVERED").await;
    second.kill9().await;
    kill_process(shim, Signal::CONT).unwrap();
    vm.run().await;
}

/// Refused signals are no loss of the engine. What it refuses, the agent does itself on the same clock.
#[tokio::test]
async fn a_signal_that_is_refused_is_no_loss_of_the_engine() {
    let cases = [
        ("/kill?signal=SIGTERM", 400, "Invalid signal: BOGUS"),
        ("/kill", 400, "Invalid signal: BOGUS"),
        ("/kill", 500, "tried to kill container, but did not receive an exit event"),
        ("/kill", 409, "Container x is not running"),
        ("/kill", 500, "can only kill running containers. x is in state paused: container state improper"),
    ];
    let all = cases.map(async |(call, status, words)| {
        let vm = Vm::with_docker().await?;
        vm.set_job(SLEEPS, json!({"timeout": "3s", "grace": "2s"}));
        let gate = Gate::open_but_for(vm.dir(), call, Fate::Refuse(status, words));
        let report = vm.finish(start(&vm, Some(&gate))).await;
        let told = if status == 409 || words.contains("paused") { "it does" } else { words };
        expect(&report, &json!({"cause": "TIMEOUT", "exit_code": 137, "evidence": [format!("~{told}")]}));
        assert!(!vm.logs().contains("lost the engine"), "{}", vm.logs());
        let lines = vm.logs().lines().count();
        assert!(lines < 60, "{lines} lines of log");
        Some(())
    });
    join_all(all).await;
}

/// After a 409 to the first signal the stop goes on.
#[tokio::test]
async fn a_conflict_at_the_first_signal_does_not_end_the_stop() {
    let Some(vm) = Vm::with_docker().await else { return };
    let script = "trap 'exit 9' TERM; echo up >/shared/starts; while :; do sleep 0.1; done";
    vm.set_job(script, json!({"grace": "60s"}));
    let gate = Gate::open_but_for_once(vm.dir(), "/kill", Fate::Refuse(409, "Container x is not running"));
    let agent = start(&vm, Some(&gate));
    vm.until_running().await;
    vm.cloud.set_attribute("job-cancel", "true");
    expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED", "exit_code": 9}));
}

/// A job that runs well is not cut, however long the engine is away; its own end then starts the clock.
#[tokio::test]
async fn a_job_that_runs_on_outlasts_an_engine_that_stays_away() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(&format!("echo up >/shared/starts; {UNTIL_LET_GO}; echo last; exit 7"), json!({}));
    let gate = Gate::open_to_all(vm.dir());
    let mut command = vm.command();
    command.args(["--docker-host", &gate.host(), "--engine-patience", "5s"]);
    let agent = vm.spawn(command);
    vm.until_running().await;
    drop(gate);
    vm.until_logged("lost the engine").await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(vm.cloud.accepted().len(), 0, "{}", vm.logs());
    vm.let_go();
    let report = reported(&vm).await;
    expect(&report, &json!({"cause": "ENGINE_UNAVAILABLE", "exit_code": null, "logs": {"tail": "last\n"}}));
    let _gate = Gate::open_to_all(vm.dir());
    vm.finish(agent).await;
}

/// A stop that comes while the engine is away is carried out without it.
#[tokio::test]
async fn a_stop_while_the_engine_is_away_still_asks_the_job_to_end() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(
        "trap 'echo bye; exit 9' TERM; echo up >/shared/starts; while :; do sleep 0.1; done",
        json!({"grace": "60s"}),
    );
    let gate = Gate::open_to_all(vm.dir());
    let agent = start(&vm, Some(&gate));
    vm.until_running().await;
    drop(gate);
    vm.until_logged("lost the engine").await;
    vm.cloud.set_attribute("job-cancel", "true");
    vm.until_logged("without the engine").await;
    docker::docker(&["wait", &vm.container(1)]).await;
    let _gate = Gate::open_to_all(vm.dir());
    expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED", "exit_code": 9, "logs": {"tail": "bye\n"}}));
}

/// A job of root stops its own shim, once or again and again.
#[tokio::test]
async fn a_job_that_stops_its_shim_is_ended_in_bounded_time() {
    let once = "kill -STOP $PPID";
    let ever = "while :; do kill -STOP $PPID; done & true";
    for (stop, cause, changes) in
        [(once, "TIMEOUT", json!({"timeout": "3s"})), (once, "CANCELLED", json!({})), (ever, "CANCELLED", json!({}))]
    {
        let Some(vm) = Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == Kind::Process) else { return };
        vm.set_job(&format!("echo up >/shared/starts; echo $$ >/shared/pid; {stop}; sleep 1000"), changes);
        let mut command = vm.command();
        command.args(["--engine-patience", PATIENCE]);
        let agent = vm.spawn(command);
        vm.until_started().await;
        let began = Instant::now();
        if cause == "CANCELLED" {
            vm.cloud.set_attribute("job-cancel", "true");
        }
        let report = vm.finish(agent).await;
        expect(&report, &json!({"cause": cause}));
        assert!(began.elapsed() < BOUND, "{cause}: {:?}", began.elapsed());
        assert!(!is_running(vm.shared("pid").trim()));
    }
}
