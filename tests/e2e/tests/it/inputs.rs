//! Inputs: what is in Cloud Storage is there, whole, when the job begins; or the job does not begin, and the report says why.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use e2e::{Vm, expect, files, until};
use serde_json::{Value, json};

/// Bytes that no two places of have in common.
pub(crate) fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}

fn inputs(vm: &Vm, inputs: &[(&str, &str)]) -> Value {
    let inputs: Vec<Value> = inputs.iter().map(|(from, to)| json!({"from": from, "to": vm.shared_path(to)})).collect();
    json!({"inputs": inputs})
}

#[tokio::test]
async fn objects_and_prefixes_are_there_when_the_job_begins() {
    for vm in Vm::of_each_kind().await {
        let large = content(3_000_000);
        vm.cloud.put_object("b", "data/in file ü.csv", large.clone());
        for (name, text) in
            [("p/a", "A"), ("p/deep/er/b c", "B"), ("p/empty", ""), ("p/", ""), ("p/made/", ""), ("pq", "no")]
        {
            vm.cloud.put_object("b", name, text);
        }
        for number in 0..30 {
            vm.cloud.put_object("b", &format!("p/many/{number}"), number.to_string());
        }
        vm.cloud.set_page_size(7);
        let changes = inputs(
            &vm,
            &[("gs://b/data/in file ü.csv", "in.csv"), ("gs://b/data/in file ü.csv", "dir/"), ("gs://b/p/", "tree")],
        );
        let script = "cd /shared/tree && cat a 'deep/er/b c' empty && ls -d made && find many -type f | wc -l";
        let report = vm.run_job(script, changes).await;
        expect(&report, &json!({"cause": "NONE", "logs": {"head": "ABmade\n30\n"}, "uploads": []}));
        let shared = vm.dir().join("shared");
        assert_eq!(fs::read(shared.join("in.csv")).unwrap(), large);
        assert_eq!(fs::read(shared.join("dir/in file ü.csv")).unwrap(), large);
        assert_eq!(fs::metadata(shared.join("in.csv")).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(!shared.join("pq").exists());
        assert!(leftovers(&shared).is_empty());
    }
}

/// One object under two names in one directory, and one that a prefix has too; and of two that go to one place the later stays.
#[tokio::test]
async fn inputs_do_not_get_in_each_other_s_way() {
    for vm in Vm::of_each_kind().await {
        let large = content(3_000_000);
        for name in ["p/large", "other"] {
            vm.cloud.put_object("b", name, if name == "other" { b"other".to_vec() } else { large.clone() });
        }
        let changes = inputs(
            &vm,
            &[
                ("gs://b/p/large", "in/one"),
                ("gs://b/p/large", "in/two"),
                ("gs://b/p/", "in"),
                ("gs://b/p/large", "in/large"),
                ("gs://b/p/large", "in/"),
                ("gs://b/other", "in/one"),
            ],
        );
        expect(&vm.run_job("true", changes).await, &json!({"cause": "NONE"}));
        let dir = vm.dir().join("shared/in");
        for (name, wanted) in [("one", &b"other"[..]), ("two", &large), ("large", &large)] {
            assert!(fs::read(dir.join(name)).unwrap() == wanted, "{name}");
        }
        assert_eq!(fs::read_dir(dir).unwrap().count(), 3);
    }
}

/// Files of downloads that are not done.
fn leftovers(dir: &std::path::Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".part")).collect()
}

/// The example of the contract, without its mount.
#[tokio::test]
async fn a_container_needs_no_mount_for_its_files() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.put_object("b", "in.csv", "1,2\n");
    vm.cloud.put_object("b", "conf", "x=1\n");
    vm.set_job(
        "cat /data/in.csv /etc/app.conf /etc/passwd && mkdir /data/out && echo 3 >/data/out/result",
        json!({
            "container": {"user": "1000:1000"},
            "inputs": [{"from": "gs://b/in.csv", "to": "/data/in.csv"}, {"from": "gs://b/conf", "to": "/etc/app.conf"}],
            "outputs": [{"from": "/data/out", "to": "gs://b/out/", "required": true}],
        }),
    );
    let report = vm.run().await;
    let upload = json!({"from": "/data/out", "to": "gs://b/out/", "files": 1, "bytes": 2, "error": null});
    expect(&report, &json!({"cause": "NONE", "logs": {"head": "~1,2\nx=1\nroot:"}, "uploads": [upload]}));
    assert_eq!(*vm.cloud.object("b", "out/result").unwrap().content, b"3\n");
    let left: Vec<_> = fs::read_dir(vm.state_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("files")), "{left:?}");
}

