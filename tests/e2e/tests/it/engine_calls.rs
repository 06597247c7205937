//! What happens at each of the agent's calls to the engine: it crashes, before the engine hears of it or after; the engine
//! hangs, and the job is to be stopped. The job runs once, and the report tells the truth.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::{Agent, Fate, Gate, UNTIL_LET_GO, Vm, docker, expect};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

const JOB: &str = "echo x >> /shared/starts; echo out; echo err >&2; printf last; exit 7";

/// Runs the agent until its call with this number, which then hangs. Without so many calls it runs to its end.
async fn hang_at(number: usize, fate: Fate, vm: &Vm) -> (Agent, Option<(Gate, String)>) {
    let mut gate = Gate::open(vm.dir(), move |at, _| if at == number { fate } else { Fate::Pass });
    let mut agent = vm.start_through(&gate);
    let call = tokio::select! {
        call = gate.stopped() => Some(call),
        status = agent.wait() => {
            assert_eq!(status, 0, "{}", agent.log());
            None
        }
    };
    (agent, call.map(|call| (gate, call)))
}

/// Crashes at the call with this number, recovers, and returns the call; `None` if there are fewer calls.
async fn crash_at(number: usize, fate: Fate) -> Option<String> {
    let vm = Vm::with_docker().await?;
    vm.set_job(JOB, json!({}));
    let (mut agent, held) = hang_at(number, fate, &vm).await;
    let call = held.map(|(_, call)| format!("{fate:?} {call}"));
    let report = if call.is_some() {
        agent.kill9().await;
        vm.run().await
    } else {
        vm.report().await
    };
    assert_eq!(vm.starts(), 1, "starts of the job, with a crash at {call:?}");
    expect(
        &report,
        &json!({"cause": "EXIT_CODE", "exit_code": 7, "job": {"attempt": 1},
                "logs": {"stdout_bytes": 8, "stderr_bytes": 4, "head": "~out\n", "tail": "~last"}}),
    );
    call
}

/// How many calls a job takes differs by a few, as its ended container is watched beside them: one life that has fewer is not the end.
async fn crash_at_every_call(fate: Fate) {
    let (mut calls, mut number, mut lives_without) = (Vec::new(), 0, 0);
    while lives_without < 3 {
        match crash_at(number, fate).await {
            Some(call) => {
                calls.push(call);
                lives_without = 0;
            }
            None => lives_without += 1,
        }
        number += 1;
    }
    if docker::is_there().await {
        for call in ["/containers/create", "/start", "/wait", "DELETE"] {
            assert!(calls.iter().any(|made| made.contains(call)), "{call} is not among {calls:#?}");
        }
    }
}

#[tokio::test]
async fn a_crash_before_any_call_to_the_engine_runs_the_job_once() {
    crash_at_every_call(Fate::HoldBefore).await;
}

#[tokio::test]
async fn a_crash_after_any_call_to_the_engine_runs_the_job_once() {
    crash_at_every_call(Fate::HoldAfter).await;
}

/// Whatever the engine hangs on, a cancelled job ends, is reported, and leaves nothing behind.
async fn stop_at(number: usize, fate: Fate) {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("sleep 3; exit 7", json!({"grace": "0s"}));
    let (agent, held) = hang_at(number, fate, &vm).await;
    let Some((_gate, call)) = held else { return };
    if vm.phase() == "DELIVERED" {
        // It is all over but for the tidying up, which does not wait for ever.
        return docker::remove(&vm.container(1)).await;
    }
    vm.cloud.set_attribute("job-cancel", "true");
    let report = vm.finish(agent).await;
    // It may have ended by itself before.
    let cause = report["cause"].as_str().unwrap_or_default();
    assert!(["CANCELLED", "EXIT_CODE"].contains(&cause), "stopped at {call}: {report:#}");
    assert!(cause == "CANCELLED" || report["exit_code"] == 7, "stopped at {call}: {report:#}");
}

#[tokio::test]
async fn a_stop_is_heard_whatever_the_engine_hangs_on() {
    if !docker::is_there().await {
        return;
    }
    let everywhere = (0..14).flat_map(|number| [(number, Fate::HoldBefore), (number, Fate::HoldAfter)]);
    join_all(everywhere.map(|(number, fate)| stop_at(number, fate))).await;
}

