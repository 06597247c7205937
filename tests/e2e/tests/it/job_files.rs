//! What a job names is opened as the job sees it and with the job's rights, and a file system that hangs takes only what is on it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Hang, Kind, UNTIL_LET_GO, Vm, expect, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::inputs::content;

/// The user of Debian's `nobody`, with whom a machine's files have nothing to do.
const NOBODY: u32 = 65534;

fn output(vm: &Vm, from: &str) -> Value {
    json!({"outputs": [{"from": vm.shared_path(from), "to": "gs://b/o/"}]})
}

/// A directory of its own for the VM's `shared`, in which all may write.
fn open_shared(vm: &Vm) -> PathBuf {
    let shared = vm.dir().join("shared");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    shared
}

fn run_as(vm: &Vm, user: u32) -> Value {
    match vm.kind() {
        Kind::Process => json!({"process": {"user": "nobody"}}),
        _ => json!({"container": {"user": format!("{user}:{user}")}}),
    }
}

fn both(mut one: Value, other: Value) -> Value {
    e2e::merge(&mut one, other);
    one
}

fn error_of(upload: &Value) -> &str {
    upload["error"].as_str().unwrap_or_default()
}

/// The root is the mount's source, and not the directory that it is in.
#[tokio::test]
async fn no_link_leads_an_output_out_of_a_mount_that_is_named_itself() {
    for user in ["1000:1000", "0"] {
        let Some(vm) = Vm::with_docker().await else { return };
        open_shared(&vm);
        fs::create_dir(vm.dir().join("other")).unwrap();
        fs::write(vm.dir().join("other/key"), "key").unwrap();
        let script = "cd /shared; ln -s /etc/shadow a; ln -s ../other/key b; ln -s /other/key c; ln -s ../shared/x d; \
                      ln -s /proc/1/environ e; echo 1 >x; ln -s /shared/x f; ln -s ../../../../shared/./x g";
        let report = vm.run_job(script, both(json!({"container": {"user": user}}), output(&vm, ""))).await;
        expect(&report, &json!({"cause": "OUTPUT_FAILED", "uploads": [{"files": 4, "error": "~and 3 more"}]}));
        assert_eq!(vm.cloud.objects("b"), ["o/d", "o/f", "o/g", "o/x"], "those that lead the job to its own file");
    }
}

/// What an attempt before this one has left in a mount does not lead an input out of it.
#[tokio::test]
async fn no_link_leads_an_input_out_of_a_mount_that_is_named_itself() {
    let Some(vm) = Vm::with_docker().await else { return };
    let shared = open_shared(&vm);
    let outside = vm.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("in"), "kept").unwrap();
    symlink("../outside", shared.join("dir")).unwrap();
    symlink("../outside/in", shared.join("in")).unwrap();
    for name in ["p/in", "p/dir/x"] {
        vm.cloud.put_object("b", name, "x");
    }
    let report = vm.run_job("true", json!({"inputs": [{"from": "gs://b/p/", "to": "/shared/"}]})).await;
    expect(&report, &json!({"cause": "INPUT_FAILED"}));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("in")).unwrap(), "kept");
}

/// A source that is a file is that file; one that is not there yet is made, as a file or as a directory.
#[tokio::test]
async fn a_mount_s_source_may_be_the_file_itself() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.put_object("b", "in", "new");
    vm.cloud.put_object("b", "p/x", "x");
    fs::write(vm.dir().join("old"), "old, and longer").unwrap();
    symlink("old", vm.dir().join("link")).unwrap();
    let mount = |name: &str| json!({"type": "bind", "source": vm.dir().join(name), "target": format!("/{name}")});
    let changes = json!({
        "container": {"mounts": [mount("link"), mount("fresh"), mount("dir")]},
        "inputs": [{"from": "gs://b/in", "to": "/link"}, {"from": "gs://b/in", "to": "/fresh"}, {"from": "gs://b/p/", "to": "/dir"}],
        "outputs": [{"from": "/link", "to": "gs://b/link"}, {"from": "/dir/", "to": "gs://b/dir/"}],
    });
    let report = vm.run_job("cat /link /fresh /dir/x && echo out >/link && echo 1 >/dir/y", changes).await;
    expect(&report, &json!({"cause": "NONE", "logs": {"head": "newnewx"}}));
    assert_eq!(*vm.cloud.object("b", "link").unwrap().content, b"out\n");
    assert_eq!(vm.cloud.objects("b"), ["dir/x", "dir/y", "in", "link", "p/x"]);
    assert!(vm.dir().join("link").is_symlink() && fs::read_to_string(vm.dir().join("old")).unwrap() == "out\n");
}

