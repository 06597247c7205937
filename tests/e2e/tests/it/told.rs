//! What was known is told: why nothing had run when a stop came, what the engine warned of, what it made up.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use e2e::{Vm, docker, expect, free_port};
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Seconds between the stop and what the evidence gives as the time at which it was asked for.
fn late_s(report: &Value, asked_at: Timestamp) -> f64 {
    let mut evidence = report["evidence"].as_array().unwrap().iter().filter_map(Value::as_str);
    let at = evidence.find_map(|fact| fact.strip_prefix("the stop was asked for at ")).expect("the time");
    at.parse::<Timestamp>().unwrap().duration_since(asked_at).as_secs_f64()
}

#[tokio::test]
async fn a_stop_has_its_true_time_and_tells_what_was_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent, closed) = (silent.local_addr().unwrap(), free_port());
    let away = json!({"container": {"image": format!("127.0.0.1:{closed}/a:1")}});
    let mute = json!({"container": {"image": format!("{silent}/a:1")}});
    let input = json!({"inputs": [{"from": "gs://b/no-answer", "to": "/shared/x"}]});
    let secret = json!({"container": {"secret_env": {"K": "projects/p/secrets/s/versions/1"}}});
    let cases = [
        (
            "the engine",
            json!({}),
            vec!["--docker-host", "unix:///no/such.sock"],
            "~waiting for the Docker daemon at unix:///no/such.sock, for ",
        ),
        (
            "the engine",
            json!({}),
            vec!["--docker-host", "unix:///no/such.sock"],
            "~; so far: failed to reach the engine",
        ),
        ("a registry that is away", away, vec![], "~so far: failed to pull image 127.0.0.1:"),
        ("a registry that says nothing", mute, vec![], "~waiting for the image 127.0.0.1:"),
        (
            "an input",
            input,
            vec!["--storage-endpoint", "http://127.0.0.1:1"],
            "~waiting for the inputs gs://b/no-answer, for ",
        ),
        (
            "a secret",
            secret,
            vec!["--secretmanager-endpoint", "http://127.0.0.1:1"],
            "~waiting for the secrets projects/p/secrets/s/versions/1, for ",
        ),
    ];
    let stopped = cases.map(async |(what, changes, args, fact)| {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job("true", changes);
        let mut command = vm.command();
        command.args(args);
        let agent = vm.spawn(command);
        vm.until_phase("CLAIMED").await;
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        let asked_at = Timestamp::now();
        agent.signal(Signal::TERM);
        let report = vm.finish(agent).await;
        expect(&report, &json!({"cause": "VM_SHUTDOWN", "exit_code": null, "evidence": [fact]}));
        assert!(late_s(&report, asked_at).abs() < 1.0, "{what}: {report:#}");
        let kept = vm.journal()["attempt"]["stop"]["at"].as_str().unwrap().parse::<Timestamp>().unwrap();
        assert!(kept.duration_since(asked_at).as_secs_f64() < 1.0, "{what}");
    });
    futures_util::future::join_all(stopped).await;
}

#[tokio::test]
async fn what_the_engine_makes_of_a_missing_directory_is_told() {
    let Some(vm) = Vm::with_docker().await else { return };
    let (missing, there) = (vm.dir().join("no/such/in"), vm.dir().join("shared"));
    let command = format!(
        "docker run -v {}:/data:ro -v {}:/shared {} sh -c 'ls /data | wc -l'",
        missing.display(),
        there.display(),
        docker::IMAGE
    );
    vm.cloud.set_attribute("docker-command", command);
    let report = vm.run().await;
    let fact =
        format!("there was nothing at {} on the VM; the engine made an empty directory there", missing.display());
    expect(&report, &json!({"cause": "NONE", "logs": {"tail": "0\n"}, "evidence": [fact]}));
    assert!(vm.logs().contains(&format!("WARN {fact}")), "{}", vm.logs());
    assert!(!report["evidence"].to_string().contains("/shared"), "{report:#}");
}

