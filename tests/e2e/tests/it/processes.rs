//! What is a process's own: jobs without a container. What holds of both kinds is tested where the other is.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use e2e::{Kind, UNTIL_LET_GO, Vm, agent_binary, expect, until};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::process::Command;

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
    let script = "(sleep 1; echo late; sleep 1000) & echo $! >/shared/child; echo done; printf last >&2; exit 3";
    let report = vm.run_job(script, json!({})).await;
    expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3, "logs": {"stdout_bytes": 10, "stderr_bytes": 4}}));
    // Its child would have gone on.
    assert!(report["durations_s"]["run"].as_f64().unwrap() < 30.0, "{report:#}");
    let finished: Timestamp = report["times"]["finished_at"].as_str().unwrap().parse().unwrap();
    let reported = Timestamp::try_from(vm.cloud.accepted()[0].wall).unwrap();
    assert!(reported.duration_since(finished) < SignedDuration::from_secs(30), "{report:#}");
    // Dead, it stands there until the first process has looked at it.
    let stat = format!("/proc/{}/stat", vm.shared("child").trim());
    let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    until("the child to be gone", async || is_gone().then_some(())).await;
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

/// The address of a socket has 107 bytes at most, and a path may have more.
#[tokio::test]
async fn a_state_directory_may_lie_deep_and_an_id_be_long() {
    let Some(vm) = vm().await else { return };
    let deep = vm.dir().join("d".repeat(200));
    fs::create_dir(&deep).unwrap();
    symlink(&deep, vm.state_dir()).unwrap();
    vm.set_job(
        "trap 'exit 7' TERM; echo x >>/shared/starts; while :; do sleep 0.1; done",
        json!({"id": "i".repeat(63), "grace": "20s"}),
    );
    let agent = vm.start();
    vm.until_running().await;
    vm.cloud.set_attribute("job-cancel", "true");
    expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED", "exit_code": 7}));
}

/// Something keeps the shim from even beginning: its lock cannot be had.
#[tokio::test]
async fn a_shim_that_ends_at_once_is_not_waited_for() {
    let Some(vm) = vm().await else { return };
    let sabotage = format!("cat >/dev/null; mkdir {}/{}/lock; true", vm.state_dir().display(), vm.container(1));
    vm.set_job("echo x >>/shared/starts", json!({"process": {"user": "nobody"}, "metadata_server": "block"}));
    let mut command = vm.command();
    command.env("PATH", vm.path_with("ip", &sabotage));
    let began = Instant::now();
    let report = vm.finish(vm.spawn(command)).await;
    expect(&report, &json!({"cause": "START_FAILED", "exit_code": null, "message": "~shim ended before"}));
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    assert!(vm.starts() == 0 && vm.logs().to_lowercase().contains("is a directory"), "{}", vm.logs());
}

/// What a shim writes down of a job that has exited with 7.
const ENDED: &str = r#"{"pid": 0, "groups": [], "started_at": "2026-01-01T00:00:00.000Z", "error": null,
    "ended": {"code": 7, "finished_at": "2026-01-01T00:00:01.000Z", "oom_killed": false}}"#;

/// The same call of another program, or of one by way of another.
fn through(mut other: Command, agent: &Command) -> Command {
    let agent = agent.as_std();
    other.args(agent.get_args()).envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other
}

