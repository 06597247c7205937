//! `metadata_server: block`, with a metadata server that stands where it stands on Google's side: behind the VM's network. That is
//! made of two network namespaces, so it takes the private engine of `tests/with-docker`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use e2e::{Fate, Gate, Kind, Vm, docker, expect, skip, until};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// What the job finds: the metadata server by IPv4 and IPv6, its resolver by UDP and TCP, and the rest of the network.
const TRIES: &str = "
    get() { printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 20 $1 80 2>/dev/null | tail -n 1; }
    echo \"v4 $(get 169.254.169.254)\"; echo \"v6 $(get fd20:ce::254)\"; echo \"rest $(get 169.254.169.253)\"
    echo \"tcp53 $(busybox nc -w 20 169.254.169.254 53 </dev/null)\"
    echo \"udp53 $(busybox nslookup -type=a a.example 169.254.169.254 2>&1 | grep -c NXDOMAIN)\"
";
const OPEN: &str = "v4 here\nv6 here\nrest here\ntcp53 dns\nudp53 1\n";
const BLOCKED: &str = "v4 \nv6 \nrest here\ntcp53 dns\nudp53 1\n";

/// Answers a query by UDP with its own question and NXDOMAIN, and whoever comes by TCP with a word.
const RESOLVER: &str = r#"
import socket, threading
words = socket.create_server(("169.254.169.254", 53))
def serve():
    while True:
        words.accept()[0].send(b"dns\n")
threading.Thread(target=serve).start()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("169.254.169.254", 53))
while True:
    query, client = server.recvfrom(512)
    server.sendto(query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:], client)
"#;

/// The other side of the network, for all tests of this process.
async fn is_google_there() -> bool {
    static THERE: OnceCell<Option<Child>> = OnceCell::const_new();
    THERE.get_or_init(make_google).await.is_some()
}

