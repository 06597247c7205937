//! Each field of `container`, as it arrives: seen by the job from inside, or in what the engine says of its container.

use e2e::{Fate, Gate, Vm, docker, expect};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Prints a control group's file, of v1 or of v2.
fn group(v1: &str, v2: &str) -> String {
    format!("cat /sys/fs/cgroup/{v1} /sys/fs/cgroup/{v2} 2>/dev/null | cut -d' ' -f1")
}

#[tokio::test]
async fn the_job_finds_itself_as_its_spec_says() {
    let (memory, cpus, pids) = (
        group("memory/memory.limit_in_bytes", "memory.max"),
        group("cpu/cpu.cfs_quota_us", "cpu.max"),
        group("pids/pids.max", "pids.max"),
    );
    let size = |path: &str| format!("df -k {path} | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2");
    let (shm, tmpfs) = (size("/dev/shm"), size("/scratch"));
    let capabilities = "grep CapEff /proc/self/status | cut -f 2";
    let bind = |read_only| json!([{"type": "bind", "source": "/etc", "target": "/host", "read_only": read_only}]);
    let write = "touch /host/passwd 2>/dev/null && echo written || echo refused";
    let scratch = json!([{"type": "tmpfs", "target": "/scratch", "size": "1m"}]);
    let read_only_scratch = json!([{"type": "tmpfs", "target": "/scratch", "read_only": true}]);
    let cases: [(Value, &str, &str); 29] = [
        (json!({"entrypoint": ["echo", "a b"], "args": ["c", "", "$HOME *"]}), "", "a b c  $HOME *\n"),
        (json!({"env": {"A": "two words", "B": ""}}), r#"echo "$A${B-unset}""#, "two words\n"),
        (json!({"workdir": "/made/for/it"}), "pwd", "/made/for/it\n"),
        (json!({"user": "job"}), "id -u", "1000\n"),
        (json!({"user": "12:34"}), r#"echo "$(id -u) $(id -g)""#, "12 34\n"),
        (json!({"hostname": "box"}), "hostname", "box\n"),
        (json!({"mounts": bind(true)}), write, "refused\n"),
        (json!({"mounts": bind(false)}), "ls /host/passwd", "/host/passwd\n"),
        (json!({"mounts": [{"type": "volume", "target": "/v"}]}), "echo x > /v/x && cat /v/x", "x\n"),
        (json!({"mounts": scratch}), &tmpfs, "1024\n"),
        (json!({"mounts": read_only_scratch}), "touch /scratch/x 2>/dev/null || echo refused", "refused\n"),
        (json!({"devices": ["/dev/zero"]}), "head -c 3 /dev/zero | wc -c", "3\n"),
        (json!({"devices": ["/dev/zero:/dev/mine"]}), "head -c 3 /dev/mine | wc -c; echo x > /dev/mine", "3\n"),
        (json!({"cap_drop": ["ALL"], "devices": ["/dev/kmsg:/dev/mine:m"]}), "head -c 1 /dev/mine 2>&1", "~permitted"),
        (json!({"cpus": 0.5}), &cpus, "50000\n"),
        (json!({"memory": "64m"}), &memory, "67108864\n"),
        (json!({"shm_size": "1m"}), &shm, "1024\n"),
        (json!({"pids_limit": 77}), &pids, "77\n"),
        (json!({"pids_limit": -1}), &pids, "max\n"),
        (json!({"ulimits": {"nofile": {"soft": 100, "hard": 200}}}), "ulimit -n; ulimit -Hn", "100\n200\n"),
        (json!({"ulimits": {"core": 0}}), "ulimit -c; ulimit -Hc", "0\n0\n"),
        (json!({"network": "none"}), "ls /sys/class/net", "lo\n"),
        (json!({"init": true}), r"tr '\0' '\n' < /proc/1/cmdline | head -n 1 | grep -o init", "init\n"),
        (json!({"read_only": true}), "touch /x 2>&1", "~Read-only"),
        (json!({"cap_drop": ["ALL"]}), capabilities, "0000000000000000\n"),
        (json!({"cap_drop": ["ALL"], "cap_add": ["KILL", "CHOWN"]}), capabilities, "0000000000000021\n"),
        (json!({"security_opt": ["no-new-privileges"]}), "grep NoNewPrivs /proc/self/status | cut -f 2", "1\n"),
        (
            json!({"extra_hosts": ["db:10.0.0.7"], "network": "bridge"}),
            "grep -o '10.0.0.7.*db' /etc/hosts",
            "10.0.0.7\tdb\n",
        ),
        (json!({"tty": true}), "test -t 1 && echo terminal", "terminal\r\n"),
    ];
    let all = cases.map(async |(container, script, output)| {
        let Some(vm) = Vm::with_docker().await else { return };
        let report = vm.run_job(script, json!({"container": container})).await;
        println!("{container}: {}", report["logs"]["head"]);
        expect(&report, &json!({"logs": {"head": output}}));
    });
    join_all(all).await;
}

/// What `docker inspect` says of the container before it is started: some machines cannot start a privileged one.
async fn inspected(container: Value) -> Option<Value> {
    let vm = Vm::with_docker().await?;
    vm.set_job("true", json!({"container": container}));
    let mut gate = Gate::open_but_for(vm.dir(), "/start", Fate::HoldBefore);
    let mut agent = vm.start_through(&gate);
    tokio::select! {
        _ = gate.stopped() => {}
        _ = agent.wait() => panic!("it got no further than {}", vm.logs()),
    }
    let text = docker::docker(&["inspect", "-f", "{{json .}}", &vm.container(1)]).await;
    agent.kill9().await;
    docker::remove(&vm.container(1)).await;
    Some(serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn the_engine_has_the_container_as_its_spec_says() {
    let container = json!({
        "labels": {"team": "a", "empty": ""}, "privileged": true, "hostname": "box", "init": true, "read_only": true,
        "cap_add": ["SYS_TIME"], "cap_drop": ["KILL"], "security_opt": ["label=disable"], "extra_hosts": ["db=::1"],
        "memory": "1g", "cpus": 1.5, "shm_size": "2m", "pids_limit": 100, "ulimits": {"nofile": 500},
        "devices": ["/dev/null:/dev/mine:rw"], "log_options": {"max-size": "1m", "tag": "x"}, "workdir": "/tmp",
    });
    let Some(found) = inspected(container).await else { return };
    expect(
        &found,
        &json!({
            "Config": {"Labels": {"team": "a", "empty": ""}, "Hostname": "box", "WorkingDir": "/tmp", "Tty": false},
            "HostConfig": {
                "Privileged": true, "Init": true, "ReadonlyRootfs": true, "CapDrop": ["~KILL"], "CapAdd": ["~SYS_TIME"],
                "SecurityOpt": ["label=disable"], "ExtraHosts": ["db:::1"], "Memory": 1 << 30, "NanoCpus": 1_500_000_000,
                "ShmSize": 2 << 20, "PidsLimit": 100, "NetworkMode": "none", "AutoRemove": false,
                "Ulimits": [{"Name": "nofile", "Soft": 500, "Hard": 500}],
                "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/mine", "CgroupPermissions": "rw"}],
                // What is not said of the log keeps it from filling the disk.
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "5", "tag": "x"}},
            },
        }),
    );

    let Some(found) = inspected(json!({"log_driver": "local", "log_options": {"max-size": "2m"}})).await else {
        return;
    };
    expect(&found, &json!({"HostConfig": {"LogConfig": {"Type": "local", "Config": {"max-size": "2m"}}}}));

    // Left out, all is as the engine has it, and the log is bounded.
    let Some(found) = inspected(json!({})).await else { return };
    let log = json!({"Type": "json-file", "Config": {"max-size": "50m", "max-file": "5"}});
    expect(
        &found,
        &json!({"HostConfig": {"Privileged": false, "ReadonlyRootfs": false, "Memory": 0, "NanoCpus": 0, "CapAdd": null,
                               "CapDrop": null, "Init": null, "LogConfig": log}}),
    );
}

