//! The command line, as somebody at a terminal sees it.

use std::process::{Output, Stdio};

use e2e::{UNTIL_LET_GO, Vm, agent_binary, expect};
use fakecloud::Config;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub(crate) async fn agent(args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(agent_binary());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(stdin.as_bytes()).await; // not everybody reads it
    drop(input);
    child.wait_with_output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn help_teaches_and_version_names() {
    for args in [&["--help"][..], &["-h"], &["run", "--help"], &["help"]] {
        let output = agent(args, "").await;
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let help = text(&output.stdout);
        let words = [
            "run",
            "check",
            "install",
            "doctor",
            "status",
            "callback-url",
            "job-spec",
            "docker-command",
            "job-cancel",
            "--metadata-host",
            "GCE_METADATA_HOST",
            "--docker-host",
            "--state-dir",
            "--callback-allow",
            "--log-format",
            "RUST_LOG",
            "75",
        ];
        for word in words {
            assert!(help.contains(word), "{word} is not in the help:\n{help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{help}");
    }
    let output = agent(&["--version"], "").await;
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("vmjob-agent "), "{output:?}");
}

#[tokio::test]
async fn bad_usage_exits_with_2_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 8] = [
        (&["rnu"], "did you mean run?"),
        (&["--state-dri", "x"], "did you mean --state-dir?"),
        (&["run", "extra"], "extra"),
        (&["--state-dir"], "--state-dir"),
        (&["--log-format", "xml"], "json"),
        (&["--docker-host", "tcp://127.0.0.1:2375"], "unix://"),
        (&["--engine-patience", "soon"], "90s"),
        (&["install", "--state-dir", "/data", "--callback-allow", "h"], "/etc/default/vmjob-agent"),
    ];
    for (args, words) in cases {
        let output = agent(args, "").await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(words) && error.contains("--help"), "{args:?}: {error}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn check_shows_what_would_run() {
    let spec = r#"{"container": {"image": "a:1", "memory": "512m"}, "timeout": "90m"}"#;
    let line = "docker run -m 512m -e A=1 a:1 echo hi";
    let line_in_spec = json!({"$schema": "x", "docker_command": line, "timeout": "90m"}).to_string();
    for job in [spec, line, &line_in_spec] {
        let output = agent(&["check"], job).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        expect(&shown, &json!({"container": {"image": "a:1", "memory": 512 << 20}}));
    }

    let vm = Vm::without_docker(Config::default()).await;
    let file = vm.dir().join("job.json").display().to_string();
    std::fs::write(&file, spec).unwrap();
    assert_eq!(agent(&["check", &file], "").await.status.code(), Some(0));
}

/// What `check` shows is a job-spec again, and means the same.
#[tokio::test]
async fn what_check_shows_can_be_checked_again() {
    let first = agent(&["check"], "docker run -it -m 1g --gpus all -v /a:/b:ro a:1 sh -c 'echo \"x\"'").await;
    let again = agent(&["check"], text(&first.stdout)).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(text(&first.stdout), text(&again.stdout));
}

