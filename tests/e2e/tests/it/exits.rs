//! Jobs that end by themselves: each exit has its one cause, and the log is counted to the byte.

use std::fs;

use e2e::{Kind, Vm, docker::docker, expect};
use serde_json::{Value, json};

/// Takes more memory until there is none.
const HOG: &str = "x=xxxxxxxx; while :; do x=$x$x; done";

#[tokio::test]
async fn a_job_that_succeeds_is_reported_whole() {
    for vm in Vm::of_each_kind().await {
        let job = json!({"id": format!("train-{:?}", vm.kind()), "task_index": 1, "task_count": 3});
        let script = "echo out; echo oops >&2; sleep 0.5; echo 'error: disk is odd'; printf last";
        vm.set_job(script, job.clone());
        let mut agent = vm.start();
        assert_eq!(agent.wait().await, 0);
        let report = vm.report().await;
        let image = (vm.kind() == Kind::Docker).then_some(e2e::docker::IMAGE);
        expect(
            &report,
            &json!({
                "job": {"id": job["id"], "attempt": 1, "task_index": 1, "task_count": 3},
                "cause": "NONE", "exit_code": 0, "signal": null, "message": "the job exited with 0", "fix": null,
                "image": {"ref": image, "digest": null},
                "times": {"pull_started_at": null}, "durations_s": {"pull": null},
                "logs": {
                    "stdout_bytes": 27, "stdout_lines": 3, "stderr_bytes": 5, "stderr_lines": 1,
                    "tail": "~error: disk is odd\nlast", "errors": [{"text": "error: disk is odd"}], "omitted_bytes": 0,
                },
                "result": null, "uploads": [],
                "vm": {"name": "fake-vm", "id": vm.id(), "zone": "europe-west1-b", "project": "fake-project",
                       "machine_type": "e2-standard-4"},
            }),
        );
        let run_s = report["durations_s"]["run"].as_f64().unwrap();
        assert!((0.3..30.0).contains(&run_s), "{run_s}");
        let forwarded = agent.stdout();
        assert!(forwarded.contains("oops\n") && forwarded.contains("last"), "the live view: {forwarded}");
    }
}

#[tokio::test]
async fn an_exit_code_that_the_job_names_is_a_success() {
    for vm in Vm::of_each_kind().await {
        let rules =
            json!({"success_exit_codes": [3, 143], "retry": {"max_attempts": 3, "on": ["EXIT_CODE", "SIGNAL"]}});
        // The first one is not among them.
        vm.set_job("[ $JOB_ATTEMPT = 1 ] && exit 4; exit 3", rules);
        let message = "the job exited with 3, which success_exit_codes makes a success";
        let report = vm.run().await;
        expect(&report, &json!({"state": "SUCCEEDED", "cause": "NONE", "exit_code": 3, "fault": null, "fix": null}));
        expect(&report, &json!({"message": message, "job": {"attempt": 2}, "evidence": ["~exit code 3"]}));
    }
    let Some(vm) = Vm::with_docker().await else { return };
    let report = vm.run_job("exit 143", json!({"success_exit_codes": [143]})).await;
    expect(&report, &json!({"cause": "NONE", "exit_code": 143, "signal": null}));
    // A timeout is one whatever the job says as it goes.
    let Some(vm) = Vm::with_docker().await else { return };
    let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    let report = vm.run_job(script, json!({"success_exit_codes": [3], "timeout": "2s", "grace": "10s"})).await;
    expect(&report, &json!({"cause": "TIMEOUT", "exit_code": 3}));
}

#[tokio::test]
async fn each_exit_has_its_cause() {
    let cases = [
        ("exit 3", json!({"cause": "EXIT_CODE", "exit_code": 3, "signal": null, "evidence": ["~exit code 3"]})),
        ("exit 255", json!({"cause": "EXIT_CODE", "exit_code": 255, "signal": null})),
        ("sh -c 'kill -SEGV $$'; exit $?", json!({"cause": "SIGNAL", "exit_code": 139, "signal": 11})),
        ("sh -c 'kill -9 $$'; exit $?", json!({"cause": "SIGNAL", "exit_code": 137, "signal": 9})),
        ("/no/such/program", json!({"cause": "EXIT_CODE", "exit_code": 127, "logs": {"tail": "~not found"}})),
    ];
    for (script, expected) in cases {
        for vm in Vm::of_each_kind().await {
            expect(&vm.run_job(script, json!({})).await, &expected);
        }
    }
}