async fn make_google() -> Option<Child> {
    let first = fs::read("/proc/1/cmdline").unwrap_or_default();
    if !String::from_utf8_lossy(&first).contains("with-docker") {
        skip("the engine is not the private one of tests/with-docker (VMJOB_DOCKER=private)");
        return None;
    }
    let inside = format!(
        "set -e
        until ip link show google >/dev/null 2>&1; do sleep 0.1; done
        ip link set lo up; ip link set google up
        for address in 10.99.0.1/24 169.254.169.254/32 169.254.169.253/32; do ip addr add $address dev google; done
        for address in fd99::1/64 fd20:ce::254/128; do ip addr add $address dev google nodad; done
        ip route add default via 10.99.0.2; ip -6 route add default via fd99::2
        mkdir -p /tmp/google.$$; echo here >/tmp/google.$$/index.html
        busybox httpd -p 169.254.169.254:80 -h /tmp/google.$$; busybox httpd -p 169.254.169.253:80 -h /tmp/google.$$
        busybox httpd -p '[fd20:ce::254]:80' -h /tmp/google.$$

        exec python3 -c '{RESOLVER}'"
    );
    let google = Command::new("unshare")
        .args(["--net", "bash", "-c", &inside])
        .env("PATH", path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("unshare is there");
    let outside = format!(
        "set -e
        until [ \"$(readlink /proc/{google}/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.1; done
        ip link add vm type veth peer name google netns {google}
        ip link set vm up; ip addr add 10.99.0.2/24 dev vm; ip addr add fd99::2/64 dev vm nodad
        ip route add 169.254.169.252/30 via 10.99.0.1; ip -6 route add fd20:ce::254/128 via fd99::1
        sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        google = google.id().unwrap()
    );
    let made = Command::new("bash").args(["-c", &outside]).status().await.unwrap();
    assert!(made.success(), "the network could not be made");
    until("the other side", async || (reach().await == OPEN).then_some(())).await;
    Some(google)
}

const THIRD_PARTY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/third-party");

fn path() -> String {
    format!("{THIRD_PARTY}:{}", std::env::var("PATH").unwrap_or_default())
}

/// What this process, which is root, can reach: as the agent.
async fn reach() -> String {
    let output = Command::new("sh").args(["-c", TRIES]).env("PATH", path()).output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn rules() -> String {
    let output = Command::new("sh").args(["-c", "ip rule; ip -6 rule"]).output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(" to ")).collect()
}

/// The bridge of all containers that are kept from it: the tests have it one after the other.
async fn bridge() -> MutexGuard<'static, ()> {
    static BRIDGE: Mutex<()> = Mutex::const_new(());
    BRIDGE.lock().await
}

/// A job of either kind that can reach the metadata server, on the engine's own network, or as a user of its own.
fn job(vm: &Vm, number: u32, metadata_server: &str) -> Value {
    let mut job = json!({"metadata_server": metadata_server});
    if vm.kind() == Kind::Process {
        // Where it may look: not everybody's home lets others in.
        let bin = vm.dir().join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(format!("{THIRD_PARTY}/busybox"), bin.join("busybox")).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        job["process"] = json!({"user": (7000 + number).to_string(), "env": {"PATH": path}});
    } else {
        job["container"] = json!({"network": "bridge"});
    }
    job
}

/// Without the answer by IPv6, which not every engine's own network has.
async fn by_its_network(vm: &Vm, reached: &str) -> String {
    let has_v6 = vm.kind() == Kind::Process
        || docker::docker(&["network", "inspect", "bridge", "--format", "{{.EnableIPv6}}"]).await == "true";
    if has_v6 { reached.to_owned() } else { reached.replace("v6 here", "v6 ") }
}

/// A report that says which place of the job is not allowed, and why.
async fn expect_refused(vm: &Vm, agent: e2e::Agent, place: &str, why: &str) {
    let report = vm.finish(agent).await;
    expect(&report, &json!({"cause": "INVALID_SPEC", "exit_code": null, "message": format!("~{place}")}));
    expect(&report, &json!({"message": format!("~{why}")}));
}

#[tokio::test]
async fn the_job_does_not_reach_it_and_all_else_goes_on() {
    if !is_google_there().await {
        return;
    }
    let _bridge = bridge().await;
    for (metadata_server, reached) in [("allow", OPEN), ("block", BLOCKED)] {
        for vm in Vm::of_each_kind().await {
            let report = vm.run_job(TRIES, job(&vm, 1, metadata_server)).await;
            let reached = by_its_network(&vm, reached).await;
            expect(&report, &json!({"cause": "NONE", "logs": {"head": reached}}));
            assert!(
                !rules().await.contains("7001") && !rules().await.contains("iif") && vm.journal()["blocked"].is_null()
            );
        }
    }
}

/// The rules are there before the job's first step, whoever dies, and gone after it.
#[tokio::test]
async fn it_outlives_a_killed_agent_and_ends_with_the_job() {
    if !is_google_there().await {
        return;
    }
    let _bridge = bridge().await;
    for vm in Vm::of_each_kind().await {
        let script = format!("echo x >>/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; {TRIES}");
        let mut changes = job(&vm, 2, "block");
        if vm.kind() == Kind::Process {
            fs::set_permissions(vm.dir().join("shared"), fs::Permissions::from_mode(0o777)).unwrap();
        }
        changes["timeout"] = json!("1m");
        vm.set_job(&script, changes);
        for pause_ms in [100, 300, 600] {
            let mut agent = vm.start();
            tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
            agent.kill9().await;
        }
        let mut agent = vm.start();
        vm.until_running().await;
        let during = rules().await;
        assert_eq!(during.matches(vm.journal()["blocked"].as_str().unwrap()).count(), 6, "{during}");
        assert_eq!(reach().await, OPEN, "the agent's own way is open");
        agent.kill9().await;
        fs::write(vm.dir().join("shared/go"), "").unwrap();
        expect(&vm.run().await, &json!({"cause": "NONE", "logs": {"head": BLOCKED}}));
        let after = rules().await;
        assert!(!after.contains("7002") && !after.contains("iif"), "{after}");
        assert_eq!(vm.starts(), 1);
    }
}

/// Not ignored: refused, by name.
#[tokio::test]
async fn where_it_is_impossible_the_job_is_refused() {
    for kind in Vm::of_each_kind().await.iter().map(Vm::kind) {
        let cases = if kind == Kind::Process {
            vec![
                (json!({"process": {"user": "root"}}), "INVALID_SPEC", "~process.user"),
                (json!({"process": {"user": "7003:disk"}}), "INVALID_SPEC", "~in the group \"disk\""),
                (json!({"process": {"user": "4294967295:0"}}), "INVALID_SPEC", "~process.user"),
            ]
        } else {
            vec![(json!({"container": {"network": "host"}}), "INVALID_SPEC", "~container.network")]
        };
        for (mut changes, cause, message) in cases {
            changes["metadata_server"] = json!("block");
            let Some(vm) = Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == kind) else { return };
            let report = vm.run_job("echo x >>/shared/starts", changes).await;
            expect(&report, &json!({"cause": cause, "exit_code": null, "message": message}));
            assert_eq!(vm.starts(), 0);
        }
    }
}

