//! Restarts of the agent, asked for or not: the next run goes on, and the job never notices.

use std::fs;
use std::time::Duration;

use e2e::{UNTIL_LET_GO, Vm, docker, expect, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Counts its own starts, talks for a while, and exits with 7 once it may.
fn talks() -> String {
    let talk = "for i in $(seq 40); do echo line $i; echo err $i >&2; sleep 0.1; done";
    format!("echo x >> /shared/starts; {talk}; {UNTIL_LET_GO}; exit 7")
}

fn talked() -> Value {
    json!({
        "cause": "EXIT_CODE", "exit_code": 7, "job": {"attempt": 1},
        "logs": {"stdout_bytes": 311, "stdout_lines": 40, "stderr_bytes": 271, "stderr_lines": 40, "tail": "~err 40\n"},
    })
}

#[tokio::test]
async fn killed_again_and_again_it_still_tells_the_truth() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(&talks(), json!({}));
        for pause_ms in [0, 20, 100, 300, 700, 50, 900] {
            let mut agent = vm.start();
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            agent.kill9().await;
        }
        vm.let_go();
        expect(&vm.run().await, &talked());
        assert_eq!(vm.starts(), 1);
    }
}

#[tokio::test]
async fn a_job_that_ends_while_no_agent_runs_is_reported_whole() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(&talks(), json!({}));
        let mut agent = vm.start();
        vm.until_running().await;
        agent.kill9().await;
        vm.let_go();
        vm.until_job_ended().await;
        expect(&vm.run().await, &talked());
        assert_eq!(vm.starts(), 1);
    }
}

#[tokio::test]
async fn a_hangup_leaves_the_job_to_the_next_run() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(&talks(), json!({}));
        let mut agent = vm.start();
        vm.until_running().await;
        agent.signal(Signal::HUP);
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        assert_eq!(vm.phase(), "RUNNING");
        assert!(vm.job_runs().await);
        assert!(vm.cloud.callback_requests().is_empty());
        vm.let_go();
        expect(&vm.run().await, &talked());
        assert_eq!(vm.starts(), 1);
    }
}

/// With a fresh 20 s the job would run for 35.
#[tokio::test]
async fn a_restart_does_not_reset_the_timeout() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("trap '' TERM; echo up > /shared/starts; sleep 100", json!({"timeout": "20s", "grace": "0s"}));
        let mut agent = vm.start();
        vm.until_running().await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        agent.kill9().await;
        let report = vm.run().await;
        expect(&report, &json!({"cause": "TIMEOUT", "exit_code": 137}));
        let run_s = report["durations_s"]["run"].as_f64().unwrap();
        // The engine and the agent measure by clocks of their own.
        assert!((19.9..34.0).contains(&run_s), "{run_s}");
    }
}

#[tokio::test]
async fn started_again_after_delivery_it_does_nothing() {
    for vm in Vm::of_each_kind().await {
        vm.run_job("echo x >> /shared/starts", json!({})).await;
        let journal = fs::read(vm.journal_file()).unwrap();
        for cloud_is_there in [true, false] {
            if !cloud_is_there {
                vm.cloud.metadata_down(true).await.unwrap();
                vm.cloud.callback_down(true).await.unwrap();
            }
            let mut agent = vm.start();
            assert_eq!(agent.wait().await, 0, "{cloud_is_there}: {}", agent.log());
            assert_eq!(vm.starts(), 1);
            assert_eq!(vm.cloud.callback_requests().len(), 1);
            assert_eq!(fs::read(vm.journal_file()).unwrap(), journal);
            vm.check_remains().await;
        }
    }
}

/// A new job in the same VM is another one: a new callback URL comes with it.
#[tokio::test]
async fn a_new_job_after_a_delivered_one_is_run() {
    for vm in Vm::of_each_kind().await {
        vm.run_job("echo x >> /shared/starts", json!({})).await;
        vm.cloud.consume_callback();
        vm.set_job("echo x >> /shared/starts; exit 5", json!({}));
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        assert_eq!(vm.starts(), 2);
        let last: Value = serde_json::from_slice(&vm.cloud.accepted().last().unwrap().body).unwrap();
        expect(&last, &json!({"cause": "EXIT_CODE", "exit_code": 5}));
    }
}

/// What becomes of the journal while the agent is dead.
type Damage = fn(&Vm);

#[tokio::test]
async fn a_broken_journal_does_not_run_the_job_again() {
    let damages: [(&str, Damage); 5] = [
        ("torn", |vm| {
            let text = fs::read(vm.journal_file()).unwrap();
            fs::write(vm.journal_file(), &text[..text.len() / 2]).unwrap();
        }),
        ("empty", |vm| fs::write(vm.journal_file(), "").unwrap()),
        ("garbage", |vm| fs::write(vm.journal_file(), [0xff; 4096]).unwrap()),
        ("missing", |vm| fs::remove_file(vm.journal_file()).unwrap()),
        ("everything missing", |vm| fs::remove_dir_all(vm.state_dir()).unwrap()),
    ];
    for (name, damage) in damages {
        for ends_first in [false, true] {
            let Some(vm) = Vm::with_docker().await else { return };
            vm.set_job(&format!("echo x >> /shared/starts; echo out; {UNTIL_LET_GO}; exit 7"), json!({}));
            let mut agent = vm.start();
            vm.until_running().await;
            agent.kill9().await;
            if ends_first {
                vm.let_go();
                docker::docker(&["wait", &vm.container(1)]).await;
            }
            damage(&vm);
            let agent = vm.start();
            vm.let_go();
            let report = vm.finish(agent).await;
            expect(
                &report,
                &json!({"cause": "EXIT_CODE", "exit_code": 7, "logs": {"tail": "out\n", "stdout_bytes": 4}}),
            );
            assert_eq!(vm.starts(), 1, "{name}");
        }
    }
}