/// A mount in a mount is what the job has there; what it cannot have written, and what the agent cannot reach, is no output.
#[tokio::test]
async fn mounts_in_mounts_are_seen_as_the_job_sees_them() {
    let Some(vm) = Vm::with_docker().await else { return };
    for dir in ["shared/deep", "shared/ref", "shared/tmp", "deep", "ref"] {
        fs::create_dir_all(vm.dir().join(dir)).unwrap();
    }
    for file in ["shared/deep/hidden", "ref/large"] {
        fs::write(vm.dir().join(file), "x").unwrap();
    }
    vm.cloud.put_object("b", "in", "in");
    let bind = |source: &str, target: &str, ro: bool| json!({"type": "bind", "source": vm.dir().join(source), "target": target, "read_only": ro});
    let mounts = json!([
        bind("shared", "/shared", false),
        bind("deep", "/shared/deep", false),
        bind("ref", "/shared/ref", true),
        {"type": "tmpfs", "target": "/shared/tmp"},
    ]);
    let changes = json!({
        "container": {"mounts": mounts},
        "inputs": [{"from": "gs://b/in", "to": "/shared/deep/in"}],
        "outputs": [{"from": "/shared/", "to": "gs://b/o/"}, {"from": "/shared/ref/large", "to": "gs://b/ref"}],
    });
    let script = "cd /shared && cat deep/in && echo 1 >x && echo 2 >deep/y && echo 3 >tmp/z && ln -s deep/y link";
    let report = vm.run_job(script, changes).await;
    expect(&report, &json!({"cause": "NONE", "logs": {"head": "in"}}));
    assert_eq!(vm.cloud.objects("b"), ["in", "o/deep/in", "o/deep/y", "o/link", "o/x", "ref"]);
    assert!(vm.logs().contains("the mount /shared/tmp in the output /shared/ is not uploaded"), "{}", vm.logs());
}

/// A job may put a link in the place of a source that another mount lets it write to, by whatever name that has it.
#[tokio::test]
async fn a_source_that_the_job_swaps_for_a_link_leads_nowhere() {
    for (outer, inner, from) in [
        ("shared", "shared/b", "/b/"),
        ("alias", "shared/b", "/b/"),
        ("shared", "alias/b", "/b/"),
        ("shared", "into", "/b/"),
        ("alias", "shared/b/x", "/b"),
    ] {
        let Some(vm) = Vm::with_docker().await else { return };
        fs::create_dir_all(vm.dir().join("shared/b")).unwrap();
        fs::create_dir(vm.dir().join("outside")).unwrap();
        for file in ["shared/b/x", "outside/key", "outside/x"] {
            fs::write(vm.dir().join(file), "key").unwrap();
        }
        symlink("shared", vm.dir().join("alias")).unwrap();
        symlink("shared/b", vm.dir().join("into")).unwrap();
        let changes = json!({
            "container": {"mounts": [
                {"type": "bind", "source": vm.dir().join(outer), "target": "/shared"},
                {"type": "bind", "source": vm.dir().join(inner), "target": "/b"},
            ]},
            "outputs": [{"from": from, "to": "gs://b/o/"}],
        });
        let report = vm.run_job("cd /shared && mv b c && ln -s ../outside b", changes).await;
        expect(&report, &json!({"cause": "OUTPUT_FAILED"}));
        assert!(vm.cloud.objects("b").is_empty(), "{outer} {inner} {from}");
    }
}