#[tokio::test]
async fn what_breaks_on_the_way_is_fetched_on_from_there() {
    for vm in Vm::of_each_kind().await {
        let large = content(5_000_000);
        vm.cloud.put_object("b", "in", large.clone());
        let script = "503,cut-1000000,reset,401,cut-3000000,429,truncate,503".parse().unwrap();
        vm.cloud.script_storage("alt=media", script);
        vm.cloud.script_storage("GET", "503,reset,pass".parse().unwrap());
        let report = vm.run_job("true", inputs(&vm, &[("gs://b/in", "in")])).await;
        expect(&report, &json!({"cause": "NONE"}));
        assert_eq!(fs::read(vm.dir().join("shared/in")).unwrap(), large);
        let ranges: Vec<String> = vm
            .cloud
            .storage_requests()
            .iter()
            .filter_map(|request| Some(request.header("range")?.to_owned()))
            .collect();
        assert!(ranges.len() >= 3, "{ranges:?}");
    }
}

#[tokio::test]
async fn a_server_that_stands_still_is_left() {
    let Some(vm) = Vm::with_docker().await else { return };
    let large = content(2_000_000);
    vm.cloud.put_object("b", "in", large.clone());
    vm.cloud.script_storage("alt=media", "stall-1000000,hang*20".parse().unwrap());
    vm.set_job("true", inputs(&vm, &[("gs://b/in", "in")]));
    let mut command = vm.command();
    command.args(["--storage-patience", "8s"]);
    expect(
        &vm.finish(vm.spawn(command)).await,
        &json!({"cause": "INPUT_FAILED", "retryable": true, "message": "~nothing came for"}),
    );
    assert_eq!(vm.starts(), 0);
}

#[tokio::test]
async fn an_input_that_cannot_be_had_is_named_with_what_to_do() {
    type Break = fn(&Vm);
    let breaks: [(&str, &str, Break, Value); 7] = [
        (
            "gs://b/none",
            "in",
            |_| {},
            json!({"retryable": false, "message": "~No such object: b/none", "fix": "~gcloud storage ls gs://b/"}),
        ),
        (
            "gs://b/in",
            "in",
            |vm| vm.cloud.remove_bucket("b"),
            json!({"retryable": false, "message": "~bucket does not exist"}),
        ),
        (
            "gs://b/p/",
            "in",
            |vm| vm.cloud.set_storage_permissions(false, true),
            json!({"retryable": false, "message": "~403",
                   "fix": "~add-iam-policy-binding gs://b --member=serviceAccount:123456789012-compute@developer.gserviceaccount.com --role=roles/storage.objectViewer"}),
        ),
        ("gs://b/empty/", "in", |_| {}, json!({"retryable": false, "message": "~no object below gs://b/empty/"})),
        ("gs://b/evil/", "in", |_| {}, json!({"retryable": false, "message": "~its name is no path"})),
        (
            "gs://b/in",
            "in/",
            |vm| fs::write(vm.dir().join("shared/in"), "a file").unwrap(),
            json!({"retryable": false, "message": "~Not a directory"}),
        ),
        (
            "gs://b/in",
            "in",
            |vm| vm.cloud.script_storage("alt=media", "412".parse().unwrap()),
            json!({"retryable": false, "message": "~replaced while it was fetched"}),
        ),
    ];
    for (from, to, make, expected) in breaks {
        for vm in Vm::of_each_kind().await {
            vm.cloud.put_object("b", "in", "x");
            vm.cloud.put_object("b", "evil/../../../../../../tmp/vmjob-evil", "x");
            make(&vm);
            let report = vm.run_job("echo x >>/shared/starts", inputs(&vm, &[(from, to)])).await;
            expect(&report, &json!({"cause": "INPUT_FAILED", "exit_code": null, "fault": "platform"}));
            expect(&report, &expected);
            assert_eq!(vm.starts(), 0, "{from}");
            assert!(!std::path::Path::new("/tmp/vmjob-evil").exists());
        }
    }
}