#[tokio::test]
async fn a_second_agent_on_the_same_state_refuses() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(&format!("echo x >> /shared/starts; {UNTIL_LET_GO}"), json!({}));
        let agent = vm.start();
        vm.until_started().await;
        let mut second = vm.start();
        assert_eq!(second.wait().await, 1, "{}", second.log());
        assert!(second.log().contains("another vmjob-agent"), "{}", second.log());
        vm.let_go();
        expect(&vm.finish(agent).await, &json!({"cause": "NONE"}));
        assert_eq!(vm.starts(), 1);
    }
}

/// The job that is under way stays the job; only `job-cancel` is heard.
#[tokio::test]
async fn changed_attributes_do_not_disturb_the_job() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(&format!("echo x >> /shared/starts; {UNTIL_LET_GO}; exit 7"), json!({}));
    let mut agent = vm.start();
    vm.until_started().await;
    vm.set_job("exit 1", json!({"id": "other"}));
    vm.cloud.set_attribute("docker-command", "docker run nothing");
    vm.cloud.remove_attribute("callback-url");
    vm.cloud.set_attribute("job-cancel", "no");
    vm.until_phase("RUNNING").await;
    agent.kill9().await;
    vm.let_go();
    expect(&vm.run().await, &json!({"cause": "EXIT_CODE", "exit_code": 7, "job": {"id": vm.id()}}));
    assert_eq!(vm.starts(), 1);
}

#[tokio::test]
async fn a_container_that_somebody_removes_is_lost() {
    for agent_watches in [true, false] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job("echo up | tee /shared/starts; sleep 100", json!({}));
        let mut agent = vm.start();
        vm.until_running().await;
        if !agent_watches {
            agent.kill9().await;
        }
        docker::remove(&vm.container(1)).await;
        if !agent_watches {
            agent = vm.start();
        }
        let report = vm.finish(agent).await;
        if report["cause"] == "SIGNAL" && agent_watches {
            // A removal kills first, and the agent may have seen that death.
            expect(&report, &json!({"exit_code": 137, "signal": 9}));
        } else {
            expect(&report, &json!({"cause": "CONTAINER_LOST", "exit_code": null, "signal": null}));
        }
    }
}

/// Names are not enough: what somebody else has started under the name is not the job.
#[tokio::test]
async fn a_stranger_s_container_of_the_same_name_is_left_alone() {
    let Some(vm) = Vm::with_docker().await else { return };
    let name = vm.container(1);
    docker::docker(&["run", "-d", "--name", &name, docker::IMAGE, "sleep", "100"]).await;
    vm.set_job("echo x >> /shared/starts", json!({}));
    let mut agent = vm.start();
    agent.wait().await;
    let report: Value = serde_json::from_slice(&vm.cloud.accepted()[0].body).unwrap();
    expect(&report, &json!({"cause": "CREATE_FAILED", "exit_code": null, "message": format!("~{name}")}));
    assert_eq!(vm.starts(), 0);
    let state = docker::docker(&["inspect", "-f", "{{.State.Status}}", &name]).await;
    assert_eq!(state, "running");
    docker::remove(&name).await;
}

/// The report is on disk before the first try, so a crash in the middle of delivering sends the same bytes again.
#[tokio::test]
async fn a_crash_in_the_middle_of_delivering_delivers_once() {
    for script in ["hang", "hang-after", "503,hang-after", "hang-after,503"] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job("echo x >> /shared/starts; echo hello; exit 7", json!({}));
        vm.cloud.script_callback(script.parse().unwrap());
        let held = 1 + script.split(',').position(|step| step.starts_with("hang")).unwrap();
        let mut agent = vm.start();
        until("the callback", async || (vm.cloud.callback_requests().len() == held).then_some(())).await;
        if script.contains("after") {
            until("its arrival", async || (!vm.cloud.accepted().is_empty()).then_some(())).await;
        }
        assert_eq!(vm.phase(), "EXITED");
        agent.kill9().await;
        expect(&vm.run().await, &json!({"exit_code": 7, "logs": {"tail": "hello\n"}}));
        assert_eq!(vm.starts(), 1, "{script}");
    }
}

/// While the metadata server hangs, nothing is claimed yet.
#[tokio::test]
async fn a_crash_before_the_job_is_known_costs_nothing() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("echo x >> /shared/starts; exit 7", json!({}));
        vm.cloud.script_metadata("instance/attributes/job-spec", "hang".parse().unwrap());
        let mut agent = vm.start();
        let asked = async || {
            vm.cloud.metadata_requests().iter().any(|request| request.path.ends_with("job-spec")).then_some(())
        };
        until("the question", asked).await;
        agent.kill9().await;
        assert_eq!(vm.phase(), "");
        expect(&vm.run().await, &json!({"exit_code": 7}));
        assert_eq!(vm.starts(), 1);
    }
}