/// By a link, or by what it may name but not read: what the job cannot read it gets by no output, and no result.
#[tokio::test]
async fn an_output_has_no_more_rights_than_the_job() {
    let mut cases: Vec<(Vm, Value)> =
        Vm::of_each_kind().await.into_iter().map(|vm| (run_as(&vm, 1000), vm)).map(|(user, vm)| (vm, user)).collect();
    // By the image's own list.
    for user in ["job", "1000"] {
        cases.extend(Vm::with_docker().await.map(|vm| (vm, json!({"container": {"user": user}}))));
    }
    for (vm, user) in cases {
        let shared = open_shared(&vm);
        for (name, mode) in [("secret", 0o600), ("group", 0o640), ("closed/x", 0o644)] {
            let path = shared.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "{\"secret\": 1}").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(shared.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        let script = "mkdir /shared/out && cd /shared/out && echo 1 >fine && (umask 077; echo 2 >own) && \
                      ln -s /etc/shadow a; ln -s ../secret b; ln -s ../group c; ln -s ../closed/x d; ln -s ../closed e; \
                      ln ../secret hard; ln /shared/secret \"$JOB_RESULT_FILE\"; mkdir shut; echo 3 >shut/x; chmod 0 shut";
        let changes = both(user, output(&vm, "out"));
        let report = vm.run_job(script, changes).await;
        expect(&report, &json!({"cause": "OUTPUT_FAILED", "uploads": [{"files": 2}], "result": null}));
        assert!(error_of(&report["uploads"][0]).contains("Permission denied"), "{report:#}");
        assert_eq!(vm.cloud.objects("b"), ["o/fine", "o/own"]);
        fs::set_permissions(shared.join("out/shut"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// By a link that the user has put there, or where the user may not write.
#[tokio::test]
async fn an_input_has_no_more_rights_than_the_job() {
    for vm in Vm::of_each_kind().await {
        let shared = open_shared(&vm);
        fs::create_dir(shared.join("root-s")).unwrap();
        fs::create_dir(shared.join("user-s")).unwrap();
        chown(shared.join("user-s"), Some(NOBODY), Some(NOBODY)).unwrap();
        symlink("../root-s", shared.join("user-s/link")).unwrap();
        vm.cloud.put_object("b", "in", "x");
        let changes = json!({"inputs": [{"from": "gs://b/in", "to": vm.shared_path("user-s/link/in")}]});
        let report = vm.run_job("true", both(run_as(&vm, NOBODY), changes)).await;
        expect(&report, &json!({"cause": "INPUT_FAILED", "message": "~Permission denied", "fix": "~the job's user"}));
        assert_eq!(fs::read_dir(shared.join("root-s")).unwrap().count(), 0);
    }
}

/// A user that has only a name is known once there has been a container.
#[tokio::test]
async fn a_second_attempt_s_inputs_have_no_more_rights_than_the_first_had() {
    for user in ["job", "1000:1000"] {
        let Some(vm) = Vm::with_docker().await else { return };
        let shared = open_shared(&vm);
        fs::create_dir(shared.join("root-s")).unwrap();
        for name in ["x", "p/x"] {
            vm.cloud.put_object("b", name, "x");
        }
        let script = "echo x >>/shared/starts; mv /shared/dir /shared/old; ln -s root-s /shared/dir; exit 75";
        let changes = json!({"container": {"user": user}, "retry": {"max_attempts": 2, "on": ["EXIT_CODE:75"]},
                             "inputs": [{"from": "gs://b/p/", "to": "/shared/dir"}]});
        let report = vm.run_job(script, changes).await;
        expect(&report, &json!({"cause": "INPUT_FAILED", "job": {"attempt": 2}, "message": "~Permission denied"}));
        assert_eq!((vm.starts(), fs::read_dir(shared.join("root-s")).unwrap().count()), (1, 0));
    }
}

/// So it may change them, and remove them.
#[tokio::test]
async fn inputs_belong_to_the_job_s_user() {
    for vm in Vm::of_each_kind().await {
        let shared = open_shared(&vm);
        vm.cloud.put_object("b", "p/deep/in", "x");
        let changes = json!({"inputs": [{"from": "gs://b/p/", "to": vm.shared_path("p")}]});
        let script = "cd /shared/p/deep && echo y >>in && echo z >new && rm new";
        let report = vm.run_job(script, both(run_as(&vm, NOBODY), changes)).await;
        expect(&report, &json!({"cause": "NONE"}));
        for (path, mode) in [("p", 0o755), ("p/deep", 0o755), ("p/deep/in", 0o644)] {
            let metadata = fs::metadata(shared.join(path)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (NOBODY, NOBODY, mode), "{path}");
        }
    }
    // Under no mount too.
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.put_object("b", "p/deep/in", "x");
    let changes = json!({"container": {"user": "1000:1000"}, "inputs": [{"from": "gs://b/p/", "to": "/in/p"}],
                         "outputs": [{"from": "/in/p", "to": "gs://b/o/"}]});
    let report = vm.run_job("cd /in/p/deep && echo y >>in && echo z >new", changes).await;
    expect(&report, &json!({"cause": "NONE", "uploads": [{"files": 2, "error": null}]}));
    let left: Vec<_> = fs::read_dir(vm.state_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("files")), "{left:?}");
}

/// Anything that is renamed anywhere on the VM.
#[tokio::test]
async fn renames_meanwhile_cost_no_output() {
    for vm in Vm::of_each_kind().await {
        let done = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&done);
        let (one, other) = (vm.dir().join("one"), vm.dir().join("other"));
        fs::create_dir(&one).unwrap();
        let script = "mkdir -p /shared/out/sub && cd /shared/out && echo 1 >sub/x && for i in $(seq 300); do ln -s ../sub/../sub/x sub/$i; done";
        vm.set_job(script, output(&vm, "out"));
        let renaming = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                fs::rename(&one, &other).unwrap();
                fs::rename(&other, &one).unwrap();
            }
        });
        let report = vm.run().await;
        done.store(true, Ordering::Relaxed);
        renaming.join().unwrap();
        expect(&report, &json!({"cause": "NONE", "uploads": [{"files": 301, "error": null}]}));
    }
}