/// As between an agent that died and the next one: a shim of the former has the lock, and not yet its socket. It begins the job once
/// that of the latter has ended.
#[tokio::test]
async fn a_job_that_another_shim_is_beginning_is_waited_for() {
    let Some(vm) = vm().await else { return };
    let stand_in = format!(
        "cat >/dev/null; cd {}/{} && [ ! -e lock ] || exit 0; exec 9>>lock; flock 9; touch job-json.log
        (sleep 5; echo '{ENDED}' >state.new; mv state.new state.json) >/dev/null 2>&1 &",
        vm.state_dir().display(),
        vm.container(1)
    );
    vm.set_job("echo x >>/shared/starts", json!({"process": {"user": "nobody"}, "metadata_server": "block"}));
    let mut command = vm.command();
    command.env("PATH", vm.path_with("ip", &stand_in));
    expect(&vm.finish(vm.spawn(command)).await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
    assert_eq!(vm.starts(), 0);
}

/// The same where systemd starts shims, and says that it has started this one.
#[tokio::test]
async fn a_unit_that_an_agent_before_has_started_is_waited_for() {
    let Some(vm) = vm().await else { return };
    let systemd_run = format!(
        "while [ $# -gt 1 ]; do shift; done; cd \"$1\"; touch job-json.log
        (sleep 1; echo '{ENDED}' >state.new; mv state.new state.json) >/dev/null 2>&1 &
        echo 'Failed to start transient service unit: Unit x.service was already loaded or has a fragment file.' >&2
        exit 1"
    );
    vm.path_with("systemd-run", &systemd_run);
    let path = vm.path_with("systemctl", "printf 'LoadState=loaded\\nActiveState=active\\n'");
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec \"$@\"";
    let mut booted = Command::new("unshare");
    booted.args(["--mount", "sh", "-c", script, "sh"]).arg(agent_binary()).env("PATH", path);
    vm.set_job("echo x >>/shared/starts", json!({}));
    let report = vm.finish(vm.spawn(through(booted, &vm.command()))).await;
    expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
    assert_eq!(vm.starts(), 0);
}

/// As a package's upgrade does before it restarts the agent. The copies are another program's: a file that this process has open for
/// writing may be open in what another test starts just then, and cannot be run.
#[tokio::test]
async fn an_agent_whose_program_was_replaced_or_removed_begins_another_attempt() {
    for is_replaced in [true, false] {
        let Some(vm) = vm().await else { return };
        let (program, new) = (vm.dir().join("agent"), vm.dir().join("agent.new"));
        for copy in [&program, &new] {
            let copied = Command::new("cp").arg(agent_binary()).arg(copy).status().await.unwrap();
            assert!(copied.success());
        }
        let script = format!("echo x >>/shared/starts; {UNTIL_LET_GO}; [ $JOB_ATTEMPT = 2 ] || exit 75");
        vm.set_job(&script, json!({"retry": {"max_attempts": 2, "on": ["EXIT_CODE:75"]}}));
        let agent = vm.spawn(through(Command::new(&program), &vm.command()));
        vm.until_running().await;
        if is_replaced {
            fs::rename(&new, &program).unwrap();
        } else {
            fs::remove_file(&program).unwrap();
        }
        vm.let_go();
        expect(&vm.finish(agent).await, &json!({"cause": "NONE", "job": {"attempt": 2}}));
        assert_eq!(vm.starts(), 2);
    }
}

/// Room is kept for how it ended.
#[tokio::test]
async fn the_exit_of_a_job_that_fills_the_disk_is_known() {
    let Some(vm) = vm().await else { return };
    fs::create_dir(vm.state_dir()).unwrap();
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(vm.state_dir()).status().await;
    if !mount.unwrap().success() {
        return e2e::skip("nothing can be mounted here");
    }
    let script = "dd if=/dev/zero of=\"${JOB_RESULT_FILE%/*}/all\" bs=4k 2>/shared/dd; exit 5";
    let report = vm.run_job(script, json!({})).await;
    let unmounted = Command::new("umount").arg("--lazy").arg(vm.state_dir()).status().await;
    assert!(unmounted.unwrap().success());
    assert!(vm.shared("dd").contains("No space left"), "{}", vm.shared("dd"));
    // Of which there was a warning.
    let warning = "~state directory: only 1 MiB are free";
    expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 5, "evidence": [warning]}));
    assert!(vm.logs().contains("WARN state directory: only 1 MiB"), "{}", vm.logs());
}