#[tokio::test]
async fn check_refuses_what_cannot_run() {
    let cases = [
        (r#"{"container": {"imgae": "a"}}"#, "did you mean"),
        ("docker run --evn A=1 a", "did you mean --env?"),
        (
            r#"{"docker_command": "docker run --evn A=1 a"}"#,
            "job-spec: docker_command: unknown flag --evn; did you mean --env?",
        ),
        ("", "empty"),
        (r#"{"process": {"command": ["/bin/true"]}, "metadata_server": "block"}"#, "process.user"),
    ];
    for (job, words) in cases {
        let output = agent(&["check"], job).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{job}: {error}");
        assert!(error.contains(words), "{job}: {error}");
    }
    assert_eq!(agent(&["check", "/no/such/file"], "").await.status.code(), Some(2));
}

/// A text in another language is its author's, where it is quoted.
#[tokio::test]
async fn curly_quotes_and_dashes_in_quotes_are_a_text() {
    for line in [
        "docker run -e 'A=“l’été”' a echo 'l’été – «oui»… 日本　語：１'",
        "docker run -e \"A=x – y\" -l 'b=“c”' a:1 printf '%s' \"– “\"",
        "docker run -e NOM=l’été -e GREETING=你好，世界 a echo l’été",
    ] {
        let output = agent(&["check"], line).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{line}");
    }
    let output = agent(&["check"], "docker run a echo “bonjour”").await;
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("U+201C"), "{}", text(&output.stderr));
}

/// `check` has a file, and no VM: it judges names, by the list and by the setting of the VM.
#[tokio::test]
async fn check_tells_what_a_blocked_job_may_mount() {
    let spec = |source: &str| {
        let mounts = json!([{"type": "bind", "source": source, "target": "/x"}]);
        json!({"container": {"image": "a", "mounts": mounts}, "metadata_server": "block"}).to_string()
    };
    for (source, setting, status) in [
        ("/data/x", "", 0),
        ("/mnt/disks/x", "", 0),
        ("/mnt/stateful_partition/x", "", 2),
        ("/run/docker", "", 2),
        ("/opt/data/x", "", 2),
        ("/opt/data/x", "/home:/opt/data", 0),
        ("/opt/data/../x", "/home:/opt/data", 2),
    ] {
        let mut command = Command::new(agent_binary());
        command.arg("check").env("VMJOB_BLOCK_MOUNTS", setting).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        child.stdin.take().unwrap().write_all(spec(source).as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{source} {setting}: {said}");
        assert!(
            said.contains(if status == 0 { "looked at in the VM" } else { "VMJOB_BLOCK_MOUNTS" })
                || source.contains(".."),
            "{said}"
        );
    }
}

/// The tables of the readers' own tests, through the binary: each error is one line that names its place and what to write.
#[tokio::test]
async fn every_error_names_its_place_and_what_to_write() {
    const JOBS: &str = include_str!("../../../../agent/src/job/testdata/spec_errors.txt");
    const FULL: &str = include_str!("../../../../agent/src/job/testdata/full.json");
    const COMMANDS: &str = include_str!("../../../../agent/src/job/testdata/docker_errors.txt");
    let cases = |table: &'static str| table.trim_end().split("\n\n").map(|case| case.split_once('\n').unwrap());
    let jobs = cases(JOBS).map(|(change, error)| {
        let (path, value) = change.split_once(" = ").unwrap();
        let mut spec: Value = serde_json::from_str(FULL).unwrap();
        let place = path.split('.').fold(&mut spec, |place, name| &mut place[name]);
        *place = serde_json::from_str(value).unwrap();
        (spec.to_string(), error)
    });
    let commands = cases(COMMANDS).filter(|(line, _)| line.starts_with("docker"));
    let all: Vec<_> = jobs.chain(commands.map(|(line, error)| (line.to_owned(), error))).collect();
    assert!(all.len() > 50, "{} cases", all.len());
    for (job, error) in all {
        let output = agent(&["check"], &job).await;
        assert_eq!(output.status.code(), Some(2), "{job}");
        assert!(output.stdout.is_empty());
        assert!(
            text(&output.stderr).trim_end().ends_with(error),
            "{error}\nis not what is said:\n{}",
            text(&output.stderr)
        );
        assert_eq!(text(&output.stderr).lines().count(), 1);
    }
}

#[tokio::test]
async fn check_tells_every_warning() {
    let line = "docker run --rm -it -v /a:/b:cached -e JOB_ID=x a *.csv";
    let output = agent(&["check"], line).await;
    assert_eq!(output.status.code(), Some(0));
    let found: Vec<&str> = text(&output.stderr).lines().collect();
    assert!(found.iter().all(|line| line.starts_with("warning: ")), "{found:#?}");
    for warning in ["--rm is ignored", "-i is ignored", "cached is ignored", "no shell expands it", "JOB_ID"] {
        assert!(found.iter().any(|line| line.contains(warning)), "{warning} is not among {found:#?}");
    }
    assert_eq!(found.len(), 5);
}

#[tokio::test]
async fn status_shows_the_journal_also_while_the_agent_runs() {
    let Some(vm) = Vm::with_docker().await else { return };
    let state_dir = vm.state_dir().display().to_string();
    let status = async || {
        let output = agent(&["status", "--state-dir", &state_dir], "").await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    expect(&status().await, &json!({"phase": null}));
    vm.set_job(&format!("echo up > /shared/starts; {UNTIL_LET_GO}"), json!({}));
    let running = vm.start();
    vm.until_running().await;
    expect(&status().await, &json!({"phase": "RUNNING", "job_id": vm.id()}));
    vm.let_go();
    vm.finish(running).await;
    expect(&status().await, &json!({"phase": "DELIVERED"}));
}

#[tokio::test]
async fn the_log_comes_as_text_or_as_json_and_as_much_as_is_wanted() {
    let all: [(&[&str], &str, bool); 4] =
        [(&[], "info", true), (&["--log-format", "json"], "info", true), (&[], "error", true), (&[], "off", false)];
    for (args, level, speaks) in all {
        let vm = Vm::without_docker(Config::default()).await;
        vm.cloud.set_attribute("job-spec", "{}");
        let mut command = vm.command();
        command.args(args).env("RUST_LOG", level);
        let mut agent = vm.spawn(command);
        assert_eq!(agent.wait().await, 0);
        let log = agent.log();
        assert_eq!(!log.is_empty(), speaks, "{log}");
        assert!(!log.contains('\u{1b}'), "no colours in a file: {log}");
        assert!(level != "error" || log.lines().all(|line| line.contains(" ERROR ")), "{log}");
        if args.contains(&"json") {
            assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
        }
    }
}

#[tokio::test]
async fn the_environment_stands_for_the_flags() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.cloud.set_attribute("job-spec", "{}");
    let mut command = Command::new(agent_binary());
    command
        .env("GCE_METADATA_HOST", vm.cloud.metadata_host())
        .env("STATE_DIRECTORY", vm.state_dir())
        .env("VMJOB_CALLBACK_ALLOW", "example.com,127.0.0.1");
    expect(&vm.finish(vm.spawn(command)).await, &json!({"cause": "INVALID_SPEC"}));
}

#[tokio::test]
async fn settings_that_are_wrong_do_not_keep_a_job_from_being_reported() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.set_job("true", json!({}));
    let settings = [
        ("RUST_LOG", "vmjob_agent=loud"),
        ("VMJOB_LOG_FORMAT", "xml"),
        ("VMJOB_ENGINE_PATIENCE", "long"),
        ("DOCKER_HOST", "tcp://127.0.0.1:2375"),
    ];
    let mut command = Command::new(agent_binary());
    command
        .args(["--metadata-host", &vm.cloud.metadata_host(), "--callback-allow", "127.0.0.1", "--state-dir"])
        .arg(vm.state_dir())
        .envs(settings);
    let report = vm.finish(vm.spawn(command)).await;
    let wanted =
        json!({"cause": "ENGINE_UNAVAILABLE", "message": "~at tcp://127.0.0.1:2375 within 0 s: only unix://PATH"});
    expect(&report, &wanted);
    let log = vm.logs();
    for (name, value) in &settings[..3] {
        assert!(log.contains(&format!("{name} {value:?} is n")), "{name}: {log}");
    }
    for args in [&["--version"][..], &["check", "--help"]] {
        let output = Command::new(agent_binary()).args(args).envs(settings).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    }
}