/// Waits for the agent's end with the file systems that hang still there, and for the report without them.
async fn finish_beside<T>(vm: &Vm, mut agent: e2e::Agent, hangs: T) -> Value {
    let status = agent.wait().await;
    drop(hangs);
    assert_eq!(status, 0, "{}", agent.log());
    vm.report().await
}

async fn let_go_with(vm: &Vm, hang: impl FnOnce() -> Hang, arguments: &[&str]) -> (Hang, e2e::Agent) {
    let mut command = vm.command();
    command.args(arguments);
    let agent = vm.spawn(command);
    vm.until_running().await;
    let hang = hang();
    vm.let_go();
    (hang, agent)
}

/// FUSE or NFS without its server: the report goes out without what is there.
#[tokio::test]
async fn a_file_system_that_hangs_costs_what_is_on_it_and_nothing_else() {
    for vm in Vm::of_each_kind().await {
        let from = |name: &str| json!({"from": vm.shared_path(name), "to": format!("gs://b/{name}")});
        let changes =
            json!({"outputs": [from("hung/x"), from("fine"), from("hung"), from("all/"), from("reads/file")]});
        let script = format!(
            "mkdir -p /shared/hung /shared/all /shared/reads; echo 1 >/shared/fine; echo 1 >/shared/all/x; echo x >>/shared/starts; {UNTIL_LET_GO}"
        );
        vm.set_job(&script, changes);
        let shared = vm.dir().join("shared");
        let hang = || Hang::everywhere(&shared.join("hung"));
        let (hang, agent) = let_go_with(&vm, hang, &["--storage-patience", "8s"]).await;
        let more = [Hang::everywhere(&shared.join("all/hung")), Hang::in_reads(&shared.join("reads"))];
        let began = Instant::now();
        let report = finish_beside(&vm, agent, (hang, more)).await;
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
        let stuck = |name: &str| json!({"to": format!("gs://b/{name}"), "files": 0, "error": "~no answer from the file system at "});
        let uploads = json!([stuck("hung/x"), {"to": "gs://b/fine", "files": 1, "error": null}, stuck("hung"),
                             {"error": "~no answer from the file system at"}, stuck("reads/file")]);
        expect(&report, &json!({"cause": "OUTPUT_FAILED", "exit_code": 0, "uploads": uploads}));
        assert!(error_of(&report["uploads"][0]).ends_with("for 2 s"), "{report:#}");
    }
}

