//! The whole log in Cloud Storage: byte by byte what the job wrote, whatever became of the agent meanwhile; and a bucket that fails
//! harms nobody.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Vm, expect, files, until, until_within};
use rustix::process::Signal;
use serde_json::{Value, json};

fn upload() -> Value {
    json!({"logs": {"upload": "gs://b/logs/"}})
}

pub(crate) fn gzip(args: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, bytes) = (gzip.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = gzip.wait_with_output().unwrap();
    assert!(output.status.success());
    writer.join().unwrap().unwrap();
    output.stdout
}

/// What the console shows of a log.
pub(crate) fn shown(vm: &Vm, name: &str) -> Vec<u8> {
    let object =
        vm.cloud.object("b", name).unwrap_or_else(|| panic!("{name} is not among {:?}", vm.cloud.objects("b")));
    assert_eq!(object.content_type.as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(object.content_encoding.as_deref(), Some("gzip"));
    gzip(&["-dc"], &object.content)
}

fn parts(vm: &Vm) -> Vec<String> {
    vm.cloud.objects("b").into_iter().filter(|name| name.contains("/parts/")).collect()
}

#[tokio::test]
async fn both_streams_are_there_as_text() {
    for vm in Vm::of_each_kind().await {
        let report = vm.run_job("seq 100000; echo 'ü err' >&2; printf 'no newline'; exit 3", upload()).await;
        let dir = format!("logs/{}/1/", vm.id());
        let to = |name: &str| format!("gs://b/{dir}{name}.log");
        let bytes = report["logs"]["stdout_bytes"].as_u64().unwrap();
        expect(
            &report,
            &json!({"cause": "EXIT_CODE", "logs": {"uri": format!("gs://b/{dir}")}, "uploads": [
                {"from": "stdout", "to": to("stdout"), "files": 1, "bytes": bytes, "error": null},
                {"from": "stderr", "to": to("stderr"), "files": 1, "bytes": 7, "error": null},
            ]}),
        );
        let numbers = (1..=100_000).map(|number: u32| number.to_string()).collect::<Vec<_>>().join("\n");
        assert!(shown(&vm, &format!("{dir}stdout.log")) == format!("{numbers}\nno newline").into_bytes());
        assert_eq!(shown(&vm, &format!("{dir}stderr.log")), "ü err\n".as_bytes());
        assert_eq!(vm.cloud.objects("b").len(), 2, "no part stays");
        assert!(!vm.state_dir().join("spool-1").exists());
    }
}

#[tokio::test]
async fn a_job_that_says_nothing_leaves_nothing() {
    let Some(vm) = Vm::with_docker().await else { return };
    expect(&vm.run_job("true", upload()).await, &json!({"cause": "NONE", "uploads": [], "logs": {"uri": null}}));
    assert_eq!(vm.cloud.objects("b"), [""; 0]);
}

/// The job writes down what it says, and both are the same in the end.
const TELLS: &str = "echo x >>/shared/starts; for i in $(seq 60); do \
    head -c 200000 /dev/urandom | base64 | tee -a /shared/out; echo err $i | tee -a /shared/err >&2; sleep 0.2; done";

#[tokio::test]
async fn a_restart_leaves_no_gap_and_no_repeat() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.script_storage("/upload", "pass,503,reset-after,cut-1000000,hang,503,reset,pass".parse().unwrap());
        vm.set_job(TELLS, upload());
        for run in 0..3 {
            let mut agent = vm.start();
            if run == 0 {
                vm.until_running().await;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            agent.kill9().await;
        }
        let report = vm.run().await;
        expect(
            &report,
            &json!({"cause": "NONE", "uploads": [{"from": "stdout", "error": null}, {"from": "stderr", "error": null}]}),
        );
        assert_eq!(vm.starts(), 1);
        let dir = format!("logs/{}/1/", vm.id());
        let said = fs::read(vm.dir().join("shared/out")).unwrap();
        assert!(said.len() > 16_000_000 && shown(&vm, &format!("{dir}stdout.log")) == said);
        assert_eq!(shown(&vm, &format!("{dir}stderr.log")), vm.shared("err").as_bytes());
        assert_eq!(parts(&vm), [""; 0]);
    }
}

/// What the job says once it may, and until it may end.
const WAITS: &str = "echo x >>/shared/starts; while [ ! -e /shared/on ]; do sleep 0.1; done; \
    head -c 30000000 /dev/urandom | base64 | tee /shared/out; while [ ! -e /shared/go ]; do sleep 0.1; done";