#[tokio::test]
async fn a_named_volume_outlives_the_job_and_an_unnamed_one_does_not() {
    let Some(vm) = Vm::with_docker().await else { return };
    let name = format!("fields-{}", vm.id());
    for read_only in [false, true] {
        let Some(vm) = Vm::with_docker().await else { return };
        let mounts = json!([{"type": "volume", "source": name, "target": "/named", "read_only": read_only},
                            {"type": "volume", "target": "/unnamed"},
                            {"type": "bind", "source": vm.dir().join("shared"), "target": "/shared"}]);
        let script = "cat /named/x 2>/dev/null; { echo kept > /named/x; } 2>/dev/null && echo written || echo refused; \
                      echo up > /shared/starts; until [ -e /shared/go ]; do sleep 0.1; done";
        vm.set_job(script, json!({"container": {"mounts": mounts}}));
        let agent = vm.start();
        vm.until_running().await;
        let format = r#"{{range .Mounts}}{{if eq .Destination "/unnamed"}}{{.Name}}{{end}}{{end}}"#;
        let unnamed = docker::docker(&["inspect", "-f", format, &vm.container(1)]).await;
        std::fs::write(vm.dir().join("shared/go"), "").unwrap();
        let head = if read_only { "kept\nrefused\n" } else { "written\n" };
        expect(&vm.finish(agent).await, &json!({"cause": "NONE", "logs": {"head": head}}));
        assert!(!docker::run(&["volume", "inspect", &unnamed]).await.status.success(), "{unnamed} was left behind");
    }
    docker::docker(&["volume", "rm", &name]).await;
}
