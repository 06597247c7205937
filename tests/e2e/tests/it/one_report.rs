//! One job, one report, whatever becomes of what the agent writes down: a damaged record, a state directory that cannot be
//! written for a while, a defect at every start.

use std::{fs, path::Path};

use e2e::{Agent, UNTIL_LET_GO, Vm, expect, skip, until};
use fakecloud::Config;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::log_drivers::until_read;

/// What becomes of a record's text; `None`: it is removed.
type Damage = fn(&str) -> Option<String>;

/// What is left of a record, as a power cut, a full disk, a bad sector or another version of the agent leaves it.
fn damages() -> Vec<(&'static str, Damage)> {
    vec![
        ("empty", |_| Some(String::new())),
        ("gone", |_| None),
        ("half", |text| Some(text[..text.len() / 2].to_owned())),
        ("NULs", |text| Some("\0".repeat(text.len()))),
        ("no JSON", |text| Some(text.replace(':', "="))),
        ("null", |_| Some("null".into())),
        ("no fields", |_| Some("{}".into())),
        ("a later phase", |text| Some(text.replace("\"DELIVERED\"", "\"ARCHIVED\""))),
        ("a later version", |text| Some(text.replacen("\"version\": 1", "\"version\": 2", 1))),
        ("an earlier phase", |text| Some(text.replace("\"DELIVERED\"", "\"CLAIMED\""))),
    ]
}

fn damage(vm: &Vm, damaged: Damage) {
    let file = vm.state_dir().join("journal.json");
    match damaged(&fs::read_to_string(&file).unwrap()) {
        Some(text) => fs::write(file, text).unwrap(),
        None => fs::remove_file(file).unwrap(),
    }
}

async fn ends_with(mut agent: Agent, status: i32) {
    assert_eq!(agent.wait().await, status, "{}", agent.log());
}

#[tokio::test]
async fn a_delivered_job_is_neither_run_nor_reported_again_whatever_becomes_of_its_record() {
    for (name, damaged) in damages() {
        for vm in Vm::of_each_kind().await {
            vm.run_job("echo x >> /shared/starts", json!({})).await;
            damage(&vm, damaged);
            ends_with(vm.start(), 0).await;
            assert_eq!((vm.starts(), vm.cloud.callback_requests().len()), (1, 1), "{name}");
            vm.check_remains().await;
            // And once more, from what that run has left.
            ends_with(vm.start(), 0).await;
            assert_eq!((vm.starts(), vm.cloud.callback_requests().len()), (1, 1), "{name}");
        }
    }
}

/// Of a report that may have arrived nobody knows: it is not sent twice, and not said to be delivered.
#[tokio::test]
async fn a_record_that_is_lost_while_the_report_is_sent_costs_no_second_report() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("echo x >> /shared/starts; exit 7", json!({}));
        vm.cloud.script_callback("hang-after".parse().unwrap());
        let mut agent = vm.start();
        until("the first POST", async || (!vm.cloud.callback_requests().is_empty()).then_some(())).await;
        agent.kill9().await;
        vm.cloud.clear_scripts();
        fs::write(vm.journal_file(), "").unwrap();
        ends_with(vm.start(), 75).await;
        assert_eq!((vm.starts(), vm.cloud.callback_requests().len()), (1, 1));
        vm.check_remains().await;
    }
}

/// The agent was replaced by an earlier version under the job: it does not write over what it cannot read.
#[tokio::test]
async fn a_record_of_a_later_version_is_kept_and_its_job_reported_once() {
    for vm in Vm::of_each_kind().await {
        vm.set_job("echo x >> /shared/starts; sleep 1000", json!({}));
        let mut agent = vm.start();
        vm.until_running().await;
        agent.kill9().await;
        damage(&vm, |text| Some(text.replacen("\"version\": 1", "\"version\": 7", 1)));
        let kept = fs::read(vm.state_dir().join("journal.json")).unwrap();
        let report = vm.run().await;
        expect(&report, &json!({"cause": "AGENT_ERROR", "exit_code": null, "message": "~version 7"}));
        assert_eq!(fs::read(vm.state_dir().join("journal.json")).unwrap(), kept);
        // The next boot knows what was reported in this one.
        fs::remove_dir_all(vm.dir().join("spare")).unwrap();
        ends_with(vm.start(), 0).await;
        assert_eq!((vm.starts(), vm.cloud.accepted().len()), (1, 1));
    }
}