/// A job that has run for hours, with no agent just now: `count` parts were sent, which are given to `put`. Returns what they say.
pub(crate) async fn with_parts(vm: &Vm, count: u32, mut put: impl FnMut(&str, Vec<u8>)) -> Vec<u8> {
    vm.set_job(WAITS, upload());
    let mut agent = vm.start();
    vm.until_running().await;
    agent.signal(Signal::HUP);
    assert_eq!(agent.wait().await, 0);
    let claim = vm.journal()["claim"].as_str().unwrap()[..12].to_owned();
    let mut said = Vec::new();
    for number in 1..=count {
        let line = format!("part {number}\n");
        let name = format!("logs/{}/1/parts/{claim}-stdout-part-{number:06}-{}", vm.id(), line.len());
        put(&name, gzip(&["-c"], line.as_bytes()));
        said.extend(line.into_bytes());
    }
    let file = vm.state_dir().join("logs.json");
    let mut checkpoint: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    checkpoint["parts"] = json!({"ended": count, "bytes": [said.len(), 0]});
    checkpoint["summary"]["channels"][0]["bytes"] = said.len().into();
    fs::write(file, checkpoint.to_string()).unwrap();
    fs::write(vm.dir().join("shared/on"), "").unwrap();
    said
}

/// What a VM that vanishes had said is there; and while the job runs, of many parts few are made.
#[tokio::test]
async fn parts_are_there_while_the_job_runs_and_few_are_made_of_many() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_page_size(50);
        let before = with_parts(&vm, 200, |name, part| vm.cloud.put_object("b", name, part)).await;
        let agent = vm.start();
        let few = until("few parts", async || {
            let parts = parts(&vm);
            let bytes = |name: &String| name.rsplit('-').next()?.parse::<u64>().ok();
            let all: u64 = parts.iter().filter_map(bytes).sum();
            let (made, others): (Vec<_>, Vec<_>) = parts.iter().partition(|name| name.contains("-parts-1-"));
            // Of 200 there are six that were made of 32 each, eight others, and what the job says now.
            let rest =
                others.iter().all(|name| name.rsplit_once("-stdout-part-").is_some_and(|(_, name)| name > "000193"));
            (made.len() == 6 && rest && others.len() < 8 + 6 && all > 30_000_000).then_some(parts)
        })
        .await;
        assert!(vm.job_runs().await);
        let mut few: Vec<_> = few.iter().map(|name| (name.rsplit_once("-stdout-").unwrap().1, name)).collect();
        // By their first numbers.
        few.sort_by_key(|(name, _)| name.split('-').nth(if name.starts_with("parts") { 2 } else { 1 }));
        let told = few.iter().flat_map(|(_, name)| vm.cloud.object("b", name).unwrap().content.to_vec());
        let told = gzip(&["-dc"], &told.collect::<Vec<u8>>());
        let said = [before.clone(), fs::read(vm.dir().join("shared/out")).unwrap()].concat();
        assert!(said.starts_with(&told), "{few:?}");

        fs::write(vm.dir().join("shared/go"), "").unwrap();
        expect(&vm.finish(agent).await, &json!({"cause": "NONE", "uploads": [{"from": "stdout", "error": null}]}));
        let said = [before, fs::read(vm.dir().join("shared/out")).unwrap()].concat();
        assert!(shown(&vm, &format!("logs/{}/1/stdout.log", vm.id())) == said);
        assert_eq!(parts(&vm), [""; 0]);
    }
}

/// Whatever is broken off while objects are put together, or removed, none is there twice in the end, or not at all.
#[tokio::test]
async fn what_was_put_together_and_broken_off_is_put_together_once() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    // The first answer is lost; and of what is needless some is removed.
    vm.cloud.script_storage("/compose", "reset-after".parse().unwrap());
    vm.cloud.script_storage("DELETE /storage", "pass*5,hang*100".parse().unwrap());
    let before = with_parts(&vm, 70, |name, part| vm.cloud.put_object("b", name, part)).await;
    let mut agent = vm.start();
    until("a removal that hangs", async || {
        let requests = vm.cloud.storage_requests();
        (requests.iter().filter(|request| request.method == "DELETE").count() > 5).then_some(())
    })
    .await;
    agent.kill9().await;
    // The next one dies with one object made of all.
    vm.cloud.clear_scripts();
    let mut agent = vm.start();
    vm.cloud.script_callback("hang*100".parse().unwrap());
    fs::write(vm.dir().join("shared/go"), "").unwrap();
    until("a callback", async || vm.cloud.callback_requests().first().cloned()).await;
    agent.kill9().await;
    assert!(!parts(&vm).is_empty(), "they stay until the report is out");
    vm.cloud.clear_scripts();
    let report = vm.run().await;
    expect(&report, &json!({"cause": "NONE", "uploads": [{"from": "stdout", "files": 1, "error": null}]}));
    let said = [before, fs::read(vm.dir().join("shared/out")).unwrap()].concat();
    assert!(shown(&vm, &format!("logs/{}/1/stdout.log", vm.id())) == said);
    assert_eq!(parts(&vm), [""; 0]);
}

