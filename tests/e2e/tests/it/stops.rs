//! Stops: each reason in each phase, told apart, with the grace that the job asked for.

use std::time::{Duration, Instant};

use e2e::{Agent, Vm, expect};
use futures_util::future::join_all;
use jiff::SignedDuration;
use rustix::process::Signal;
use serde_json::{Value, json};

const DEAF: &str = "trap '' TERM; echo up | tee /shared/starts; sleep 100";
const LISTENS: &str = "trap 'echo bye; exit 7' TERM; echo up | tee /shared/starts; while :; do sleep 0.1; done";

type Stop = fn(&Vm, &Agent);

fn cancel(vm: &Vm, _: &Agent) {
    vm.cloud.set_attribute("job-cancel", "true");
}

fn preempt(vm: &Vm, _: &Agent) {
    vm.cloud.set("instance/preempted", "TRUE");
}

fn terminate(_: &Vm, agent: &Agent) {
    agent.signal(Signal::TERM);
}

fn interrupt(_: &Vm, agent: &Agent) {
    agent.signal(Signal::INT);
}

/// As the power button of a preempted VM is pressed, both come.
fn preempt_and_terminate(vm: &Vm, agent: &Agent) {
    vm.cloud.set("instance/preempted", "TRUE");
    agent.signal(Signal::TERM);
}

const STOPS: [(&str, Stop); 5] = [
    ("CANCELLED", cancel),
    ("PREEMPTED", preempt),
    ("VM_SHUTDOWN", terminate),
    ("VM_SHUTDOWN", interrupt),
    ("PREEMPTED", preempt_and_terminate),
];

/// The reports of a job of each kind, stopped while it runs.
async fn stopped(script: &str, changes: Value, stop: Stop) -> Vec<Value> {
    let stop = async |vm: Vm| {
        vm.set_job(script, changes.clone());
        let agent = vm.start();
        vm.until_started().await;
        stop(&vm, &agent);
        vm.finish(agent).await
    };
    join_all(Vm::of_each_kind().await.into_iter().map(stop)).await
}

#[tokio::test]
async fn a_stop_gives_the_job_its_grace_and_has_its_cause() {
    for (cause, stop) in STOPS {
        for report in stopped(LISTENS, json!({"grace": "20s"}), stop).await {
            expect(&report, &json!({"cause": cause, "exit_code": 7, "signal": null, "logs": {"tail": "up\nbye\n"}}));
        }
    }
}

/// A preempted VM may be gone 11 s after the signal.
#[tokio::test]
async fn a_job_that_ends_at_a_preemption_is_reported_at_once() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("trap 'exit 7' TERM; echo up | tee /shared/starts; sleep 100 & wait", json!({}));
        let agent = vm.start();
        vm.until_running().await;
        let notice = Instant::now();
        vm.cloud.set("instance/preempted", "TRUE");
        vm.cloud.next_accepted(e2e::DEADLINE).await.expect("a callback");
        let took = notice.elapsed();
        println!("{:?}: the report came {} ms after the notice", vm.kind(), took.as_millis());
        assert!(took < Duration::from_secs(3), "{took:?}");
        expect(&vm.finish(agent).await, &json!({"cause": "PREEMPTED", "exit_code": 7}));
    }
}

#[tokio::test]
async fn a_job_that_does_not_listen_is_killed() {
    for (cause, stop) in STOPS {
        for report in stopped(DEAF, json!({"grace": "1s"}), stop).await {
            expect(&report, &json!({"cause": cause, "exit_code": 137, "signal": 9, "logs": {"tail": "up\n"}}));
            let run_s = report["durations_s"]["run"].as_f64().unwrap();
            assert!((1.0..20.0).contains(&run_s), "{cause}: {run_s}");
        }
    }
}

#[tokio::test]
async fn a_timeout_stops_the_job() {
    let cases = [
        (LISTENS, "20s", json!({"exit_code": 7, "signal": null, "logs": {"tail": "~bye"}})),
        (DEAF, "1s", json!({"exit_code": 137, "signal": 9})),
        (DEAF, "0s", json!({"exit_code": 137, "signal": 9})),
    ];
    for (script, grace, expected) in cases {
        for vm in Vm::of_each_kind().await {
            let report = vm.run_job(script, json!({"timeout": "5s", "grace": grace})).await;
            expect(&report, &json!({"cause": "TIMEOUT", "message": "~timeout", "fix": "~timeout"}));
            expect(&report, &expected);
            let run_s = report["durations_s"]["run"].as_f64().unwrap();
            assert!((5.0..25.0).contains(&run_s), "{run_s}");
        }
    }
}

