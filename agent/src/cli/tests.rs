use super::*;

fn parse(line: &str, environment: &[(&str, &str)]) -> Result<Cli, String> {
    let lookup = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Cli::parse(line.split_whitespace().map(OsString::from), lookup)
}

fn config(line: &str, environment: &[(&str, &str)]) -> Config {
    match parse(line, environment).unwrap().command {
        Command::Run(config) => config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_win_over_the_environment_and_both_over_defaults() {
    let default = config("", &[]);
    assert_eq!(default.metadata_host, "169.254.169.254");
    assert_eq!(default.docker_host, "unix:///var/run/docker.sock");
    assert_eq!(default.state_dir, PathBuf::from("/var/lib/vmjob"));
    assert_eq!(default.engine_patience, Duration::from_mins(2));
    let environment = [
        ("GCE_METADATA_HOST", "127.0.0.1:1"),
        ("STATE_DIRECTORY", "/s"),
        ("VMJOB_CALLBACK_ALLOW", "a.example, 127.0.0.1"),
    ];
    let from_environment = config("run", &environment);
    assert_eq!(from_environment.metadata_host, "127.0.0.1:1");
    assert_eq!(from_environment.callback_allow, ["a.example", "127.0.0.1"]);
    let from_flags = config("run --metadata-host=h:2 --state-dir /t --callback-allow b", &environment);
    assert_eq!((from_flags.metadata_host.as_str(), from_flags.state_dir), ("h:2", PathBuf::from("/t")));
    assert_eq!(from_flags.callback_allow, ["b"]);
}

#[test]
fn what_is_wrong_in_the_environment_is_ignored() {
    let environment = [
        ("RUST_LOG", "info,,=x"),
        ("VMJOB_LOG_FORMAT", "xml"),
        ("VMJOB_PULL_PATIENCE", "2 minutes or so"),
        ("DOCKER_HOST", "tcp://127.0.0.1:2375"),
        ("VMJOB_BLOCK_MOUNTS", "/opt/data: /home/x ::data"),
    ];
    let cli = parse("run", &environment).unwrap();
    let names: Vec<_> = cli.ignored.iter().filter_map(|problem| problem.split(' ').next()).collect();
    assert_eq!(
        names,
        ["VMJOB_PULL_PATIENCE", "VMJOB_BLOCK_MOUNTS", "VMJOB_LOG_FORMAT", "RUST_LOG"],
        "{:?}",
        cli.ignored
    );
    assert_eq!((cli.log_format, cli.log_filter), (LogFormat::Text, "info".parse().unwrap()));
    assert_eq!(config("", &environment).block_mounts, [PathBuf::from("/opt/data"), PathBuf::from("/home/x")]);
    assert_eq!(config("", &environment).pull_patience, Duration::from_mins(2));
    assert_eq!(parse("--version", &environment).unwrap().command, Command::Version);
}

#[test]
fn what_is_wrong_is_said() {
    let cases = [
        ("rnu", "did you mean run?"),
        ("--state-dri x", "did you mean --state-dir?"),
        ("run extra", "unexpected argument"),
        ("--state-dir", "--state-dir"),
        ("--docker-host tcp://h:1", "only unix://"),
        ("--log-format xml", "use text or json"),
        ("--engine-patience soon", "for example 90s"),
        ("install --prefix opt", "write an absolute one"),
        ("install --prefix=/opt/%h", "of letters, digits"),
        ("--state-dir /data install --now", "to /etc/default/vmjob-agent"),
        ("install --callback-allow h", "to /etc/default/vmjob-agent"),
        ("-x", "-x"),
    ];
    for (line, words) in cases {
        let error = parse(line, &[]).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
    }
    assert!(prefix("/opt/my jobs").is_err() && prefix("/opt/vmjob-1.0").is_ok());
}

#[test]
fn check_reads_a_file_or_stdin() {
    assert_eq!(parse("check", &[]).unwrap().command, Command::Check(None, vec![]));
    assert_eq!(parse("check -", &[]).unwrap().command, Command::Check(None, vec![]));
    assert_eq!(parse("check j.json", &[]).unwrap().command, Command::Check(Some("j.json".into()), vec![]));
    assert_eq!(parse("run --help", &[]).unwrap().command, Command::Help);
}
