//! Outputs: what the job has left is in Cloud Storage, byte by byte, when the report is out; or the report says what is not, and why.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use e2e::{Vm, expect, until};
use fakecloud::Config;
use serde_json::{Value, json};

use crate::inputs::content;

fn outputs(vm: &Vm, outputs: &[(&str, &str, bool)]) -> Value {
    let one = |(from, to, required): &(&str, &str, bool)| json!({"from": vm.shared_path(from), "to": to, "required": required});
    json!({"outputs": outputs.iter().map(one).collect::<Vec<_>>()})
}

fn stored(vm: &Vm, name: &str) -> Option<Vec<u8>> {
    Some(vm.cloud.object("b", name)?.content.to_vec())
}

#[tokio::test]
async fn files_and_directories_go_up_whatever_the_exit() {
    for (exit, cause) in [(0, "NONE"), (3, "EXIT_CODE")] {
        for vm in Vm::of_each_kind().await {
            let large = content(3_000_000);
            fs::write(vm.dir().join("shared/large"), &large).unwrap();
            let script = format!(
                "cd /shared && mkdir -p 'out/a b/ü' && echo 1 >'out/a b/ü/x' && : >out/empty && cp large out/large && \
                 ln -s empty out/link && mkfifo out/pipe && for i in $(seq 40); do echo $i >out/$i; done; exit {exit}"
            );
            let changes = outputs(
                &vm,
                &[
                    ("out", "gs://b/o", true),
                    ("large", "gs://b/files/", true),
                    ("large", "gs://b/renamed file", true),
                    ("nodir/", "gs://b/n/", false),
                ],
            );
            let report = vm.run_job(&script, changes).await;
            expect(
                &report,
                &json!({"cause": cause, "exit_code": exit, "uploads": [
                    {"to": "gs://b/o", "files": 44, "error": null},
                    {"to": "gs://b/files/", "files": 1, "bytes": 3_000_000, "error": null},
                    {"to": "gs://b/n/", "files": 0, "error": "~there is no"},
                ], "evidence": ["~nodir"]}),
            );
            for name in ["o/large", "files/large", "renamed file"] {
                assert_eq!(stored(&vm, name).as_ref(), Some(&large), "{name}");
            }
            assert_eq!(stored(&vm, "o/a b/ü/x").unwrap(), b"1\n");
            assert_eq!((stored(&vm, "o/empty").unwrap(), stored(&vm, "o/link").unwrap()), (vec![], vec![]));
            assert_eq!(stored(&vm, "o/40").unwrap(), b"40\n");
            assert_eq!(vm.cloud.objects("b").len(), 46);
            assert_eq!(vm.cloud.uploads_stored(), 46, "nothing goes up twice");
        }
    }
}

#[tokio::test]
async fn what_breaks_on_the_way_goes_on_from_there() {
    for vm in Vm::of_each_kind().await {
        let large = content(5_000_000);
        fs::write(vm.dir().join("shared/large"), &large).unwrap();
        vm.cloud.script_storage("POST /upload", "503,401,reset,reset-after".parse().unwrap());
        let script = "cut-2000000,503,reset,pass,cut-1000000,pass,reset-after,503";
        vm.cloud.script_storage("PUT /upload", script.parse().unwrap());
        let report = vm.run_job("true", outputs(&vm, &[("large", "gs://b/large", true)])).await;
        expect(&report, &json!({"cause": "NONE", "uploads": [{"files": 1, "bytes": 5_000_000, "error": null}]}));
        assert_eq!(stored(&vm, "large").unwrap(), large);
        let requests = vm.cloud.storage_requests();
        let ranges: Vec<&str> = requests.iter().filter_map(|request| request.header("content-range")).collect();
        assert!(ranges.contains(&"bytes 1835008-4999999/5000000"), "{ranges:?}");
        assert_eq!(vm.cloud.uploads_stored(), 1);
    }
}