#[tokio::test]
async fn a_success_after_a_stop_is_still_the_stop() {
    let script = "trap 'exit 0' TERM; echo up > /shared/starts; while :; do sleep 0.1; done";
    for report in stopped(script, json!({"grace": "20s"}), cancel).await {
        expect(&report, &json!({"cause": "CANCELLED", "state": "CANCELLED", "exit_code": 0}));
    }
}

#[tokio::test]
async fn the_first_reason_wins() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(
            "trap 'echo term >> /shared/terms' TERM; echo up > /shared/starts; while :; do sleep 0.1; done",
            json!({"grace": "3s"}),
        );
        let agent = vm.start();
        vm.until_started().await;
        cancel(&vm, &agent);
        vm.until_shared("terms").await;
        terminate(&vm, &agent);
        expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED", "exit_code": 137}));
    }
}

/// Asserts that a job which did not listen was killed so many seconds after its stop, so that the rest of a VM's last 30 is left.
pub(crate) fn assert_killed_within(vm: &Vm, seconds: i64) {
    let grace = vm.logged_at("killing the job").duration_since(vm.logged_at("asked to stop the job"));
    assert!(grace < SignedDuration::from_secs(seconds), "{grace:?}");
}

/// Whatever the grace, what is left of a Spot VM's 30 seconds is for the report.
#[tokio::test]
async fn a_long_grace_leaves_time_for_the_report() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(DEAF, json!({"grace": "1h"}));
        let agent = vm.start();
        vm.until_started().await;
        let notice = Instant::now();
        preempt(&vm, &agent);
        expect(&vm.finish(agent).await, &json!({"cause": "PREEMPTED", "exit_code": 137}));
        assert_killed_within(&vm, 22);
        let taken = vm.cloud.accepted()[0].at - notice;
        assert!(taken < Duration::from_secs(30), "{taken:?}");
    }
}

/// Before there is a container, while the engine is being waited for.
#[tokio::test]
async fn a_stop_is_heard_while_the_engine_is_waited_for() {
    for (cause, stop) in STOPS {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job(DEAF, json!({}));
        let mut command = vm.command();
        command.arg("--docker-host").arg(format!("unix://{}/none.sock", vm.dir().display()));
        let agent = vm.spawn(command);
        vm.until_logged("waiting for the Docker daemon").await;
        stop(&vm, &agent);
        expect(&vm.finish(agent).await, &json!({"cause": cause, "exit_code": null, "times": {"started_at": null}}));
        assert_eq!(vm.starts(), 0);
    }
}

#[tokio::test]
async fn a_job_cancelled_before_its_start_does_not_run() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_attribute("job-cancel", "TRUE");
        // The watch and the job race; held up, the job loses.
        vm.cloud.script_metadata("instance/machine-type", "pass+delay=1s".parse().unwrap());
        let report = vm.run_job("echo x > /shared/ran", json!({})).await;
        expect(&report, &json!({"cause": "CANCELLED", "exit_code": null, "durations_s": {"run": null}}));
        assert_eq!(vm.shared("ran"), "");
    }
}

/// Only `true` cancels.
#[tokio::test]
async fn another_value_of_job_cancel_is_none() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_attribute("job-cancel", "false");
        vm.set_job("echo up > /shared/starts; sleep 1", json!({}));
        let agent = vm.start();
        vm.until_started().await;
        vm.cloud.set_attribute("job-cancel", "");
        expect(&vm.finish(agent).await, &json!({"cause": "NONE"}));
    }
}

/// Who ended the job is written down before it is ended: a restarted agent knows.
#[tokio::test]
async fn a_stop_survives_a_crash() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(
            "trap 'echo term > /shared/term' TERM; echo up > /shared/starts; while :; do sleep 0.1; done",
            json!({"grace": "5s"}),
        );
        let mut agent = vm.start();
        vm.until_started().await;
        cancel(&vm, &agent);
        vm.until_shared("term").await;
        agent.kill9().await;
        vm.cloud.remove_attribute("job-cancel");
        expect(&vm.run().await, &json!({"cause": "CANCELLED", "exit_code": 137}));
    }
}