/// What an earlier job has left in a mounted directory does not lead the agent out of it.
#[tokio::test]
async fn no_link_leads_an_input_out_of_its_mount() {
    let Some(vm) = Vm::with_docker().await else { return };
    let outside = vm.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, vm.dir().join("shared/dir")).unwrap();
    vm.cloud.put_object("b", "in", "x");
    let report = vm.run_job("true", inputs(&vm, &[("gs://b/in", "dir/in")])).await;
    expect(&report, &json!({"cause": "INPUT_FAILED"}));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn damage_on_the_way_is_seen() {
    let Some(vm) = Vm::with_docker().await else { return };
    let large = content(1_000_000);
    vm.cloud.put_object("b", "in", large.clone());
    // As many bytes as there are, and not these.
    let body = "x".repeat(large.len());
    let damaged = format!("200+body={body}");
    vm.cloud.script_storage("alt=media", damaged.parse().unwrap());
    let report = vm.run_job("true", inputs(&vm, &[("gs://b/in", "in")])).await;
    expect(&report, &json!({"cause": "NONE"}));
    assert_eq!(fs::read(vm.dir().join("shared/in")).unwrap(), large);
    assert!(vm.cloud.storage_requests().len() >= 3);
}

/// Killed at any moment, the job begins once, with whole inputs, and what was fetched is not fetched again.
#[tokio::test]
async fn a_restart_goes_on_fetching() {
    for vm in Vm::of_each_kind().await {
        let large = content(8_000_000);
        vm.cloud.put_object("b", "p/large", large.clone());
        vm.cloud.put_object("b", "p/a", "A");
        // Each run gets so far and no further.
        vm.cloud.script_storage("p/large?alt=media", "stall-2000000,stall-3000000,hang".parse().unwrap());
        vm.set_job("echo x >>/shared/starts; wc -c </shared/p/large", inputs(&vm, &[("gs://b/p/", "p")]));
        let asked = || vm.cloud.storage_requests().iter().filter(|request| request.path.contains("large?alt")).count();
        let has = |bytes| {
            let is_part = |file: &PathBuf| file.to_string_lossy().contains(".part");
            let parts = files(&vm.dir().join("shared/p")).into_iter().filter(is_part);
            parts.filter_map(|part| part.metadata().ok()).any(|part| part.len() == bytes)
        };
        for (run, bytes) in [(1, 2_000_000), (2, 5_000_000), (3, 5_000_000)] {
            let mut agent = vm.start();
            until("the download", async || (asked() == run && has(bytes)).then_some(())).await;
            agent.kill9().await;
        }
        expect(&vm.run().await, &json!({"cause": "NONE", "logs": {"head": "8000000\n"}}));
        assert_eq!(vm.starts(), 1);
        assert_eq!(fs::read(vm.dir().join("shared/p/large")).unwrap(), large);
        assert!(leftovers(&vm.dir().join("shared/p")).is_empty());
        let requests = vm.cloud.storage_requests();
        assert_eq!(requests.iter().filter(|request| request.path.contains("p%2Fa?alt=media")).count(), 1);
        let ranges: Vec<&str> = requests.iter().filter_map(|request| request.header("range")).collect();
        assert!(ranges.contains(&"bytes=5000000-"), "{ranges:?}");
    }
}

#[tokio::test]
async fn a_stop_ends_the_fetching() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.put_object("b", "in", content(1_000_000));
        vm.cloud.script_storage("alt=media", "stall-10".parse().unwrap());
        vm.set_job("echo x >>/shared/starts", inputs(&vm, &[("gs://b/in", "in")]));
        let agent = vm.start();
        until("the download", async || {
            vm.cloud.storage_requests().iter().any(|request| request.path.contains("alt=media")).then_some(())
        })
        .await;
        vm.cloud.set_attribute("job-cancel", "true");
        expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED", "exit_code": null}));
        assert_eq!(vm.starts(), 0);
    }
}