/// The report is on its way before anything is removed, and a bucket that keeps what it has changes nothing about it.
#[tokio::test]
async fn the_report_does_not_wait_for_parts_to_be_removed() {
    for is_kept in [false, true] {
        let Some(vm) = Vm::of_each_kind().await.pop() else { return };
        if is_kept {
            vm.cloud.script_storage("DELETE /storage", "403*1000".parse().unwrap());
        }
        vm.set_job("seq 1000; echo err >&2", upload());
        let report = vm.run().await;
        let uri = format!("gs://b/logs/{}/1/", vm.id());
        expect(
            &report,
            &json!({"cause": "NONE", "logs": {"uri": uri}, "uploads": [
                {"from": "stdout", "files": 1, "error": null}, {"from": "stderr", "files": 1, "error": null},
            ]}),
        );
        assert!(!report["evidence"].to_string().contains("not whole"), "{report:#}");
        let told_at = vm.cloud.accepted()[0].at;
        let requests = vm.cloud.storage_requests();
        let mut removals = requests.iter().filter(|request| request.method == "DELETE").peekable();
        assert!(removals.peek().is_some() && removals.all(|removal| removal.at > told_at));
        assert_eq!(parts(&vm).is_empty(), !is_kept);
        assert_eq!(vm.logs().contains("no longer needed"), is_kept);
    }
}

/// Of a Spot VM's last seconds a bucket that does not answer takes none from the report.
#[tokio::test]
async fn a_preempted_job_s_report_does_not_wait_for_its_log() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    vm.cloud.script_storage("/upload", "hang*100".parse().unwrap());
    vm.set_job("seq 100000; echo up >/shared/starts; sleep 1000", upload());
    let mut command = vm.command();
    command.args(["--storage-patience", "5m"]);
    let agent = vm.spawn(command);
    vm.until_running().await;
    let notice = Instant::now();
    vm.cloud.set("instance/preempted", "TRUE");
    let report = vm.finish(agent).await;
    let taken = vm.cloud.accepted()[0].at - notice;
    expect(
        &report,
        &json!({"cause": "PREEMPTED", "uploads": [{"from": "stdout", "files": 0, "error": format!("~time ran out before it was all there; parts that went up before are below gs://b/logs/{}/1/parts/", vm.id())}],
                "logs": {"stdout_lines": 100_000, "tail": "~\n100000\n"}}),
    );
    assert!(taken < Duration::from_secs(30), "{taken:?}");
}

/// However little a job says, a VM that vanishes takes no more than the last minute of it along.
#[tokio::test]
async fn the_log_of_a_quiet_job_is_a_minute_behind_at_most() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    vm.set_job("echo first; echo x >>/shared/starts; while [ ! -e /shared/go ]; do echo more; sleep 1; done", upload());
    let agent = vm.start();
    vm.until_started().await;
    let part = until("a part", async || parts(&vm).first().cloned()).await;
    let told = gzip(&["-dc"], &vm.cloud.object("b", &part).unwrap().content);
    assert!(told.starts_with(b"first\n"), "{}", String::from_utf8_lossy(&told));
    until("another part", async || (parts(&vm).len() > 1).then_some(())).await;
    let requests = vm.cloud.storage_requests();
    let posts: Vec<Instant> =
        requests.iter().filter(|request| request.method == "POST").map(|request| request.at).collect();
    assert!(posts[1] - posts[0] < Duration::from_secs(75), "{:?}", posts[1] - posts[0]);
    fs::write(vm.dir().join("shared/go"), "").unwrap();
    expect(&vm.finish(agent).await, &json!({"cause": "NONE", "uploads": [{"from": "stdout", "error": null}]}));
}