/// What `VMJOB_BLOCK_MOUNTS` is to a VM.
type Allowed = fn(&Vm) -> String;

/// By where its links lead, and wherever the VM's own directories lie.
#[tokio::test]
async fn a_mount_is_judged_in_the_vm() {
    let setup = |vm: &Vm| {
        let shared = vm.dir().join("shared");
        symlink("/run", shared.join("link")).unwrap();
        symlink("/run/no/such", shared.join("dangling")).unwrap();
        symlink(&shared, shared.join("round")).unwrap();
        shared
    };
    let all = |vm: &Vm| vm.dir().display().to_string();
    let no_more = |_: &Vm| String::new();
    let shared: Allowed = |vm| vm.dir().join("shared").display().to_string();
    let (all, no_more): (Allowed, Allowed) = (all, no_more);
    for (source, allowed, why) in [
        ("shared/link", shared, "a link to \"/run\""),
        ("shared/link/docker", shared, "a link to \"/run/docker\""),
        ("shared/dangling", shared, "cannot be looked at"),
        ("shared/round/../..", shared, "has a \"..\" in it"),
        ("shared", no_more, "not below /mnt"),
        ("", all, "the VM's own"),
        ("state", all, "the VM's own"),
    ] {
        let Some(vm) = Vm::with_docker().await else { return };
        setup(&vm);
        let mounts = json!([{"type": "bind", "source": vm.dir().join(source), "target": "/x", "read_only": true}]);
        let mut job = vm.job("true", json!({"metadata_server": "block"}));
        job["container"]["mounts"] = mounts;
        vm.cloud.set_attribute("job-spec", job.to_string());
        let mut command = vm.command();
        command.env("VMJOB_BLOCK_MOUNTS", allowed(&vm));
        expect_refused(&vm, vm.spawn(command), "container.mounts[0].source", why).await;
    }
    // What is allowed runs: a link that stays inside, and a place that is made.
    let _bridge = bridge().await;
    let Some(vm) = Vm::with_docker().await else { return };
    if !is_google_there().await {
        return;
    }
    let shared = setup(&vm);
    let mounts = json!([
        {"type": "bind", "source": shared.join("round/new"), "target": "/a", "create": true},
        {"type": "volume", "target": "/b"}, {"type": "tmpfs", "target": "/c"},
    ]);
    let changes = json!({"metadata_server": "block", "container": {"mounts": mounts, "devices": ["/dev/null:/dev/x"]}});
    expect(&vm.run_job("touch /a/file /b/file /c/file && : >/dev/x", changes).await, &json!({"cause": "NONE"}));
    assert!(shared.join("new/file").exists());
}

/// An engine's socket that lies among a job's data.
#[tokio::test]
async fn the_engine_s_socket_is_closed_wherever_it_is() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("true", json!({"metadata_server": "block"}));
    let gate = Gate::open_to_all(&vm.dir().join("shared"));
    expect_refused(&vm, vm.start_through(&gate), "container.mounts[0].source", "the VM's own").await;
}

/// A job that has planted a link for its next attempt.
#[tokio::test]
async fn a_link_that_an_attempt_has_planted_is_found() {
    if !is_google_there().await {
        return;
    }
    let _bridge = bridge().await;
    let Some(vm) = Vm::with_docker().await else { return };
    let shared = vm.dir().join("shared");
    fs::create_dir(shared.join("sub")).unwrap();
    let mounts = json!([
        {"type": "bind", "source": shared, "target": "/shared"},
        {"type": "bind", "source": shared.join("sub"), "target": "/sub"},
    ]);
    let retry = json!({"max_attempts": 3, "on": ["EXIT_CODE"]});
    let changes = json!({"metadata_server": "block", "retry": retry, "container": {"mounts": mounts}});
    let script = "echo x >>/shared/starts; mv /shared/sub /shared/old; ln -s /run /shared/sub; exit 3";
    vm.set_job(script, changes);
    expect_refused(&vm, vm.start(), "container.mounts[1].source", "a link to \"/run\"").await;
    assert_eq!(vm.starts(), 1);
}