/// What may be in a file's place: whoever opens one of them to read, or reads it to its end, waits for ever.
const IN_ITS_PLACE: [fn(&Path); 3] = [
    |path| fs::create_dir(path).unwrap(),
    |path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()),
    |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
];

/// The disk does not give the record, as on a bad sector, or something else has its place.
#[tokio::test]
async fn a_record_that_cannot_be_read_is_reported_once_and_its_job_ended() {
    for (put, is_delivered) in IN_ITS_PLACE.into_iter().flat_map(|put| [(put, false), (put, true)]) {
        for vm in Vm::of_each_kind().await {
            vm.set_job(if is_delivered { "true" } else { "echo x >> /shared/starts; sleep 1000" }, json!({}));
            let mut agent = vm.start();
            if is_delivered {
                ends_with(agent, 0).await;
            } else {
                vm.until_running().await;
                agent.kill9().await;
            }
            fs::remove_file(vm.journal_file()).unwrap();
            put(&vm.journal_file());
            if !is_delivered {
                let report = vm.run().await;
                expect(&report, &json!({"cause": "AGENT_ERROR", "exit_code": null, "message": "~journal.json"}));
            }
            ends_with(vm.start(), 0).await;
            assert_eq!(vm.cloud.accepted().len(), 1, "delivered before: {is_delivered}");
            vm.check_remains().await;
        }
    }
}

#[tokio::test]
async fn nothing_in_the_place_of_a_file_of_the_agent_s_holds_a_job_up() {
    let files = ["panics", "reserve", "logs.json", "logs.json.new"];
    for (put, file) in IN_ITS_PLACE.into_iter().flat_map(|put| files.map(|file| (put, file))) {
        for vm in Vm::of_each_kind().await {
            fs::create_dir(vm.state_dir()).unwrap();
            put(&vm.state_dir().join(file));
            let report = vm.run_job("echo said", json!({})).await;
            expect(&report, &json!({"cause": "NONE", "logs": {"tail": "said\n"}}));
        }
    }
    // Without its lock the state directory is not used, and the job not begun.
    for put in IN_ITS_PLACE {
        let vm = Vm::without_docker(Config::default()).await;
        fs::create_dir(vm.state_dir()).unwrap();
        put(&vm.state_dir().join("lock"));
        let report = vm.run_job("true", json!({})).await;
        expect(&report, &json!({"cause": "AGENT_ERROR", "message": "~not a regular file"}));
    }
}

/// The engine's log, while it is read: what came before is not lost, and what comes after is the engine's to tell.
#[tokio::test]
async fn nothing_in_the_place_of_the_engine_s_log_holds_a_job_up() {
    for put in IN_ITS_PLACE {
        for restarts in [false, true] {
            for vm in Vm::of_each_kind().await {
                vm.set_job(&format!("echo first; echo x >> /shared/starts; {UNTIL_LET_GO}; exit 7"), json!({}));
                let mut agent = vm.start();
                vm.until_running().await;
                until_read(&vm, 1).await;
                if restarts {
                    agent.kill9().await;
                }
                let log = vm.journal()["attempt"]["log_path"].as_str().unwrap().to_owned();
                fs::remove_file(&log).unwrap();
                put(Path::new(&log));
                vm.let_go();
                if restarts {
                    vm.until_job_ended().await;
                    agent = vm.start();
                }
                let report = vm.finish(agent).await;
                expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 7, "logs": {"tail": "first\n"}}));
            }
        }
    }
}

/// After an error the kernel mounts a file system read-only. Nothing could be remembered of a job, so it is not run.
#[tokio::test]
async fn a_read_only_state_directory_is_reported() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.set_job("true", json!({}));
    let report = vm.finish(vm.spawn(read_only(&vm))).await;
    expect(&report, &json!({"cause": "AGENT_ERROR", "message": "~Read-only file system"}));
}