#[tokio::test]
async fn a_bucket_says_when_it_wants_to_be_asked_again() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    vm.cloud.put_object("b", "in", "1");
    vm.cloud.script_storage("GET /storage/v1/b/b/o/in", "429+retry-after=3".parse().unwrap());
    vm.cloud.script_storage("POST /upload", "503+retry-after=3,429+retry-after=3".parse().unwrap());
    let mut changes = outputs(&vm, &[("x", "gs://b/x", true)]);
    changes["inputs"] = json!([{"from": "gs://b/in", "to": vm.shared_path("x")}]);
    expect(&vm.run_job("true", changes).await, &json!({"cause": "NONE", "uploads": [{"files": 1, "error": null}]}));
    for (line, times) in [("GET", 2), ("POST", 3)] {
        let requests = vm.cloud.storage_requests();
        let at: Vec<Instant> =
            requests.iter().filter(|request| request.method == line).map(|request| request.at).take(times).collect();
        assert_eq!(at.len(), times);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(3)), "{at:?}");
    }
    // But no longer than there is patience.
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    vm.cloud.script_storage("POST /upload", "503+retry-after=3600*100".parse().unwrap());
    vm.set_job("echo 1 >/shared/x", outputs(&vm, &[("x", "gs://b/x", true)]));
    let mut command = vm.command();
    command.args(["--storage-patience", "8s"]);
    let began = Instant::now();
    expect(&vm.finish(vm.spawn(command)).await, &json!({"cause": "OUTPUT_FAILED", "retryable": true}));
    assert!(began.elapsed() < Duration::from_mins(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn damage_on_the_way_is_seen_and_what_is_stored_is_whole() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.damage_next_upload();
        let report = vm.run_job("echo 1 >/shared/x", outputs(&vm, &[("x", "gs://b/x", true)])).await;
        expect(&report, &json!({"cause": "NONE", "uploads": [{"files": 1, "error": null}]}));
        assert_eq!(stored(&vm, "x").unwrap(), b"1\n");
        assert_eq!(vm.cloud.uploads_stored(), 2);
    }
}

/// A required output fails a job that succeeded, and never hides why a job failed.
#[tokio::test]
async fn an_output_that_cannot_be_stored_is_reported() {
    type Break = fn(&Vm);
    let breaks: [(&str, Break, bool, Value); 4] = [
        (
            "x",
            |vm| vm.cloud.set_storage_permissions(true, false),
            false,
            json!({"message": "~403", "fix": "~--role=roles/storage.objectUser"}),
        ),
        ("x", |vm| vm.cloud.remove_bucket("b"), false, json!({"message": "~bucket does not exist", "fix": "~gs://b/"})),
        ("x", |vm| vm.cloud.script_storage("/upload", "503*1000".parse().unwrap()), true, json!({"message": "~503"})),
        ("none", |_| {}, false, json!({"message": "~the job has not made it"})),
    ];
    for (from, make, retryable, expected) in breaks {
        for (exit, required, cause) in [(0, true, "OUTPUT_FAILED"), (0, false, "NONE"), (3, true, "EXIT_CODE")] {
            let Some(vm) = Vm::with_docker().await else { return };
            make(&vm);
            let changes = outputs(&vm, &[(from, "gs://b/x", required)]);
            vm.set_job(&format!("echo 1 >/shared/x; exit {exit}"), changes);
            let mut command = vm.command();
            command.args(["--storage-patience", "2s"]);
            let report = vm.finish(vm.spawn(command)).await;
            expect(&report, &json!({"cause": cause, "exit_code": exit, "uploads": [{"files": 0, "error": "~"}]}));
            if cause == "OUTPUT_FAILED" {
                expect(&report, &expected);
                assert_eq!(report["retryable"], retryable, "{report:#}");
            } else {
                expect(&report, &json!({"evidence": ["~is not at gs://b/x"]}));
            }
            assert!(vm.logs().contains("WARN"), "{}", vm.logs());
        }
    }
}

/// The agent makes the directory, so that it is there tells nothing: what is wanted is files.
#[tokio::test]
async fn a_directory_without_a_file_is_no_output() {
    let nothing = "~the directory is empty: the job has put nothing there";
    for (script, required, cause, error) in [
        ("mkdir /other; echo 1 >/other/x", true, "OUTPUT_FAILED", nothing),
        ("mkdir -p /data/out/sub/sub", true, "OUTPUT_FAILED", nothing),
        ("mkdir /data/out/sub; ln -s sub /data/out/link", true, "OUTPUT_FAILED", "~the job has put only links there"),
        ("exit 0", false, "NONE", nothing),
        ("exit 3", true, "EXIT_CODE", nothing),
    ] {
        let Some(vm) = Vm::with_docker().await else { return };
        let changes = json!({"outputs": [{"from": "/data/out/", "to": "gs://b/o/", "required": required}]});
        let report = vm.run_job(script, changes).await;
        let wanted = json!({"cause": cause, "retryable": false, "uploads": [{"files": 0, "error": error}]});
        expect(&report, &wanted);
        let told = if cause == "OUTPUT_FAILED" {
            json!({"message": error, "fix": "~let the job write to /data/out/"})
        } else {
            json!({"fix": null, "evidence": ["~is not at gs://b/o/"]})
        };
        expect(&report, &told);
        assert_eq!(vm.cloud.objects("b"), [""; 0]);
    }
}

