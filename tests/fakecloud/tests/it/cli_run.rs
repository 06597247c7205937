//! `fakecloud run`, with a shell script (and curl) in the agent's place.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::cli_serve::{fakecloud, signal};

/// An agent that shows what it was given, then does what `$DO` says.
const AGENT: &str = r#"#!/bin/sh
[ "$1 $2 $4 $5 $6" = "run --metadata-host --callback-allow 127.0.0.1 --state-dir" ] || exit 99
get() { curl -sf -H Metadata-Flavor:Google "http://$host/computeMetadata/v1/instance/$1"; }
report() {
    token=$(get service-accounts/default/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
    echo "vmjob-report $1"
    printf %s "$1" | curl -sf -H "Authorization: Bearer $token" --data-binary @- "$(get attributes/callback-url)"
}
host=$3
echo "state: $7"
echo "job: $(get attributes/docker-command)$(get attributes/job-spec)"
echo "agent log" >&2
eval "$DO"
"#;

struct Case {
    command: Command,
    dir: PathBuf,
}

impl Case {
    fn new(name: &str, what: &str, arguments: &[&str]) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("tmp")).unwrap();
        let agent = dir.join("agent");
        std::fs::write(&agent, AGENT).unwrap();
        std::fs::set_permissions(&agent, PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = fakecloud();
        command.arg("run").arg("--agent").arg(agent).args(arguments);
        command.env("DO", what).env("TMPDIR", dir.join("tmp")).stdin(Stdio::null());
        Self { command, dir }
    }

    async fn run(mut self) -> Output {
        let output = self.command.output().await.unwrap();
        self.assert_clean();
        output
    }

    fn assert_clean(&self) {
        let left: Vec<_> = std::fs::read_dir(self.dir.join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(state: &str, exit_code: Option<i64>) -> String {
    json!({
        "state": state, "cause": "EXIT_CODE", "exit_code": exit_code, "message": "it ended", "evidence": ["a clue"],
        "fix": "try this", "retryable": true, "durations_s": {"run": 81.04}, "result": {"x": 1},
        "logs": {"tail": "one\ntwo\n", "omitted_bytes": 7, "errors": [{"line": 3, "text": "Traceback"}]},
    })
    .to_string()
}

const JOB: [&str; 5] = ["--", "docker", "run", "alpine", "it's"];

#[tokio::test]
async fn the_job_goes_in_and_the_report_comes_out_for_people() {
    let what = format!("report '{}'", report("FAILED", Some(3)));
    let output = Case::new("people", &what, &JOB).run().await;
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{stdout}");
    assert!(stdout.contains(r"job: docker run alpine 'it'\''s'"), "{stdout}");
    assert!(!stdout.contains("vmjob-report"), "{stdout}");
    let shown = "\
FAILED, EXIT_CODE, exit code 3, ran 81.0 s, worth another try
  it ended
evidence:
  a clue
fix:
  try this
errors in the log:
  line 3: Traceback
end of the log (7 bytes left out):
  one
  two
result:
  {
    \"x\": 1
  }
";
    assert!(stdout.ends_with(shown), "{stdout}");
    assert!(text(&output.stderr).contains("agent log"));
}

#[tokio::test]
async fn the_exit_status_is_the_jobs_own_where_it_has_one() {
    let cases = [
        ("SUCCEEDED", Some(0), 0),
        ("FAILED", Some(137), 137),
        ("FAILED", Some(0), 1), // as after an upload that failed
        ("FAILED", None, 1),
        ("CANCELLED", None, 1),
    ];
    for (i, (state, exit_code, status)) in cases.into_iter().enumerate() {
        let what = format!("report '{}'", report(state, exit_code));
        let output = Case::new(&format!("status-{i}"), &what, &JOB).run().await;
        assert_eq!(output.status.code(), Some(status), "{state} {exit_code:?}");
    }
}

#[tokio::test]
async fn with_json_stdout_is_the_report_and_nothing_else() {
    let sent = report("SUCCEEDED", Some(0));
    let output = Case::new("json", &format!("report '{sent}'"), &[&["--json"][..], &JOB].concat()).run().await;
    assert_eq!(text(&output.stdout), sent + "\n");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("job: docker run") && stderr.contains("agent log") && stderr.contains("it ended"));
}

#[tokio::test]
async fn quiet_shows_the_report_only() {
    let what = format!("report '{}'", report("SUCCEEDED", Some(0)));
    let output = Case::new("quiet", &what, &[&["--quiet"][..], &JOB].concat()).run().await;
    assert!(text(&output.stdout).starts_with("\nSUCCEEDED"));
    assert_eq!(text(&output.stderr), "");
}

#[tokio::test]
async fn an_agent_that_dies_without_a_report_is_explained() {
    for (what, status) in [("exit 9", "exit status: 9"), ("kill -9 $$", "signal: 9")] {
        let output = Case::new("dies", what, &[&["--quiet"][..], &JOB].concat()).run().await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{stderr}");
        assert!(stderr.contains("without a report") && stderr.contains(status), "{stderr}");
        assert!(stderr.contains("agent log"), "a log not seen yet is shown now: {stderr}");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_be_started_is_named() {
    let output = fakecloud().args(["run", "--agent", "/no/such/agent"]).args(JOB).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/no/such/agent"));
}

#[tokio::test]
async fn a_spec_never_powers_this_machine_off() {
    let mut case = Case::new("spec", &format!("report '{}'", report("SUCCEEDED", Some(0))), &[]);
    let spec = case.dir.join("job.json");
    std::fs::write(&spec, r#"{"container": {"image": "alpine"}, "on_finish": "poweroff"}"#).unwrap();
    case.command.arg("--spec").arg(spec);
    let output = case.run().await;
    assert!(text(&output.stdout).contains(r#"job: {"container":{"image":"alpine"},"on_finish":"none"}"#));
    assert!(text(&output.stderr).contains("on_finish"));
}

#[tokio::test]
async fn a_given_state_directory_is_made_and_kept() {
    let case = Case::new("state", &format!("report '{}'", report("SUCCEEDED", Some(0))), &[]);
    let (dir, mut command) = (case.dir.join("a/b"), case.command);
    let output = command.arg("--state-dir").arg(&dir).args(JOB).output().await.unwrap();
    assert!(text(&output.stdout).contains(&format!("state: {}\n", dir.display())));
    assert!(dir.is_dir());
    std::fs::remove_dir_all(&case.dir).unwrap();
}

/// Runs until the agent is ready, sends the signals, and returns the exit status.
async fn interrupted(name: &str, what: &str, signals: &[Signal]) -> Option<i32> {
    let mut case = Case::new(name, what, &JOB);
    let mut child = case.command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().expect("the agent gets ready") != "ready" {}
    for one in signals {
        signal(&child, *one);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    while lines.next_line().await.unwrap().is_some() {}
    let status = child.wait().await.unwrap();
    case.assert_clean();
    status.code()
}

#[tokio::test]
async fn a_signal_stops_the_job_and_the_report_still_comes() {
    let wait = "echo ready; while :; do sleep 0.05; done";
    for (name, trap, sent) in
        [("int", "INT", Signal::INT), ("term", "TERM", Signal::TERM), ("hup", "TERM", Signal::HUP)]
    {
        let what = format!("trap 'report $REPORT; exit 0' {trap}; REPORT='{}'; {wait}", r#"{"exit_code":143}"#);
        assert_eq!(interrupted(name, &what, &[sent]).await, Some(143), "{name}");
    }
}

#[tokio::test]
async fn a_second_signal_kills_an_agent_that_does_not_listen() {
    let what = "trap '' INT TERM; echo ready; sleep 60";
    assert_eq!(interrupted("deaf", what, &[Signal::INT, Signal::INT]).await, Some(70));
}