/// Mended by the next boot, the VM still has one report of its job, and not two that contradict each other.
#[tokio::test]
async fn a_job_that_was_reported_from_a_read_only_state_directory_is_not_run_by_the_next_boot() {
    // The state directory alone; or with all that is beside it, where the guest attributes remember.
    for is_alone in [true, false] {
        for has_record in [true, false] {
            let Some(vm) = Vm::with_docker().await else { return };
            vm.cloud.set_attribute("enable-guest-attributes", "TRUE");
            vm.set_job("echo x >> /shared/starts; sleep 1000", json!({}));
            if has_record {
                let mut agent = vm.start();
                vm.until_running().await;
                agent.kill9().await;
                vm.kill_job().await;
                vm.reboot();
            }
            let dir = if is_alone { vm.state_dir() } else { vm.dir().to_owned() };
            let report = vm.finish(vm.spawn(read_only_below(&vm, &dir))).await;
            expect(&report, &json!({"cause": if has_record { "VM_REBOOTED" } else { "AGENT_ERROR" }}));
            fs::remove_dir_all(vm.dir().join("spare")).unwrap();
            vm.reboot();
            ends_with(vm.start(), if is_alone { 0 } else { 75 }).await;
            assert_eq!((vm.starts(), vm.cloud.accepted().len()), (usize::from(has_record), 1));
            vm.check_remains().await;
        }
    }
}

/// Of a job that was under way, the record and what it has left are still there to be read.
#[tokio::test]
async fn a_job_under_way_is_carried_on_from_a_read_only_state_directory() {
    for vm in Vm::of_each_kind().await {
        let script = r#"echo x >> /shared/starts; echo '{"n": 1}' > "$JOB_RESULT_FILE"; UNTIL; exit 7"#;
        vm.set_job(&script.replace("UNTIL", UNTIL_LET_GO), json!({}));
        let mut agent = vm.start();
        vm.until_running().await;
        agent.kill9().await;
        vm.let_go();
        vm.until_job_ended().await;
        ends_with(vm.spawn(read_only(&vm)), 0).await;
        // Mended, it is tidied up.
        fs::remove_dir_all(vm.dir().join("spare")).unwrap();
        ends_with(vm.start(), 0).await;
        expect(&vm.report().await, &json!({"cause": "EXIT_CODE", "exit_code": 7, "result": {"n": 1}}));
        assert_eq!(vm.starts(), 1);
    }
}

/// The agent in a mount namespace of its own, in which its state directory is read-only.
fn read_only(vm: &Vm) -> Command {
    read_only_below(vm, &vm.state_dir())
}

/// One in which all of `dir` is, but for the directory that stands in.
fn read_only_below(vm: &Vm, dir: &Path) -> Command {
    let spare = vm.dir().join("spare");
    for dir in [dir, &vm.state_dir(), &spare] {
        fs::create_dir_all(dir).unwrap();
    }
    let inner = vm.command();
    let script = "mount --bind \"$1\" \"$1\" && mount --bind \"$2\" \"$2\" && mount -o remount,ro,bind \"$1\" && shift 2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir).arg(spare).arg(inner.as_std().get_program());
    command.args(inner.as_std().get_args());
    command.envs(inner.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// A defect that ends the agent at every start ends the job too, with a report, and not the reports.
#[tokio::test]
async fn an_agent_that_panics_at_every_start_reports_that_after_three() {
    const NOBODY: u32 = 65534;
    let tried =
        Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "prlimit", "--version"]).output().await;
    if !tried.is_ok_and(|output| output.status.success()) {
        return skip("only root can run the agent as another user, with bounds (setpriv, prlimit)");
    }
    let vm = Vm::without_docker(Config::default()).await;
    vm.set_job("true", json!({}));
    fs::create_dir_all(vm.state_dir()).unwrap();
    std::os::unix::fs::chown(vm.state_dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    // A thread that cannot be started is a panic.
    let bound = |bound: &str| {
        let inner = vm.command();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "prlimit", bound]);
        command.arg(inner.as_std().get_program()).args(inner.as_std().get_args());
        command.envs(inner.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    };
    for _ in 0..3 {
        let mut agent = vm.spawn(bound("--nproc=1"));
        let ended = until("the agent's end", async || agent.ended()).await;
        assert!(!ended.success(), "{}", agent.log());
        assert!(vm.cloud.callback_requests().is_empty());
    }
    let report = vm.finish(vm.spawn(bound("--nproc=1000"))).await;
    expect(
        &report,
        &json!({"cause": "AGENT_ERROR", "retryable": true, "message": "~panicked 3 times", "evidence": ["~.rs:"]}),
    );
    assert!(!vm.state_dir().join("panics").exists(), "the next job begins anew");
}