/// By somebody while its agent was dead.
#[tokio::test]
async fn a_link_that_appears_between_create_and_start_is_found() {
    let Some(vm) = Vm::with_docker().await else { return };
    let shared = vm.dir().join("shared");
    fs::create_dir(shared.join("sub")).unwrap();
    let mounts = json!([{"type": "bind", "source": shared.join("sub"), "target": "/sub"}]);
    let mut job = vm.job("true", json!({"metadata_server": "block", "container": {"network": "none"}}));
    job["container"]["mounts"] = mounts;
    vm.cloud.set_attribute("job-spec", job.to_string());
    let mut gate = Gate::open_but_for(vm.dir(), "/start", Fate::HoldBefore);
    let mut agent = vm.start_through(&gate);
    gate.stopped().await;
    agent.kill9().await;
    fs::remove_dir(shared.join("sub")).unwrap();
    symlink("/run", shared.join("sub")).unwrap();
    expect_refused(&vm, vm.start(), "container.mounts[0].source", "a link to \"/run\"").await;
}

/// One that somebody made may be a view of any directory; one of the job's own is not.
#[tokio::test]
async fn a_volume_that_was_there_before_is_refused() {
    if !is_google_there().await {
        return;
    }
    let _bridge = bridge().await;
    let options = ["--opt", "type=none", "--opt", "o=bind", "--opt", "device=/run"];
    for (made, cause) in [(Some(&options[..]), "INVALID_SPEC"), (Some(&[]), "INVALID_SPEC"), (None, "NONE")] {
        let Some(vm) = Vm::with_docker().await else { return };
        let name = format!("{}-volume", vm.id());
        if let Some(options) = made {
            docker::docker(&[&["volume", "create"], options, &[&name]].concat()).await;
        }
        let mount = json!({"type": "volume", "source": name, "target": "/v"});
        let mut job =
            vm.job("", json!({"metadata_server": "block", "retry": {"max_attempts": 2, "on": ["EXIT_CODE"]}}));
        job["container"]["mounts"] = json!([mount]);
        // The second attempt finds what the first has left.
        job["container"]["args"] = json!(["sh", "-c", "[ -e /v/first ] || { touch /v/first; exit 1; }"]);
        vm.cloud.set_attribute("job-spec", job.to_string());
        let report = vm.run().await;
        docker::docker(&["volume", "rm", &name]).await;
        expect(&report, &json!({"cause": cause}));
        if made.is_some() {
            expect(&report, &json!({"message": "~which was there before the job"}));
        }
    }
}

/// And not by its name.
#[tokio::test]
async fn a_device_is_judged_by_its_number() {
    let node = "/dev/nvidia-vmjob-test";
    let _ = fs::remove_file(node);
    let made = Command::new("mknod").args([node, "b", "7", "0"]).status().await;
    if !made.is_ok_and(|status| status.success()) {
        return skip("no device can be made here");
    }
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job("true", json!({"metadata_server": "block", "container": {"devices": [node], "network": "none"}}));
    let mut agent = vm.start();
    agent.wait().await;
    fs::remove_file(node).unwrap();
    expect_refused(&vm, agent, "container.devices[0]", node).await;
}

/// `at`, `cron`, `sshd` and `systemd --user` run what a job gives them, as its user, and none of it ends with the job. This
/// test's own process stands for theirs.
#[tokio::test]
async fn what_a_job_has_left_to_others_is_kept_from_it_too() {
    if !is_google_there().await {
        return;
    }
    let Some(vm) = Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == Kind::Process) else { return };
    vm.set_job("true", job(&vm, 6, "block"));
    let bin = vm.dir().join("bin");
    let script = format!("echo up; read go; {TRIES}");
    let mut left = Command::new("setpriv")
        .args(["--reuid", "7006", "--regid", "7006", "--clear-groups", "sh", "-c", &script])
        .env("PATH", format!("{}:{}", bin.display(), path()))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    expect(&vm.run().await, &json!({"cause": "NONE"}));
    assert!(
        rules().await.contains("7006") && vm.logs().contains("stays blocked for uidrange 7006-7006"),
        "{}",
        vm.logs()
    );
    tokio::io::AsyncWriteExt::write_all(&mut left.stdin.take().unwrap(), b"go\n").await.unwrap();
    let output = left.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("up\n{BLOCKED}"));
    // Nothing of it is left: the next run opens the way.
    assert_eq!(vm.start().wait().await, 0);
    assert!(!rules().await.contains("7006"), "{}", rules().await);
}