/// Such as `latest`, which many programs make beside the directory that it stands for.
#[tokio::test]
async fn links_that_are_left_out_are_told() {
    for vm in Vm::of_each_kind().await {
        let script =
            "mkdir -p /shared/out/run-1 && cd /shared/out && echo 1 >run-1/x && ln -s run-1 latest && ln -s . run-1/up";
        let report = vm.run_job(script, outputs(&vm, &[("out", "gs://b/", true)])).await;
        expect(
            &report,
            &json!({"cause": "NONE", "uploads": [{"files": 1, "error": null}], "evidence": ["~2 links in the output"]}),
        );
        assert_eq!(report.to_string().matches("are left out").count(), 1, "one sentence: {report:#}");
        assert_eq!(vm.cloud.objects("b"), ["run-1/x"]);
    }
}

/// Such a VM never gets a token, however long it tries. That it wants to send no report lets it run the job.
#[tokio::test]
async fn a_vm_without_a_service_account_is_told_what_it_lacks() {
    for (field, cause) in [("inputs", "INPUT_FAILED"), ("outputs", "OUTPUT_FAILED")] {
        let Some(vm) = Vm::with_docker_and(Config { service_account: None, ..Config::default() }).await else { return };
        vm.cloud.remove_attribute("callback-url");
        let (from, to) = if field == "inputs" { ("gs://b/x", "/shared/in") } else { ("/shared/x", "gs://b/x") };
        vm.set_job("echo 1 >/shared/x", json!({field: [{"from": from, "to": to}]}));
        let mut command = vm.command();
        command.args(["--storage-patience", "1h"]);
        let mut agent = vm.spawn(command);
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        let report: Value = serde_json::from_str(&vm.written_report()).unwrap();
        let wanted = json!({"cause": cause, "retryable": false, "message": "~no service account",
                            "fix": "~create the VM with a service account that has `roles/storage.object"});
        expect(&report, &wanted);
    }
}

/// What is on the machine stays there: a job's links lead nowhere else.
#[tokio::test]
async fn no_link_leads_an_output_out_of_its_mount() {
    let Some(vm) = Vm::with_docker().await else { return };
    fs::write(vm.dir().join("secret"), "secret").unwrap();
    fs::create_dir(vm.dir().join("shared/out")).unwrap();
    symlink(vm.dir().join("secret"), vm.dir().join("shared/out/absolute")).unwrap();
    let script = "cd /shared/out; ln -s ../../secret relative; ln -s /etc/shadow shadow; ln -s .. up; echo 1 >x";
    let report = vm.run_job(script, outputs(&vm, &[("out", "gs://b/", true)])).await;
    expect(&report, &json!({"cause": "OUTPUT_FAILED", "uploads": [{"files": 1, "error": "~and 2 more"}]}));
    assert_eq!(vm.cloud.objects("b"), ["x"]);
}

/// A file that goes on growing is not stored in a state that it never had.
#[tokio::test]
async fn a_file_that_changes_while_it_is_uploaded_is_an_error() {
    for vm in Vm::of_each_kind().await {
        let path = vm.dir().join("shared/x");
        fs::write(&path, content(3_000_000)).unwrap();
        vm.cloud.script_storage("PUT /upload", "cut-1000000,503+delay=3s".parse().unwrap());
        vm.set_job("true", outputs(&vm, &[("x", "gs://b/x", true)]));
        let agent = vm.start();
        until("the upload", async || {
            vm.cloud.storage_requests().iter().any(|request| request.method == "PUT").then_some(())
        })
        .await;
        fs::write(&path, content(2_999_999)).unwrap();
        let report = vm.finish(agent).await;
        expect(
            &report,
            &json!({"cause": "OUTPUT_FAILED", "message": "~changed while it was uploaded", "retryable": false}),
        );
        assert_eq!(vm.cloud.objects("b"), [""; 0]);
    }
}