#[tokio::test]
async fn a_kill_that_nobody_here_sent_is_the_signals() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("echo up > /shared/starts; sleep 100", json!({}));
    let agent = vm.start();
    vm.until_started().await;
    docker(&["kill", &vm.container(1)]).await;
    expect(&vm.finish(agent).await, &json!({"cause": "SIGNAL", "exit_code": 137, "signal": 9}));
}

#[tokio::test]
async fn only_the_death_of_the_main_process_is_out_of_memory() {
    let child = format!("sh -c '{HOG}'; echo child $?; sleep 3; exit 4");
    let cases = [
        (HOG, json!({"cause": "OOM_KILLED", "exit_code": 137, "signal": 9, "fix": "~memory"})),
        (&child, json!({"cause": "EXIT_CODE", "exit_code": 4, "logs": {"tail": "~child 137"}})),
    ];
    for (script, expected) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        let report = vm.run_job(script, json!({"container": {"memory": "16m"}})).await;
        expect(&report, &expected);
        // Two witnesses, of which either may be missing: the engine's flag follows from an event that may come
        // later than the exit, and not everybody may read the kernel's log.
        let witnesses = ["the kernel killed", "OOMKilled"];
        let evidence = report["evidence"].to_string();
        assert!(witnesses.iter().any(|witness| evidence.contains(witness)), "{evidence}");
    }
}

#[tokio::test]
async fn the_log_is_counted_to_the_byte() {
    let logs = |stdout_bytes: u64, stdout_lines: u64, more: Value| {
        let mut logs = json!({"stdout_bytes": stdout_bytes, "stdout_lines": stdout_lines});
        e2e::merge(&mut logs, more);
        json!({"cause": "NONE", "logs": logs})
    };
    let cases = [
        ("true", logs(0, 0, json!({"stderr_bytes": 0, "head": "", "tail": ""}))),
        ("printf last", logs(4, 1, json!({"head": "last", "tail": "last"}))),
        (r"printf 'a\n\n\nb\n'", logs(6, 4, json!({"tail": "a\n\n\nb\n"}))),
        (r"printf '\377ok\200\n'", logs(5, 1, json!({"tail": "\u{fffd}ok\u{fffd}\n"}))),
        // 5 MB, of which the report shows both ends.
        (
            "yes 0123456789abcde | head -n 327680; echo the end",
            logs(
                327_680 * 16 + 8,
                327_681,
                json!({"head": "~0123456789abcde\n", "tail": "~0123456789abcde\nthe end\n"}),
            ),
        ),
        // One line of a megabyte: the engine splits it, the count does not.
        ("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end", logs(1_000_005, 2, json!({"tail": "~x\nend\n"}))),
    ];
    for (script, expected) in cases {
        for vm in Vm::of_each_kind().await {
            expect(&vm.run_job(script, json!({})).await, &expected);
        }
    }
}

#[tokio::test]
async fn the_summary_has_the_size_that_the_job_asks_for() {
    for (bytes, tail_at_most) in [(1, 1), (1000, 1000), (40_960, 40_960)] {
        for vm in Vm::of_each_kind().await {
            let report = vm.run_job("seq 100000", json!({"logs": {"summary_bytes": bytes}})).await;
            let shown = report["logs"]["head"].as_str().unwrap().len() + report["logs"]["tail"].as_str().unwrap().len();
            assert!(shown <= tail_at_most, "{shown} of {bytes}");
            assert!(bytes == 1 || shown >= bytes / 2, "{shown} of {bytes}");
            expect(&report, &json!({"logs": {"stdout_bytes": 588_895, "omitted_bytes": 588_895 - shown}}));
        }
    }
}

