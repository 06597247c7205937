//! The binary: its command line, and `fakecloud serve`.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::raw::{parse, request};

pub(crate) fn fakecloud() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fakecloud"));
    command.kill_on_drop(true);
    command
}

/// Sends a signal to a child process that has not been waited for.
pub(crate) fn signal(child: &tokio::process::Child, signal: Signal) {
    let pid = i32::try_from(child.id().expect("a living child")).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), signal).unwrap();
}

#[tokio::test]
async fn a_bad_command_line_exits_2_and_says_what_would_be_right() {
    let cases: [(&[&str], &str); 11] = [
        (&[], "fakecloud run -- docker run"),
        (&["walk"], "`run` and `serve`"),
        (&["run"], "--spec FILE"),
        (&["run", "--", "alpine"], "-- docker run IMAGE"),
        (&["run", "--rm"], "after `--`"),
        (&["run", "--spec", "x", "--", "docker", "run", "x"], "not both"),
        (&["serve", "--wat"], "fakecloud serve --help"),
        (&["serve", "--attribute", "a"], "--attribute KEY=VALUE"),
        (&["serve", "--metadata-port", "x"], "x"),
        (&["serve", "--script-callback", "503,slow"], "`slow` is neither"),
        (&["serve", "--attribute-file", "a=/no/such"], "/no/such"),
    ];
    for (arguments, hint) in cases {
        let output = fakecloud().args(arguments).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(hint) && text.contains("--help"), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn help_goes_to_stdout() {
    for arguments in [&["--help"][..], &["-h"], &["run", "--help"], &["serve", "-h"], &["--version"]] {
        let output = fakecloud().args(arguments).output().await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}");
        assert!(output.stdout.starts_with(b"fakecloud"), "{arguments:?}");
    }
}

#[tokio::test]
async fn serve_takes_changes_from_stdin_and_outlives_its_end() {
    let mut child = fakecloud();
    let child = child.args(["serve", "--control"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let metadata = lines.next_line().await.unwrap().unwrap().strip_prefix("metadata ").unwrap().parse().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"nonsense\ninstance/preempted=TRUE\ninstance/attributes/job-cancel=a=b\n").await.unwrap();
    drop(stdin);
    // The wait ends with the change, whichever comes first.
    let query = "instance/preempted?wait_for_change=true&last_etag=0&timeout_sec=10";
    for (path, value) in [(query, "TRUE"), ("instance/attributes/job-cancel", "a=b")] {
        let mut seen = String::new();
        for _ in 0..100 {
            let request = request("GET", &format!("/computeMetadata/v1/{path}"), &[("Metadata-Flavor", "Google")], b"");
            seen = parse(&crate::raw::exchange(metadata, &request).await.unwrap()).text();
            if seen == value {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(seen, value);
    }
    assert_eq!(child.try_wait().unwrap(), None);
    signal(&child, Signal::TERM);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "fakecloud: `nonsense` is no PATH=VALUE\n");
}

#[tokio::test]
async fn serve_logs_requests_prints_callbacks_and_ends_on_sigterm() {
    let arguments = ["serve", "--attribute", "a=b=c", "--set", "instance/preempted=TRUE", "--script-callback", "503"];
    let mut child = fakecloud().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async || lines.next_line().await.unwrap().unwrap();
    let metadata = line().await.strip_prefix("metadata ").unwrap().parse().unwrap();
    let url = line().await.strip_prefix("callback http://").unwrap().to_owned();
    assert!(line().await.starts_with("storage http://127.0.0.1:"));
    let (host, path) = url.split_once('/').unwrap();
    let get = async |path: &str| {
        let request = request("GET", &format!("/computeMetadata/v1/{path}"), &[("Metadata-Flavor", "Google")], b"");
        parse(&crate::raw::exchange(metadata, &request).await.unwrap())
    };
    assert_eq!(get("instance/attributes/a").await.text(), "b=c");
    assert!(line().await.ends_with(" metadata 200 GET /computeMetadata/v1/instance/attributes/a"));
    assert_eq!(get("instance/preempted").await.text(), "TRUE");
    line().await;
    let token = get("instance/service-accounts/default/token").await.json();
    line().await;
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let call = request("POST", &format!("/{path}"), &[("Authorization", &bearer)], b"{\"state\":\"SUCCEEDED\"}");
    for status in [503, 200, 200] {
        let answer = parse(&crate::raw::exchange(host.parse().unwrap(), &call).await.unwrap());
        assert_eq!(answer.status, status);
        assert!(line().await.contains(&format!(" callback {status} POST /v1/projects/")));
        if status == 200 {
            assert_eq!([line().await, line().await, line().await].concat(), "{  \"state\": \"SUCCEEDED\"}");
        }
    }
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}
