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
        (br#"{"container": {"image": "a"}, "process": {"command": ["b"]}}"#, "are both given"),
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

/// Neither the report nor the console nor the log shows a value of a job that is wrong.
#[tokio::test]
async fn a_secret_in_a_job_that_is_wrong_is_shown_nowhere() {
    let cases: [(&str, &str, &str); 14] = [
        ("docker-command", "HF_TOKEN=hunter2Z docker run -e HF_TOKEN IMG", "write -e HF_TOKEN=…"),
        ("docker-command", "export HF_TOKEN=hunter2Z; docker run a", "write -e HF_TOKEN=…"),
        ("docker-command", "docker run -e hunter2Z a", "has no value"),
        ("docker-command", "docker run -e TOKEN= hunter2Z a", "without a space"),
        ("docker-command", "docker run TOKEN=hunter2Z a", "write -e TOKEN=…"),
        ("docker-command", "docker run https://bot:hunter2Z@ghcr.io/a", "it is a URL"),
        ("docker-command", "docker run --tokn=hunter2Z a", "unknown flag --tokn"),
        ("docker-command", "docker run -Thunter2Z a", "unknown flag -T"),
        ("docker-command", "docker run --log-opt hunter2Z a", "expected name=value"),
        ("docker-command", "docker login -u bot -phunter2Z", "docker login is another command"),
        ("job-spec", r#"{"container": {"image": "a", "env": "TOKEN=hunter2Z"}}"#, "found a string"),
        ("job-spec", r#"{"container": {"image": "a", "env": {"TOKEN=hunter2Z": ""}}}"#, "TOKEN=…"),
        ("job-spec", r#"{"container": {"image": "a", "args": "x --token hunter2Z"}}"#, "found a string"),
        ("job-spec", r#"{"container": {"image": "a", "env": {"PIN": "hunter2Z", "PIN": "x"}}}"#, "given twice"),
    ];
    join_all(cases.map(async |(attribute, text, words)| {
        let vm = Vm::without_docker(Config::default()).await;
        vm.cloud.set_attribute(attribute, text);
        let mut agent = vm.start();
        agent.wait().await;
        let console = agent.stdout();
        let report = vm.finish(agent).await.to_string();
        assert!(report.contains("INVALID_SPEC") && report.contains(&words.replace('"', "\\\"")), "{text}: {report}");
        let all = format!("{report}{}{}", vm.logs(), console);
        assert!(!all.contains("hunter2Z"), "{text}: {all}");
    }))
    .await;
}

/// Pasted from a web page, a chat or a word processor.
#[tokio::test]
async fn a_character_that_is_not_what_it_looks_like_is_named_with_the_plain_one() {
    let cases: [(&str, &str); 10] = [
        ("docker run -e “A=x” a", "“ (U+201C, a curly quote)"),
        ("docker run –rm a", "write --rm instead"),
        ("docker run —rm a", "write --rm instead"),
        ("docker run –e A=1 a", "write -e instead"),
        ("docker\u{a0}run a", "U+00A0 (a no-break space)"),
        ("docker run -m\u{202f}1g a", "write an ordinary space"),
        ("docker run a\u{200b}", "U+200B (an invisible character)"),
        ("docker run -e TOKEN=… a", "… (U+2026, an ellipsis)"),
        ("docker run －e A=1 a", "－ (U+FF0D, a long dash)"),
        ("docker run a sh -c “echo hi”", "“ (U+201C, a curly quote)"),
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
