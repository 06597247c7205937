//! Jobs that cannot be run: nothing is started, and the callback says what to change.

use e2e::{Vm, expect};
use fakecloud::Config;
use futures_util::future::join_all;
use serde_json::{Value, json};

/// `job-spec`, `docker-command`, and what the report is to say.
type Case = (Option<Vec<u8>>, Option<Vec<u8>>, &'static str);

async fn reports_invalid((spec, command, message): Case) {
    let vm = Vm::without_docker(Config::default()).await;
    for (key, value) in [("job-spec", spec), ("docker-command", command)] {
        if let Some(value) = value {
            vm.cloud.set_attribute(key, value);
        }
    }
    let report = vm.run().await;
    let text = format!("{} {}", report["message"].as_str().unwrap(), report["fix"].as_str().unwrap_or_default());
    assert!(text.contains(message), "{text:?} lacks {message:?}");
    expect(
        &report,
        &json!({"cause": "INVALID_SPEC", "exit_code": null, "signal": null, "times": {"started_at": null, "finished_at": null},
                "job": {"id": vm.id(), "attempt": 1}, "durations_s": {"run": null}, "logs": {"head": "", "tail": ""}}),
    );
}

#[tokio::test]
async fn a_spec_that_is_wrong_is_reported_with_what_to_change() {
    let nested = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let cases: [(&[u8], &str); 14] = [
        (b"", "empty"),
        (b"{", "JSON"),
        (br#"{"container": {"image": "a"},}"#, "line 1"),
        (b"\xff\xfe{}", "UTF-8"),
        (nested.as_bytes(), "JSON"),
        (b"[]", "object"),
        (b"{}", "container"),
        (br#"{"container": {"imgae": "a"}}"#, r#"did you mean "image"?"#),
        (br#"{"container": {"image": "a"}, "timeuot": "1h"}"#, r#"did you mean "timeout"?"#),
        (br#"{"container": {"image": "a", "memory": "lots"}}"#, "container.memory"),
        (br#"{"container": {"image": "a"}, "timeout": "36"}"#, "no unit"),
        (br#"{"container": {"image": "a"}, "id": "a/b"}"#, "id:"),
        (br#"{"container": {"image": "a"}, "process": {"command": ["b"]}}"#, "not both"),
        (br#"{"container": {"image": "a"}, "container": {"image": "b"}}"#, "container"),
    ];
    join_all(cases.map(|(spec, message)| reports_invalid((Some(spec.into()), None, message)))).await;
}

#[tokio::test]
async fn a_command_that_is_wrong_is_reported_with_what_to_change() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "empty"),
        (b"docker run --evn A=1 a", "did you mean --env?"),
        (b"docker run -p 80:80 a", "-p"),
        (b"docker run a 'b", "never closed"),
        (b"docker run a | tee log", "quote it"),
        (b"docker ps", "docker run"),
        (b"docker run", "no image"),
        (b"docker run a \xff", "UTF-8"),
        (br#"{"container": {"image": "a"}}"#, "job-spec"),
    ];
    join_all(cases.map(|(command, message)| reports_invalid((None, Some(command.into()), message)))).await;
}

#[tokio::test]
async fn there_is_exactly_one_job() {
    reports_invalid((None, None, "`job-spec`")).await;
    reports_invalid((Some(b"{}".to_vec()), Some(b"docker run a".to_vec()), "two jobs")).await;
}

/// What only the engine can find wrong.
#[tokio::test]
async fn what_the_engine_refuses_is_in_its_own_words() {
    let gone = |path: &str| json!({"container": {"mounts": [{"type": "bind", "source": path, "target": "/x"}]}});
    let cases: [(Value, Value); 4] = [
        (gone("/sys/no/such/dir"), json!({"cause": "CREATE_FAILED", "message": "~/sys/no/such/dir"})),
        (
            json!({"container": {"entrypoint": ["/no/such/file"]}}),
            json!({"cause": "START_FAILED", "message": "~/no/such/file"}),
        ),
        (
            json!({"container": {"workdir": "/etc/passwd"}}),
            json!({"cause": "CREATE_FAILED", "message": "~/etc/passwd"}),
        ),
        (json!({"container": {"user": "nobody-here"}}), json!({"cause": "START_FAILED", "message": "~nobody-here"})),
    ];
    for (changes, expected) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        let report = vm.run_job("true", changes).await;
        expect(&report, &expected);
        expect(&report, &json!({"exit_code": null, "durations_s": {"run": null}}));
    }
}