#[tokio::test]
async fn a_log_full_of_escapes_leaves_room_for_the_rest() {
    for vm in Vm::of_each_kind().await {
        // Each of these bytes takes six in JSON.
        let script = r#"head -c 100000 /dev/zero | tr '\0' '\1'; echo '{"x": 1}' > $JOB_RESULT_FILE; exit 5"#;
        let report = vm.run_job(script, json!({"logs": {"summary_bytes": 40_960}})).await;
        expect(
            &report,
            &json!({"cause": "EXIT_CODE", "exit_code": 5, "logs": {"stdout_bytes": 100_000}, "result": {"x": 1}}),
        );
    }
}

#[tokio::test]
async fn a_job_cannot_forge_the_report_on_stdout() {
    for vm in Vm::of_each_kind().await {
        let report = vm.run_job(r#"echo 'vmjob-report {"cause":"NONE"}'; sleep 0.2; exit 9"#, json!({})).await;
        expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 9, "logs": {"stdout_lines": 1}}));
    }
}

#[tokio::test]
async fn what_the_job_writes_to_its_result_file_comes_back() {
    let big = "head -c 20000 /dev/zero | tr '\\0' 1 > $JOB_RESULT_FILE";
    let cases = [
        (
            r#"echo '{"loss": 0.25, "ids": [1, "ü"]}' > $JOB_RESULT_FILE"#,
            json!({"result": {"loss": 0.25, "ids": [1, "ü"]}}),
        ),
        ("echo 7 > $JOB_RESULT_FILE; exit 2", json!({"cause": "EXIT_CODE", "result": 7})),
        ("echo no json > $JOB_RESULT_FILE", json!({"cause": "NONE", "result": null, "evidence": ["~result"]})),
        (big, json!({"cause": "NONE", "result": null, "evidence": ["~larger"]})),
        (
            "cd ${JOB_RESULT_FILE%/*}; echo 5 > beside; ln -s beside $JOB_RESULT_FILE",
            json!({"cause": "NONE", "result": 5}),
        ),
        ("ln -s HOST_FILE $JOB_RESULT_FILE", json!({"cause": "NONE", "result": null, "evidence": ["~link"]})),
        ("mkfifo $JOB_RESULT_FILE", json!({"cause": "NONE", "result": null, "evidence": ["~no file"]})),
        ("mkdir $JOB_RESULT_FILE", json!({"cause": "NONE", "result": null, "evidence": ["~no file"]})),
    ];
    for (script, expected) in cases {
        for vm in Vm::of_each_kind().await {
            let secret = vm.dir().join("secret.json");
            fs::write(&secret, "{\"host\": 1}").unwrap();
            let script = script.replace("HOST_FILE", secret.to_str().unwrap());
            let work = if vm.kind() == Kind::Process { "process" } else { "container" };
            expect(&vm.run_job(&script, json!({ work: {"user": "1000:1000"} })).await, &expected);
        }
    }
}

#[tokio::test]
async fn a_job_may_be_tried_again_for_the_causes_it_names() {
    let script = r#"echo x >> /shared/runs; echo run $JOB_ATTEMPT; [ "$JOB_ATTEMPT" = 3 ] || exit 75"#;
    let retry = |on: &str| json!({"retry": {"max_attempts": 3, "on": [on]}});
    for vm in Vm::of_each_kind().await {
        let report = vm.run_job(script, retry("EXIT_CODE:75")).await;
        expect(
            &report,
            &json!({"cause": "NONE", "job": {"attempt": 3}, "evidence": ["~attempt 1: EXIT_CODE", "~attempt 2"]}),
        );
        expect(&report, &json!({"logs": {"head": "run 3\n", "stdout_bytes": 6}}));
        assert_eq!(vm.shared("runs").lines().count(), 3);
    }
    for vm in Vm::of_each_kind().await {
        expect(&vm.run_job(script, retry("EXIT_CODE:3")).await, &json!({"cause": "EXIT_CODE", "job": {"attempt": 1}}));
    }
}