/// What the loop has to hear, it hears meanwhile.
#[tokio::test]
async fn a_file_system_that_hangs_holds_up_no_stop() {
    for is_in_reads in [false, true] {
        for vm in Vm::of_each_kind().await {
            let script = format!("mkdir /shared/hung; echo x >>/shared/starts; {UNTIL_LET_GO}");
            vm.set_job(&script, output(&vm, if is_in_reads { "hung/file" } else { "hung/x" }));
            let dir = vm.dir().join("shared/hung");
            let hang = || if is_in_reads { Hang::in_reads(&dir) } else { Hang::everywhere(&dir) };
            let (hang, agent) = let_go_with(&vm, hang, &["--storage-patience", "1h"]).await;
            vm.until_phase("EXITED").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let began = Instant::now();
            vm.cloud.set_attribute("job-cancel", "true");
            let report = finish_beside(&vm, agent, hang).await;
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
            expect(&report, &json!({"exit_code": 0, "uploads": [{"files": 0, "error": "~was cancelled"}]}));
        }
    }
}

/// A job of root may mount something there.
#[tokio::test]
async fn a_result_that_hangs_is_told_and_tidying_up_goes_on() {
    for vm in Vm::of_each_kind().await {
        vm.set_job(&format!("echo x >>/shared/starts; {UNTIL_LET_GO}"), json!({}));
        let dir = vm.state_dir().join("result-1");
        let (hang, agent) = let_go_with(&vm, || Hang::everywhere(&dir), &[]).await;
        let began = Instant::now();
        let report = finish_beside(&vm, agent, hang).await;
        assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
        expect(
            &report,
            &json!({"cause": "NONE", "result": null, "evidence": ["~failed to open the result: no answer from the file system at"]}),
        );
    }
}

/// An input's directory may hang too; then the job does not begin.
#[tokio::test]
async fn an_input_on_a_file_system_that_hangs_is_told() {
    let Some(vm) = Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == Kind::Process) else { return };
    vm.cloud.put_object("b", "in", content(10));
    let hang = Hang::everywhere(&vm.dir().join("shared/hung"));
    vm.set_job("true", json!({"inputs": [{"from": "gs://b/in", "to": vm.shared_path("hung/in")}]}));
    let mut command = vm.command();
    command.args(["--storage-patience", "8s"]);
    let agent = vm.spawn(command);
    let report = finish_beside(&vm, agent, hang).await;
    expect(&report, &json!({"cause": "INPUT_FAILED", "message": "~no answer from the file system at"}));
    // And SIGTERM ends it at once.
    let Some(vm) = Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == Kind::Process) else { return };
    vm.cloud.put_object("b", "in", content(10));
    let hang = Hang::everywhere(&vm.dir().join("shared/hung"));
    vm.set_job("true", json!({"inputs": [{"from": "gs://b/in", "to": vm.shared_path("hung/in")}]}));
    let mut command = vm.command();
    command.args(["--storage-patience", "1h"]);
    let agent = vm.spawn(command);
    until("the look-up", async || (!vm.cloud.storage_requests().is_empty()).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    agent.signal(Signal::TERM);
    expect(&finish_beside(&vm, agent, hang).await, &json!({"cause": "VM_SHUTDOWN"}));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