/// The test image once more, said to be built for another machine.
async fn foreign_image(vm: &Vm) -> String {
    let (name, dir) = (format!("vmjob/foreign:{}", vm.id()), vm.dir().join("foreign"));
    let script = format!(
        "mkdir {dir} && cd {dir} && docker save {} | tar -x && config=$(ls *.json | grep -v manifest) && \
         sed -i 's/\"architecture\":\"[a-z0-9]*\"/\"architecture\":\"s390x\"/' $config && \
         sed -i 's|{}|{name}|' manifest.json && rm -f repositories && tar -c . | docker load",
        docker::IMAGE,
        docker::IMAGE,
        dir = dir.display()
    );
    let output = tokio::process::Command::new("sh").args(["-c", &script]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    name
}

#[tokio::test]
async fn an_image_for_another_machine_is_told_and_mended() {
    let Some(vm) = Vm::with_docker().await else { return };
    let image = foreign_image(&vm).await;
    // What the kernel does not know as a program, as one of another machine.
    let program = vm.dir().join("shared/program");
    std::fs::write(&program, b"\x7fELF\x02\x01\x01garbage").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let cases = [
        (
            image.as_str(),
            json!(["/shared/program"]),
            json!({"exit_code": 1, "cause": "EXIT_CODE", "fix": "~build the image for the VM's platform, linux/", "evidence": ["~built for linux/s390x", "~the engine warned at the create: The requested image's platform (linux/s390x)"]}),
        ),
        (
            image.as_str(),
            json!(["false"]),
            json!({"cause": "EXIT_CODE", "fix": null, "evidence": ["~built for linux/s390x"]}),
        ),
        (
            image.as_str(),
            json!(["true"]),
            json!({"cause": "NONE", "fix": null, "evidence": ["~built for linux/s390x"]}),
        ),
        (
            docker::IMAGE,
            json!(["/shared/program"]),
            json!({"cause": "EXIT_CODE", "fix": "~a first line such as #!/bin/sh"}),
        ),
        (docker::IMAGE, json!(["false"]), json!({"cause": "EXIT_CODE", "fix": null})),
    ];
    for (image, args, expected) in cases {
        let Some(vm2) = Vm::with_docker().await else { return };
        std::fs::copy(&program, vm2.dir().join("shared/program")).unwrap();
        expect(&vm2.run_job("", json!({"container": {"image": image, "args": args}})).await, &expected);
    }
    docker::docker(&["rmi", &image]).await;
}

/// A job without a container has no engine to speak of.
#[tokio::test]
async fn of_a_process_nothing_is_said_of_engines_and_containers() {
    let cases = [
        ("exit 4", json!({}), "its shim reports exit code 4"),
        ("kill -9 $$", json!({}), "its shim reports exit code 137"),
        ("true", json!({"process": {"command": ["/no/such"]}}), ""),
        ("true", json!({"process": {"workdir": "/no/such"}}), ""),
        ("sleep 60", json!({"timeout": "1s"}), "its shim reports exit code 143"),
    ];
    for (script, changes, fact) in cases {
        for vm in Vm::of_each_kind().await.into_iter().filter(|vm| vm.kind() == e2e::Kind::Process) {
            let report = vm.run_job(script, changes.clone()).await;
            let (evidence, logs) = (report["evidence"].to_string(), vm.logs());
            assert!(evidence.contains(fact), "{report:#}");
            for text in [&evidence, &report["message"].to_string(), &report["fix"].to_string(), &logs] {
                let text = text.to_lowercase();
                assert!(!["engine", "container", "docker"].iter().any(|word| text.contains(word)), "{text}");
            }
        }
    }
}

/// The agent's own log, line for line, of a job that fails.
#[tokio::test]
async fn the_log_has_the_names_of_the_manual_and_the_right_levels_and_order() {
    let Some(vm) = Vm::with_docker().await else { return };
    let command = format!("docker run --rm {} sh -c 'echo first; sleep 1; echo last; exit 3'", docker::IMAGE);
    vm.cloud.set_attribute("docker-command", command);
    vm.run().await;
    let logs = vm.logs();
    for line in [
        "INFO the job has ended exit_code=3",
        r#"ERROR the job exited with 3 cause="EXIT_CODE""#,
        "INFO --rm is ignored",
    ] {
        assert_eq!(logs.matches(line).count(), 1, "{line} in {logs}");
    }
    assert!(!logs.contains("WARN") && !logs.contains("Die("), "{logs}");

    // In one file, as journald and the console have it.
    for vm in Vm::of_each_kind().await {
        vm.set_job("for i in $(seq 50); do echo line $i; done; printf 'the last words'", json!({}));
        let agent = vm.command();
        let mut command = tokio::process::Command::new("sh");
        command
            .args(["-c", "exec \"$@\" 2>&1", "sh"])
            .arg(agent.as_std().get_program())
            .args(agent.as_std().get_args());
        let variables = agent.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut agent = vm.spawn({
            command.envs(variables);
            command
        });
        assert_eq!(agent.wait().await, 0);
        let view = agent.stdout();
        let (words, end) = (view.find("the last words").unwrap(), view.find("the job has ended").unwrap());
        assert!(words < end, "{view}");
    }

    for (script, level) in [("true", "INFO"), ("exit 137", "ERROR")] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.run_job(script, json!({})).await;
        assert!(vm.logs().contains(&format!("{level} the job ")), "{}", vm.logs());
    }
}

/// Whatever is tried again, what is to be said of the job is said once.
#[tokio::test]
async fn each_warning_is_said_once() {
    for vm in Vm::of_each_kind().await {
        let changes = json!({"retry": {"max_attempts": 3, "on": ["EXIT_CODE:1", "EXIT_CODE:137"]}});
        let report = vm.run_job("exit 1", changes).await;
        expect(&report, &json!({"job": {"attempt": 3}}));
        assert_eq!(vm.logs().matches("but a job that ends with 137").count(), 1, "{}", vm.logs());
    }
}
