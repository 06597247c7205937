//! Whatever becomes of a log's files: no line is counted twice, and what is lost is told.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use e2e::{Vm, expect};
use serde_json::{Value, json};

use crate::log_drivers::until_read;

/// What happens to the log while no agent runs.
type Harm = fn(&Path);

fn cut(log: &Path) {
    let entries = fs::read(log).unwrap();
    let third = entries.split_inclusive(|byte| *byte == b'\n').take(3).map(<[u8]>::len).sum::<usize>();
    File::options().write(true).open(log).unwrap().set_len(third as u64).unwrap();
}

fn append(log: &Path, bytes: &[u8]) {
    File::options().append(true).open(log).unwrap().write_all(bytes).unwrap();
}

/// What was written after the agent's last look, and the end of it with the last line.
fn blot(log: &Path) {
    let length = fs::metadata(log).unwrap().len();
    let mut file = File::options().write(true).open(log).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(length - 300)).unwrap();
    file.write_all(&[0; 300]).unwrap();
}

#[tokio::test]
async fn nothing_is_counted_twice_and_what_is_lost_is_told() {
    // What is lost: none, some, or nobody knows how much.
    let cases: [(&str, Harm, Option<bool>); 7] = [
        ("nothing", |_| {}, Some(false)),
        ("cut to fewer entries", cut, None),
        ("emptied", |log| File::options().write(true).open(log).unwrap().set_len(0).unwrap(), None),
        (
            "cut, zeros behind",
            |log| {
                cut(log);
                append(log, &[0; 4096]);
            },
            None,
        ),
        ("zeros behind", |log| append(log, &[0; 4096]), Some(true)),
        ("its end blotted out", blot, Some(true)),
        ("half an entry behind", |log| append(log, br#"{"log":"line 9"#), None),
    ];
    for (what, harm, lost) in cases {
        for reboots in [false, true] {
            for vm in Vm::of_each_kind().await {
                let script = "for i in $(seq 100 120); do echo line $i; done; echo x >/shared/starts; \
                              until [ -e /shared/go ]; do sleep 0.1; done; for i in $(seq 121 130); do echo line $i; done; exit 7";
                vm.set_job(script, json!({}));
                let mut agent = vm.start();
                vm.until_running().await;
                until_read(&vm, 21).await;
                agent.kill9().await;
                vm.let_go();
                vm.until_job_ended().await;
                let log = vm.journal()["attempt"]["log_path"].as_str().unwrap().to_owned();
                harm(Path::new(&log));
                if reboots {
                    vm.reboot();
                }
                let report = vm.run().await;
                let logs = &report["logs"];
                let seen = format!("{what}, reboots: {reboots}, {:?}: {logs:#} {:#}", vm.kind(), report["evidence"]);
                let lines = logs["stdout_lines"].as_u64().unwrap();
                assert!((21..=31).contains(&lines), "{seen}");
                assert_eq!(logs["stdout_bytes"], 9 * lines, "{seen}");
                let shown: Vec<&str> = logs["tail"].as_str().unwrap().lines().collect();
                let wanted: Vec<String> = (100..100 + lines).map(|number| format!("line {number}")).collect();
                assert!(shown == wanted && logs["omitted_bytes"] == 0, "{seen}");
                assert!(
                    what == "its end blotted out"
                        || lines == if what.starts_with("cut") || what == "emptied" { 21 } else { 31 },
                    "{seen}"
                );
                assert_eq!(logs["lost_bytes"].as_u64().map(|bytes| bytes > 0), lost, "{seen}");
                let told = report["evidence"].to_string().contains("part of the log could not be read");
                assert_eq!(told, lost != Some(false), "{seen}");
            }
        }
    }
}

/// Each byte is in one count.
#[tokio::test]
async fn what_a_full_disk_refuses_is_a_number() {
    let Some(vm) = Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == e2e::Kind::Process) else { return };
    fs::create_dir(vm.state_dir()).unwrap();
    let mount = |args: &[&str]| std::process::Command::new("mount").args(args).arg(vm.state_dir()).status().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).success() {
        return e2e::skip("nothing can be mounted here");
    }
    // There is room again before the end, for the record.
    let ballast = vm.state_dir().join("ballast");
    fs::write(&ballast, "x".repeat(512 << 10)).unwrap();
    let script = format!("seq 1000000 1200000; rm {}; echo the end", ballast.display());
    let report = vm.run_job(&script, json!({})).await;
    let unmounted = std::process::Command::new("umount").arg("--lazy").arg(vm.state_dir()).status();
    assert!(unmounted.unwrap().success());
    let count = |name: &str| report["logs"][name].as_u64().unwrap();
    assert!(count("lost_bytes") > 100_000, "{report:#}");
    assert_eq!(count("stdout_bytes") + count("lost_bytes"), 200_001 * 8 + 8, "{report:#}");
    expect(&report, &json!({"cause": "NONE", "evidence": ["~the disk was full"]}));
}

/// Nobody knows how much such a driver drops; of less output than it can hold it drops nothing.
#[tokio::test]
async fn a_driver_that_drops_is_told_of() {
    for (lines, lost) in [(1000, json!(0)), (500_000, Value::Null)] {
        let Some(vm) = Vm::with_docker().await else { return };
        let options = json!({"mode": "non-blocking", "max-buffer-size": "64k"});
        let script = format!("yes 0123456789abcde | head -n {lines}");
        let report = vm.run_job(&script, json!({"container": {"log_options": options}})).await;
        expect(&report, &json!({"cause": "NONE", "logs": {"lost_bytes": lost}}));
        let told = report["evidence"].to_string().contains("mode=non-blocking");
        assert_eq!(told, lost.is_null(), "{report:#}");
        assert!(report["logs"]["stdout_lines"].as_u64() <= Some(lines), "{report:#}");
    }
}
