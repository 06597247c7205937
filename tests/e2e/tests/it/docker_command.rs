//! `docker run …` as one tests it on a laptop: what the job then sees.

use e2e::{UNTIL_LET_GO, Vm, docker::IMAGE, expect};
use serde_json::json;

async fn run(vm: &Vm, flags: &str, command: &str) -> serde_json::Value {
    vm.cloud.set_attribute("docker-command", format!("docker run {flags} {IMAGE} {command}"));
    vm.run().await
}

#[tokio::test]
async fn the_job_sees_what_its_command_line_says() {
    let cgroup = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true";
    let quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null | cut -d' ' -f1";
    let cases = [
        ("-e A=1 -e 'B=two words'", r#"sh -c 'echo "$A $B"'"#, "1 two words\n"),
        ("-it --rm --name x", "sh -c 'tty >/dev/null; echo $?'", "0\r\n"),
        ("-w /home/job", "pwd", "/home/job\n"),
        ("-w /made/for/it", "pwd", "/made/for/it\n"),
        ("-u job", "id -u", "1000\n"),
        ("--user 12:34", r#"sh -c 'echo "$(id -u) $(id -g)"'"#, "12 34\n"),
        ("-h box", "hostname", "box\n"),
        ("--entrypoint echo", "an argument", "an argument\n"),
        ("--network none", r#"sh -c "ls /sys/class/net""#, "lo\n"),
        ("--memory 64m", &format!("sh -c '{cgroup}'"), "67108864\n"),
        ("--cpus 0.5", &format!(r#"sh -c "{quota}""#), "50000\n"),
        (
            "--read-only --tmpfs /scratch:size=1m",
            "sh -c 'touch /x 2>/dev/null || touch /scratch/x && ls /scratch'",
            "x\n",
        ),
        ("--ulimit nofile=100:200", "sh -c 'ulimit -n; ulimit -Hn'", "100\n200\n"),
        ("--add-host db:10.0.0.7", "sh -c 'grep -o 10.0.0.7 /etc/hosts'", "10.0.0.7\n"),
        ("--shm-size 1m", "sh -c 'df -k /dev/shm | tail -n 1 | tr -s \" \" | cut -d \" \" -f 2'", "1024\n"),
        ("--init", r"sh -c 'tr \\0 \\n < /proc/1/cmdline | head -n 1 | grep -o init'", "init\n"),
    ];
    for (flags, command, output) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        expect(&run(&vm, flags, command).await, &json!({"exit_code": 0, "logs": {"head": output}}));
    }
}

#[tokio::test]
async fn directories_are_mounted_as_asked() {
    let Some(vm) = Vm::with_docker().await else { return };
    let shared = vm.dir().join("shared").display().to_string();
    let flags = format!("-v {shared}:/rw --mount type=bind,src={shared},dst=/ro,readonly");
    let report = run(&vm, &flags, "sh -c 'echo x > /rw/file; cat /ro/file; echo y > /ro/file'").await;
    expect(&report, &json!({"cause": "EXIT_CODE", "logs": {"tail": "~Read-only", "head": "~x\n"}}));
    assert_eq!(vm.shared("file"), "x\n");
}

/// As the engine has it since `docker run -v`; with `--mount`, and in a job-spec that does not ask for it, it is an error.
#[tokio::test]
async fn a_directory_that_is_not_there_is_made_for_v_only() {
    let Some(vm) = Vm::with_docker().await else { return };
    let made = vm.dir().join("made/for it").display().to_string();
    expect(&run(&vm, &format!("-v '{made}:/x'"), "touch /x/file").await, &json!({"cause": "NONE"}));
    assert!(vm.dir().join("made/for it/file").exists());

    let Some(vm) = Vm::with_docker().await else { return };
    let report = run(&vm, "--mount type=bind,src=/sys/no/such/dir,dst=/x", "true").await;
    expect(&report, &json!({"cause": "CREATE_FAILED", "message": "~/sys/no/such/dir"}));

    let Some(vm) = Vm::with_docker().await else { return };
    let source = vm.dir().join("from the spec");
    let mount = json!({"type": "bind", "source": source, "target": "/x", "create": true});
    expect(&vm.run_job("ls /x", json!({"container": {"mounts": [mount]}})).await, &json!({"cause": "NONE"}));
    assert!(source.is_dir());
}

/// What users of konlet know as a job that ends at once with 127.
#[tokio::test]
async fn a_command_line_in_one_word_is_told_in_the_log_and_in_the_evidence() {
    let doubt = r#"~the only argument "python train.py" has a space in it"#;
    let Some(vm) = Vm::with_docker().await else { return };
    let report = vm.run_job("", json!({"container": {"args": ["python train.py"]}})).await;
    expect(&report, &json!({"cause": "START_FAILED", "evidence": [doubt]}));
    assert!(vm.logs().contains(&doubt[1..]), "{}", vm.logs());

    // A job that succeeds needs no explanation.
    let Some(vm) = Vm::with_docker().await else { return };
    let report = run(&vm, "--rm --entrypoint sh", "-c 'exit 0' *.csv").await;
    expect(&report, &json!({"cause": "NONE"}));
    assert!(!report["evidence"].to_string().contains("no shell expands it"), "{report:#}");
    assert!(vm.logs().contains("no shell expands it") && vm.logs().contains("--rm is ignored"), "{}", vm.logs());
}

#[tokio::test]
async fn the_job_is_told_who_it_is() {
    let script = r#"echo "$JOB_ID $JOB_ATTEMPT $JOB_TASK_INDEX $JOB_TASK_COUNT"; echo '"done"' > "$JOB_RESULT_FILE""#;
    let Some(vm) = Vm::with_docker().await else { return };
    let report = run(&vm, "-e JOB_ID=mine -u job", &format!("sh -c '{}'", script.replace('\'', r"'\''"))).await;
    let line = format!("{} 1 0 1\n", vm.id());
    expect(&report, &json!({"cause": "NONE", "logs": {"tail": line}, "result": "done"}));

    let Some(vm) = Vm::with_docker().await else { return };
    let report = vm.run_job(script, json!({"id": "a.b_c-1", "task_index": 2, "task_count": 5})).await;
    expect(&report, &json!({"logs": {"tail": "a.b_c-1 1 2 5\n"}, "result": "done"}));
}

#[tokio::test]
async fn the_container_carries_the_job_s_name() {
    let Some(vm) = Vm::with_docker().await else { return };
    let shared = format!("{}/shared", vm.dir().display());
    let command = format!("docker run -l team=a -v {shared}:/shared {IMAGE} sh -c '{UNTIL_LET_GO}'");
    vm.cloud.set_attribute("docker-command", command);
    let agent = vm.start();
    vm.until_phase("RUNNING").await;
    let labels = e2e::docker::docker(&["inspect", "-f", "{{json .Config.Labels}}", &vm.container(1)]).await;
    assert!(labels.contains(vm.id()) && labels.contains(r#""team":"a""#), "{labels}");
    vm.let_go();
    expect(&vm.finish(agent).await, &json!({"cause": "NONE"}));
}

/// The line says what runs, and the job-spec around it everything else.
#[tokio::test]
async fn a_line_in_a_job_spec_goes_with_every_other_field() {
    let Some(vm) = Vm::with_docker().await else { return };
    let script =
        "echo $JOB_ID $JOB_ATTEMPT $JOB_TASK_INDEX; echo $JOB_ATTEMPT > /out/n; [ $JOB_ATTEMPT = 2 ] || exit 75";
    let spec = json!({
        "docker_command": format!("docker run --rm {IMAGE} sh -c '{script}'"),
        "id": "of-a-line", "task_index": 1, "task_count": 2, "timeout": "1m",
        "retry": {"max_attempts": 2, "on": ["EXIT_CODE:75"]},
        "outputs": [{"from": "/out/", "to": "gs://b/out/"}],
    });
    vm.cloud.set_attribute("job-spec", spec.to_string());
    let job = json!({"id": "of-a-line", "attempt": 2, "task_index": 1});
    expect(&vm.run().await, &json!({"cause": "NONE", "job": job, "logs": {"tail": "of-a-line 2 1\n"}}));
    assert_eq!(*vm.cloud.object("b", "out/n").unwrap().content, b"2\n");

    let Some(vm) = Vm::with_docker().await else { return };
    let spec = json!({"docker_command": format!("docker run {IMAGE} sleep 60"), "timeout": "1s", "grace": "1s"});
    vm.cloud.set_attribute("job-spec", spec.to_string());
    expect(&vm.run().await, &json!({"cause": "TIMEOUT"}));

    let vm = Vm::without_docker(fakecloud::Config::default()).await;
    vm.cloud.set_attribute("job-spec", json!({"docker_command": "docker run --memory 8gigs a"}).to_string());
    let message = "~job-spec: docker_command: --memory: \"8gigs\" is not a size";
    expect(&vm.run().await, &json!({"cause": "INVALID_SPEC", "message": message}));
}