/// One call whose answer never comes costs the job some seconds: what changes nothing is asked again, and of what changes something a
/// look tells whether it was done.
#[tokio::test]
async fn one_call_that_hangs_costs_no_job() {
    let calls = ["/version", "/images/", "/containers/vmjob-", "/info", "/attach", "/wait", "/events", "/start"];
    let held = calls.iter().flat_map(|call| [(*call, Fate::HoldBefore), (*call, Fate::HoldAfter)]);
    let all = held.chain([("/create", Fate::HoldAfter)]).map(async |(call, fate)| {
        let vm = Vm::with_docker().await?;
        vm.set_job(&format!("{JOB}; sleep 1"), json!({"container": {"log_driver": "local"}}));
        let gate = Gate::open_but_for_once(vm.dir(), call, fate);
        let mut command = vm.command();
        command.args(["--docker-host", &gate.host(), "--engine-patience", "20s"]);
        let began = Instant::now();
        let report = vm.finish(vm.spawn(command)).await;
        assert_eq!(report["cause"], "EXIT_CODE", "{fate:?} {call}: {report:#}");
        assert_eq!(vm.starts(), 1, "{fate:?} {call}");
        assert!(began.elapsed() < Duration::from_mins(1), "{fate:?} {call}: {:?}", began.elapsed());
        Some(())
    });
    join_all(all).await;
}

/// An engine that is slow with all that it is asked runs the job all the same.
#[tokio::test]
async fn an_engine_that_answers_late_runs_the_job() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(JOB, json!({}));
    let gate = Gate::open(vm.dir(), |_, call| {
        if call.contains("/containers/vmjob-") { Fate::Late(Duration::from_secs(20)) } else { Fate::Pass }
    });
    expect(&vm.finish(vm.start_through(&gate)).await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
    assert_eq!(vm.starts(), 1);
}

/// An agent that dies while a call of its hangs, which lives on as long as what is returned.
async fn dies_at(vm: &Vm, call: &'static str, fate: Fate) -> Gate {
    let mut gate = Gate::open_but_for(vm.dir(), call, fate);
    let mut agent = vm.start_through(&gate);
    gate.stopped().await;
    agent.kill9().await;
    gate
}

/// The agent dies, its call lives on: when the next agent looks, the container is not there yet, and then it is.
#[tokio::test]
async fn a_container_that_is_made_while_the_next_agent_looks_for_it_is_its_own() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(JOB, json!({}));
    let _held = dies_at(&vm, "/create", Fate::HoldAfter).await;

    let gate = Gate::open_but_for_once(vm.dir(), "/containers/vmjob-", Fate::Refuse(404, "No such container"));
    expect(&vm.finish(vm.start_through(&gate)).await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
    assert_eq!(vm.starts(), 1);
}

/// Docker from 25 on gives a start up when nobody waits for it any more, and notes that as the container's error.
#[tokio::test]
async fn a_start_that_the_engine_gave_up_with_a_dead_agent_is_asked_for_again() {
    for error in ["context canceled", "Canceled: context canceled"] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job(JOB, json!({}));
        let _held = dies_at(&vm, "/start", Fate::HoldBefore).await;

        let inspected = docker::docker(&["inspect", &vm.container(1)]).await;
        let mut found: Vec<Value> = serde_json::from_str(&inspected).unwrap();
        let mut found = found.remove(0);
        e2e::merge(&mut found["State"], json!({"Error": error, "ExitCode": 127}));
        let call: &str = format!("/containers/{}/json", found["Id"].as_str().unwrap()).leak();
        let gate = Gate::open_but_for_once(vm.dir(), call, Fate::Answer(found.to_string().leak()));
        expect(&vm.finish(vm.start_through(&gate)).await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
        assert_eq!(vm.starts(), 1);
    }
}