/// Killed at any moment: the report tells how the job ended, and what was stored is not sent again.
#[tokio::test]
async fn a_restart_goes_on_uploading() {
    for vm in Vm::of_each_kind().await {
        let large = content(20_000_000);
        fs::create_dir(vm.dir().join("shared/out")).unwrap();
        fs::write(vm.dir().join("shared/out/large"), &large).unwrap();
        let script = "echo x >>/shared/starts; echo 1 >/shared/out/a; exit 3";
        vm.set_job(script, outputs(&vm, &[("out/a", "gs://b/a", true), ("out", "gs://b/o/", true)]));
        let line = "PUT /upload/storage/v1/b/b/o?uploadType=resumable&name=o/large&";
        vm.cloud.script_storage(line, "stall-9000000,pass,stall-5000000,hang".parse().unwrap());
        let is_put = |request: &&fakecloud::Recorded| request.method == "PUT" && request.path.contains("large");
        let put = || vm.cloud.storage_requests().iter().filter(is_put).count();
        // The first part; where it stands, and its second part; where it stands.
        for puts in [1, 3, 4] {
            let mut agent = vm.start();
            until("the upload", async || (put() >= puts).then_some(())).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            agent.kill9().await;
        }
        vm.cloud.clear_scripts();
        let report = vm.run().await;
        expect(
            &report,
            &json!({"cause": "EXIT_CODE", "exit_code": 3, "uploads": [{"files": 1, "error": null}, {"files": 2, "error": null}]}),
        );
        assert_eq!(vm.starts(), 1);
        assert_eq!(stored(&vm, "o/large").unwrap(), large);
        assert!(vm.cloud.uploads_stored() <= 4, "{}", vm.cloud.uploads_stored());
        let requests = vm.cloud.storage_requests();
        let begun =
            requests.iter().filter(|request| request.method == "POST" && request.path.contains("large")).count();
        assert_eq!(begun, 1, "one session for all runs");
    }
}

/// Of a Spot VM's last seconds the outputs have theirs, and the report keeps its own.
#[tokio::test]
async fn a_preempted_job_s_outputs_go_up_in_time() {
    for vm in Vm::of_each_kind().await {
        let script = "echo 1 >/shared/x; echo up >/shared/starts; trap '' TERM; while :; do sleep 0.1; done";
        let mut changes = outputs(&vm, &[("x", "gs://b/x", true), ("x", "gs://b/stuck", true)]);
        changes["grace"] = json!("1h");
        vm.cloud.script_storage("name=stuck", "hang*100".parse().unwrap());
        vm.set_job(script, changes);
        let agent = vm.start();
        vm.until_running().await;
        let notice = Instant::now();
        vm.cloud.set("instance/preempted", "TRUE");
        let report = vm.finish(agent).await;
        let taken = vm.cloud.accepted()[0].at - notice;
        expect(
            &report,
            &json!({"cause": "PREEMPTED", "uploads": [{"to": "gs://b/x", "error": null}, {"to": "gs://b/stuck", "error": "~time ran out"}]}),
        );
        assert_eq!(stored(&vm, "x").unwrap(), b"1\n");
        crate::stops::assert_killed_within(&vm, 14);
        assert!(taken < Duration::from_secs(30), "{taken:?}");
    }
}

#[tokio::test]
async fn an_attempt_is_tried_again_when_its_outputs_cannot_be_stored() {
    let Some(vm) = Vm::with_docker().await else { return };
    let mut changes = outputs(&vm, &[("x", "gs://b/x", true)]);
    changes["retry"] = json!({"max_attempts": 2, "on": ["OUTPUT_FAILED"]});
    vm.cloud.script_storage("/upload", "403".parse().unwrap());
    let report = vm.run_job("echo x >>/shared/starts; echo $JOB_ATTEMPT >/shared/x", changes).await;
    expect(&report, &json!({"cause": "NONE", "job": {"attempt": 2}, "evidence": ["~attempt 1: OUTPUT_FAILED"]}));
    assert_eq!((vm.starts(), stored(&vm, "x").unwrap()), (2, b"2\n".to_vec()));
}

#[tokio::test]
async fn the_token_goes_to_no_other_storage() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("echo 1 >/shared/x", outputs(&vm, &[("x", "gs://b/x", true)]));
    let mut command = vm.command();
    command.args(["--storage-endpoint", "http://127.0.0.2:1"]);
    let report = vm.finish(vm.spawn(command)).await;
    expect(
        &report,
        &json!({"cause": "OUTPUT_FAILED", "message": "~the endpoint of Cloud Storage points to 127.0.0.2"}),
    );
}