/// What another job's agent, or another version of it, panicked of says nothing of this one.
#[tokio::test]
async fn panics_of_another_job_or_version_keep_no_job_from_running() {
    for vm in Vm::of_each_kind().await {
        fs::create_dir_all(vm.state_dir()).unwrap();
        let panics = vm.state_dir().join("panics");
        let others =
            ["2026-01-01T00:00:00.000Z agent/src/x.rs:1:1: panicked", "0.1.0 another-claim at agent/src/x.rs:1:1"];
        fs::write(&panics, others.map(|line| format!("{line}\n").repeat(9)).concat()).unwrap();
        expect(&vm.run_job("exit 7", json!({})).await, &json!({"cause": "EXIT_CODE", "exit_code": 7}));
        assert!(!panics.exists());
    }
}

/// An answer's number is not taken for a time before it is looked at.
#[tokio::test]
async fn a_wait_beyond_all_bounds_ends_no_agent() {
    for vm in Vm::of_each_kind().await {
        let name = "projects/p/secrets/s/versions/1";
        vm.cloud.script_secrets("503+retry-after=18446744073709551615*100".parse().unwrap());
        let secret = json!({"secret_env": {"K": name}});
        let kind = if vm.kind() == e2e::Kind::Process { "process" } else { "container" };
        let mut command = vm.command();
        vm.set_job("true", json!({kind: secret}));
        command.args(["--metadata-patience", "3s"]);
        let report = vm.finish(vm.spawn(command)).await;
        expect(&report, &json!({"cause": "SECRET_FAILED", "retryable": true, "message": "~503"}));
    }
}

/// A record that is well-formed and holds impossible numbers, as a flipped bit leaves it.
#[tokio::test]
async fn impossible_numbers_in_the_record_end_no_agent() {
    for number in [-1e300, -1.0, 1e300] {
        for vm in Vm::of_each_kind().await {
            vm.set_job(&format!("echo x >> /shared/starts; {UNTIL_LET_GO}; exit 7"), json!({"timeout": "1h"}));
            let mut agent = vm.start();
            vm.until_running().await;
            agent.kill9().await;
            let mut record = vm.journal();
            for path in ["/attempt/started_since_boot_s", "/attempt/pull_s", "/attempt/run_s", "/delivery/spent_s"] {
                *record.pointer_mut(path).unwrap() = number.into();
            }
            fs::write(vm.journal_file(), record.to_string()).unwrap();
            let agent = vm.start();
            vm.let_go();
            let report = vm.finish(agent).await;
            let ended: &Value = &report["cause"];
            assert!(ended == "EXIT_CODE" || ended == "TIMEOUT" && number > 0.0, "{report}");
        }
    }
}

/// Attributes of more bytes than can be read as a whole do not hide the one that stops the job.
#[tokio::test]
async fn a_cancel_beside_attributes_of_any_size_is_seen() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_attribute("other", vec![1; 5 << 20]);
        vm.set_job("echo x >> /shared/starts; sleep 1000", json!({}));
        let agent = vm.start();
        vm.until_running().await;
        vm.until_logged("asking for `job-cancel` alone").await;
        vm.cloud.set_attribute("job-cancel", "true");
        expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED"}));
    }
}