/// Both with 500 and in words of its own: that the name is taken, and that what is to be killed has ended.
#[tokio::test]
async fn what_podman_says_of_conflicts_is_understood() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(JOB, json!({}));
    let taken =
        Fate::Refuse(500, "creating container storage: the container name is taken: that name is already in use");
    let gate = Gate::open_but_for_once(vm.dir(), "/containers/create", taken);
    expect(&vm.finish(vm.start_through(&gate)).await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));

    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(&format!("echo x >> /shared/starts; {UNTIL_LET_GO}; exit 7"), json!({}));
    let late = Fate::Refuse(500, "can only kill running containers. 0 is in state exited: container state improper");
    let gate = Gate::open_but_for(vm.dir(), "/kill", late);
    let agent = vm.start_through(&gate);
    vm.until_running().await;
    vm.cloud.set_attribute("job-cancel", "true");
    vm.until_logged("stopping").await;
    vm.let_go();
    expect(&vm.finish(agent).await, &json!({"exit_code": 7}));
    assert!(!vm.logs().contains("lost the engine"), "{}", vm.logs());
}

/// Podman's answer to a wait for a container that is removed: the 0 in it is nobody's exit code.
#[tokio::test]
async fn a_wait_that_ends_with_an_error_is_no_exit() {
    const ANSWER: &str = r#"{"StatusCode": 0, "Error": {"Message": "container has already been removed"}}"#;
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("echo x >> /shared/starts; sleep 100", json!({}));
    let gate = Gate::open(vm.dir(), |_, call| match call {
        call if call.contains("/wait") => Fate::Answer(ANSWER),
        // Which tell how it ended.
        call if call.contains("/events") => Fate::Refuse(404, "there are none"),
        _ => Fate::Pass,
    });
    let agent = vm.start_through(&gate);
    vm.until_running().await;
    docker::remove(&vm.container(1)).await;
    let report = vm.finish(agent).await;
    // A removal kills first, and the agent may have seen that.
    assert!(report["cause"] == "CONTAINER_LOST" || report["exit_code"] == 137, "{report:#}");
}

/// Most paths are bollard's, which leaves the version out whatever was negotiated: an upgrade of it that does otherwise shows here. Ours
/// have the engine's version, or the newest that bollard knows.
#[tokio::test]
async fn the_paths_of_the_calls_are_those_that_are_known() {
    const NEWEST_KNOWN: u32 = 53;
    let Some(vm) = Vm::with_docker().await else { return };
    let (sender, mut calls) = unbounded_channel();
    let gate = Gate::open(vm.dir(), move |_, call| {
        let _ = sender.send(call.to_owned());
        Fate::Pass
    });
    vm.set_job(JOB, json!({}));
    expect(&vm.finish(vm.start_through(&gate)).await, &json!({"exit_code": 7}));
    drop(gate);
    let mut seen = BTreeSet::new();
    while let Ok(call) = calls.try_recv() {
        let (path, _) = call.split_once('?').unwrap_or((&call, ""));
        let part = |part: &str| match part {
            name if name == vm.container(1) => "NAME".to_owned(),
            id if id.len() == 64 => "ID".to_owned(),
            other => other.to_owned(),
        };
        seen.insert(path.split('/').map(part).collect::<Vec<_>>().join("/"));
    }
    let engine = docker::docker(&["version", "--format", "{{.Server.APIVersion}}"]).await;
    let minor = engine.strip_prefix("1.").and_then(|minor| minor.parse::<u32>().ok()).expect("an API version");
    let ours = |call: &str| call.replace('V', &format!("v1.{}", minor.min(NEWEST_KNOWN)));
    let always = [
        "GET /version",
        "GET /V/info",
        "GET /V/images/vmjob/busybox:test/json",
        "GET /V/containers/NAME/json",
        "GET /V/containers/json",
        "GET /V/containers/ID/json",
        "POST /containers/create",
        "POST /containers/ID/start",
        "POST /containers/ID/wait",
        "GET /events",
        "DELETE /containers/ID",
    ];
    // Where the engine keeps no file that can be read.
    let of_streams = ["POST /containers/ID/attach", "GET /containers/ID/logs"];
    seen.retain(|call| !of_streams.contains(&call.as_str()));
    assert_eq!(seen, always.map(ours).into());
}