#[tokio::test]
async fn a_bucket_that_fails_harms_nobody() {
    type Break = fn(&Vm);
    let breaks: [(Break, &str); 3] = [
        (|vm| vm.cloud.set_storage_permissions(true, false), "~roles/storage.objectUser"),
        (|vm| vm.cloud.remove_bucket("b"), "~bucket does not exist"),
        (|vm| vm.cloud.script_storage("/storage", "503*10000".parse().unwrap()), "~503"),
    ];
    for (make, words) in breaks {
        for vm in Vm::of_each_kind().await {
            make(&vm);
            vm.set_job("seq 1000; exit 3", upload());
            let mut command = vm.command();
            command.args(["--storage-patience", "8s"]);
            let report = vm.finish(vm.spawn(command)).await;
            expect(
                &report,
                &json!({"cause": "EXIT_CODE", "exit_code": 3, "uploads": [{"from": "stdout", "files": 0, "error": words}],
                        "logs": {"uri": null, "stdout_lines": 1000, "tail": "~1000\n"}, "evidence": ["~the log of stdout is not whole"]}),
            );
        }
    }
}

/// A bucket that is away while a job floods its log costs the oldest of the log in the bucket, and the report says how much.
#[tokio::test]
async fn of_what_waits_for_a_bucket_no_more_than_its_bound_is_kept_and_the_rest_is_counted() {
    const BOUND_BYTES: u64 = 256 << 20;
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    vm.cloud.set_storage_permissions(true, false);
    let script = "echo x >>/shared/starts; head -c 320000000 /dev/urandom | base64; echo said >>/shared/said; \
                  while [ ! -e /shared/go ]; do sleep 0.1; done; echo last words";
    vm.set_job(script, upload());
    let mut command = vm.command();
    // The fake takes its time with so much.
    command.args(["--storage-patience", "60s"]);
    let agent = vm.spawn(command);
    let (mut most, mut seen) = (0, 0);
    until_within(Duration::from_mins(10), "all of the log", async || {
        let files = files(&vm.state_dir().join("spool-1"));
        let sizes = files.iter().filter_map(|file| file.metadata().ok()).map(|file| file.len());
        let bytes: u64 = sizes.sum();
        most = most.max(bytes);
        // It has come to rest.
        seen = if bytes == most { 0 } else { seen + 1 };
        (!vm.shared("said").is_empty() && vm.logs().contains("will not be whole") && seen > 50).then_some(())
    })
    .await;
    assert!(most < BOUND_BYTES, "{most} bytes were on the disk");
    vm.cloud.set_storage_permissions(true, true);
    fs::write(vm.dir().join("shared/go"), "").unwrap();
    let report = vm.finish(agent).await;
    let said = 320_000_000_u64.div_ceil(3) * 4 + 320_000_000_u64.div_ceil(57) + 11;
    assert_eq!(report["logs"]["stdout_bytes"], said);
    let upload = &report["uploads"][0];
    let bytes = upload["bytes"].as_u64().unwrap();
    let missing = said - bytes;
    assert!(missing > 50_000_000 && bytes > 100_000_000, "{report:#}");
    let sentence = format!("~{missing} bytes of it had no place on the VM's disk and are missing");
    expect(
        &report,
        &json!({"cause": "NONE", "uploads": [{"files": 1, "error": sentence}], "evidence": [sentence], "logs": {"tail": "~last words\n"}}),
    );
    let shown = shown(&vm, &format!("logs/{}/1/stdout.log", vm.id()));
    assert!(shown.len() as u64 == bytes && shown.ends_with(b"=\nlast words\n"));
}

#[tokio::test]
async fn each_attempt_has_its_own_log() {
    let Some(vm) = Vm::with_docker().await else { return };
    let mut changes = upload();
    changes["retry"] = json!({"max_attempts": 2, "on": ["EXIT_CODE:75"]});
    let script = "echo attempt $JOB_ATTEMPT; [ $JOB_ATTEMPT = 2 ] || exit 75";
    expect(&vm.run_job(script, changes).await, &json!({"cause": "NONE", "job": {"attempt": 2}}));
    for attempt in 1..=2 {
        let told = shown(&vm, &format!("logs/{}/{attempt}/stdout.log", vm.id()));
        assert_eq!(told, format!("attempt {attempt}\n").into_bytes());
    }
}