/// What became of an earlier job's container is asked for, and not taken for granted.
#[tokio::test]
async fn it_is_not_lifted_while_an_earlier_container_may_run() {
    if !is_google_there().await {
        return;
    }
    let _bridge = bridge().await;
    let Some(vm) = Vm::with_docker().await else { return };
    let mut changes = job(&vm, 7, "block");
    changes["timeout"] = json!("1m");
    vm.set_job(e2e::UNTIL_LET_GO, changes);
    let agent = vm.start();
    vm.until_phase("RUNNING").await;
    // It stands for one that could not be removed: by the image's id, as one of the job's own image would be.
    let label = format!("vmjob.claim={}", vm.journal()["claim"].as_str().unwrap());
    let name = format!("earlier-{}", vm.container(1));
    let image = docker::docker(&["image", "inspect", "--format", "{{.Id}}", docker::IMAGE]).await;
    docker::docker(&["run", "-d", "--name", &name, "--label", &label, image.trim(), "sleep", "600"]).await;
    vm.let_go();
    expect(&vm.finish(agent).await, &json!({"cause": "NONE"}));
    assert!(rules().await.contains("iif") && vm.logs().contains("stays blocked for iif"), "{}", vm.logs());

    // Another job, that may reach it, and finds it blocked as long as that one runs.
    vm.cloud.remove_attribute("callback-url");
    vm.set_job("true", json!({}));
    assert_eq!(vm.start().wait().await, 0);
    assert!(rules().await.contains("iif"), "{}", vm.logs());
    docker::remove(&name).await;
    assert_eq!(vm.start().wait().await, 0);
    assert!(!rules().await.contains("iif"), "{}", vm.logs());
}

/// What one job could not remove the next one does.
#[tokio::test]
async fn rules_that_are_left_end_before_another_job() {
    if !is_google_there().await {
        return;
    }
    let Some(vm) = Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == Kind::Process) else { return };
    let ip =
        "batch=$(cat); case $batch in *del*) echo no >&2; exit 1;; esac; echo \"$batch\" | PATH=${PATH#*:} ip \"$@\"";
    let mut changes = job(&vm, 4, "block");
    changes["process"]["env"] = json!({});
    vm.set_job("grep NoNewPrivs /proc/self/status", changes);
    let mut command = vm.command();
    command.env("PATH", vm.path_with("ip", ip));
    let report = vm.finish(vm.spawn(command)).await;
    expect(&report, &json!({"cause": "NONE", "logs": {"tail": "NoNewPrivs:\t1\n"}}));
    assert!(
        rules().await.contains("7004") && vm.logs().contains("still blocked for uidrange 7004-7004"),
        "{}",
        vm.logs()
    );

    vm.cloud.remove_attribute("callback-url");
    vm.set_job("true", json!({}));
    assert_eq!(vm.start().wait().await, 0);
    assert!(!rules().await.contains("7004"), "{}", rules().await);
}

/// The agent finds an `ip` that does not work, or none.
#[tokio::test]
async fn a_rule_that_cannot_be_made_keeps_the_job_from_starting() {
    for (ip, why) in [(None, "failed to run `ip`"), (Some("exec <&-; echo no rules here >&2; exit 1"), "no rules here")]
    {
        let Some(vm) = Vm::of_each_kind().await.pop() else { return };
        if vm.kind() != Kind::Process {
            return;
        }
        vm.set_job("echo x >>/shared/starts", job(&vm, 3, "block"));
        let mut command = vm.command();
        command.env("PATH", ip.map_or_else(|| vm.dir().display().to_string(), |script| vm.path_with("ip", script)));
        let report = vm.finish(vm.spawn(command)).await;
        expect(&report, &json!({"cause": "START_FAILED", "exit_code": null, "message": "~metadata_server: block"}));
        expect(&report, &json!({"message": format!("~{why}")}));
        assert_eq!(vm.starts(), 0);
    }
}
