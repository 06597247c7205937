//! `metadata_server: block`, with a metadata server that stands where it stands on Google's side: behind the VM's network. That is
//! made of two network namespaces, so it takes the private engine of `tests/with-docker`.

use std::fs;
use std::process::Stdio;

use e2e::{Fate, Gate, Kind, Vm, docker, expect, skip, until};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

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

/// A job of either kind that can reach the metadata server, on a network of its own, or as a user of its own.
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
        job["container"] = json!({"network": network(number)});
    }
    job
}

fn network(number: u32) -> String {
    format!("vmjob-test-{number}")
}

async fn make_network(number: u32) {
    let (v4, v6) = (format!("10.98.{number}.0/24"), format!("fd98:{number}::/64"));
    docker::docker(&["network", "create", "--ipv6", "--subnet", &v4, "--subnet", &v6, &network(number)]).await;
}

#[tokio::test]
async fn the_job_does_not_reach_it_and_all_else_goes_on() {
    if !is_google_there().await {
        return;
    }
    make_network(1).await;
    for (metadata_server, reached) in [("allow", OPEN), ("block", BLOCKED)] {
        for vm in Vm::of_each_kind().await {
            let report = vm.run_job(TRIES, job(&vm, 1, metadata_server)).await;
            expect(&report, &json!({"cause": "NONE", "logs": {"head": reached}}));
            assert!(!rules().await.contains("7001") && vm.journal()["blocked"].is_null());
        }
    }
}

/// The rules are there before the job's first step, whoever dies, and gone after it.
#[tokio::test]
async fn it_outlives_a_killed_agent_and_ends_with_the_job() {
    if !is_google_there().await {
        return;
    }
    make_network(2).await;
    for vm in Vm::of_each_kind().await {
        let script = format!("echo x >>/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; {TRIES}");
        let mut changes = job(&vm, 2, "block");
        if vm.kind() == Kind::Process {
            fs::set_permissions(vm.dir().join("shared"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
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
        assert!(!after.contains("7002"), "{after}");
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
                (json!({"process": {"user": "7003:disk"}}), "START_FAILED", "~in the group \"disk\""),
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

/// What is blocked is written down there.
#[tokio::test]
async fn a_job_that_may_write_the_agent_s_state_is_refused() {
    let Some(vm) = Vm::with_docker().await else { return };
    let mounts = json!([{"type": "bind", "source": vm.state_dir(), "target": "/state"}]);
    let mut job = vm.job("true", json!({"metadata_server": "block"}));
    job["container"]["mounts"] = mounts;
    vm.cloud.set_attribute("job-spec", job.to_string());
    let message = "~container.mounts[0].source: a container that can write the VM's own files";
    expect(&vm.run().await, &json!({"cause": "INVALID_SPEC", "exit_code": null, "message": message}));
}

/// Its containers have a way of their own. Not every kernel has such networks, so it is the engine's answer that is another.
#[tokio::test]
async fn a_network_that_is_no_bridge_is_refused() {
    let Some(vm) = Vm::with_docker().await else { return };
    docker::docker(&["network", "create", &network(5)]).await;
    let answer = Fate::Answer(r#"{"Id": "0123456789abcdef", "Driver": "macvlan", "Options": {}}"#);
    let gate = Gate::open_but_for(vm.dir(), "/networks/vmjob-test-5", answer);
    vm.set_job("echo x >>/shared/starts", job(&vm, 5, "block"));
    let report = vm.finish(vm.start_through(&gate)).await;
    docker::docker(&["network", "rm", &network(5)]).await;
    let message = "~a network of the driver \"macvlan\" bypasses the VM's own";
    expect(&report, &json!({"cause": "START_FAILED", "exit_code": null, "message": message}));
    assert_eq!(vm.starts(), 0);
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
