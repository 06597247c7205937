//! Images from Google's registries: the VM's token opens them. A real registry stands behind a door that wants the token,
//! and the name of Google's is made to lead there; so it takes the private engine of `tests/with-docker`.

use std::fs;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use e2e::{Registry, Vm, docker, expect, skip, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

const HOST: &str = "europe-docker.pkg.dev";
/// Another one, at an address that is none of loopback's: there the engine wants a certificate that it trusts.
const TLS_HOST: &str = "us-docker.pkg.dev";
const TLS_ADDRESS: &str = "10.97.0.1";

/// Makes both hosts this machine, for the engine and whoever else lives with it in its namespaces, where that harms nobody.
async fn is_us() -> bool {
    static MADE: OnceCell<bool> = OnceCell::const_new();
    *MADE.get_or_init(become_them).await
}

async fn become_them() -> bool {
    let first = fs::read("/proc/1/cmdline").unwrap_or_default();
    if !String::from_utf8_lossy(&first).contains("with-docker") {
        skip("the engine is not the private one of tests/with-docker (VMJOB_DOCKER=private)");
        return false;
    }
    let file = format!("/tmp/vmjob-e2e-hosts.{}", std::process::id());
    fs::write(&file, format!("127.0.0.1 localhost {HOST}\n{TLS_ADDRESS} {TLS_HOST}\n")).unwrap();
    let added = Command::new("ip").args(["addr", "add", &format!("{TLS_ADDRESS}/32"), "dev", "lo"]).status().await;
    assert!(added.unwrap().success());
    let mounted = Command::new("mount").args(["--bind", &file, "/etc/hosts"]).status().await;
    fs::remove_file(&file).unwrap();
    // An engine that has just looked a name up knows the old file for five seconds more (Go's `net`, `hosts.go`).
    until("the engine to find the host", async || {
        let nothing = docker::run(&["pull", "--quiet", &format!("{TLS_HOST}/nothing:1")]).await;
        (!String::from_utf8_lossy(&nothing.stderr).contains("lookup")).then_some(())
    })
    .await;
    mounted.unwrap().success()
}

/// The door. It asks for a password, tells which it was given, and lets everybody in who has one, but not to `/shut/`, and to
/// `/busy/` only those who have come with another password before.
async fn door(listener: TcpListener, registry: SocketAddr, given: UnboundedSender<String>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(let_in(client, registry, given.clone()));
    }
}

/// The token that the registry was busy for: it serves every other.
static BUSY_WITH: OnceLock<String> = OnceLock::new();

async fn let_in(mut client: TcpStream, registry: SocketAddr, given: UnboundedSender<String>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let Some(password) = text.lines().find_map(|line| line.strip_prefix("Authorization: Basic ")) else {
        let refusal = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"door\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(refusal.as_bytes()).await.ok();
    };
    let _ = given.send(password.to_owned());
    if text.starts_with("GET /v2/shut/") || text.starts_with("HEAD /v2/shut/") {
        let refusal = "HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(refusal.as_bytes()).await.ok();
    }
    if text.contains(" /v2/busy/") && BUSY_WITH.get_or_init(|| password.to_owned()) == password {
        // Time for the metadata server to change the token.
        sleep(Duration::from_millis(500)).await;
        let busy = "HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(busy.as_bytes()).await.ok();
    }
    let mut registry = TcpStream::connect(registry).await.ok()?;
    registry.write_all(&head).await.ok()?;
    copy_bidirectional(&mut client, &mut registry).await.ok().map(drop)
}

async fn decoded(given: &mut UnboundedReceiver<String>) -> String {
    decode(&given.recv().await.unwrap()).await
}

async fn decode(password: &str) -> String {
    let mut base64 = Command::new("base64");
    let file = format!("/tmp/vmjob-e2e-password.{}", std::process::id());
    fs::write(&file, password).unwrap();
    let output = base64.args(["--decode", &file]).output().await.unwrap();
    fs::remove_file(file).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_vm_s_token_opens_google_s_registry() {
    let Some(vm) = Vm::with_docker().await else { return };
    let Some(registry) = Registry::start(vm.dir(), false).await else { return };
    if !is_us().await {
        return;
    }
    // The engine tries plain HTTP where a name leads to loopback.
    let listener = TcpListener::bind("127.0.0.1:80").await.unwrap();
    let (sender, mut given) = unbounded_channel();
    let door = tokio::spawn(door(listener, registry.host.parse().unwrap(), sender));

    registry.push("p/r/train:1").await;
    let image = format!("{HOST}/p/r/train:1");
    let report = vm.run_job("exit 7", json!({"container": {"image": image}})).await;
    expect(&report, &json!({"exit_code": 7, "image": {"ref": image, "digest": "~sha256:"}}));
    assert_eq!(decoded(&mut given).await, format!("oauth2accesstoken:{}", vm.tokens()[0]));

    let Some(vm) = Vm::with_docker().await else { return };
    let missing = vm.run_job("true", json!({"container": {"image": format!("{HOST}/p/r/other:1")}})).await;
    expect(&missing, &json!({"cause": "IMAGE_NOT_FOUND"}));

    // Who shows the right token and is not let in, and who has no token to show because the name is not Google's.
    let denied = json!({"cause": "IMAGE_DENIED", "image": {"digest": null}});
    let Some(vm) = Vm::with_docker().await else { return };
    let shut = format!("{HOST}/shut/train:1");
    expect(&vm.run_job("true", json!({"container": {"image": shut}})).await, &denied);
    while given.try_recv().is_ok() {}
    let Some(vm) = Vm::with_docker().await else { return };
    expect(&vm.run_job("true", json!({"container": {"image": "127.0.0.1:80/p/r/train:1"}})).await, &denied);
    assert!(given.try_recv().is_err(), "a registry that is not Google's was given a password");
    docker::docker(&["rmi", &image]).await;

    // A metadata server that has no token just now is no reason to ask without one.
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.script_metadata("instance/service-accounts/default/token", "503,reset".parse().unwrap());
    let report = vm.run_job("exit 7", json!({"container": {"image": image}})).await;
    expect(&report, &json!({"exit_code": 7, "image": {"digest": "~sha256:"}}));
    assert!(
        vm.logs().contains("there is no token for the registry") && vm.logs().contains("try 3 in"),
        "{}",
        vm.logs()
    );
    while given.try_recv().is_ok() {}
    docker::docker(&["rmi", &image]).await;

    // Each try shows the token that is good then.
    registry.push("busy/train:1").await;
    let Some(vm) = Vm::with_docker().await else { return };
    let busy = format!("{HOST}/busy/train:1");
    vm.set_job("exit 7", json!({"container": {"image": busy}}));
    let agent = vm.start();
    let first = decoded(&mut given).await;
    vm.cloud.rotate_tokens();
    expect(&vm.finish(agent).await, &json!({"exit_code": 7, "image": {"digest": "~sha256:"}}));
    let mut last = first.clone();
    while let Ok(password) = given.try_recv() {
        last = password;
    }
    assert!(vm.logs().contains("try 2 in"), "{}", vm.logs());
    let second = format!("oauth2accesstoken:{}", vm.tokens()[0]);
    assert_eq!((decode(&last).await, first == second), (second, false));
    docker::docker(&["rmi", &busy]).await;
    door.abort();
}

/// The token that the VM has now.
async fn token(vm: &Vm) -> String {
    let mut metadata = TcpStream::connect(vm.cloud.metadata_host()).await.unwrap();
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nMetadata-Flavor: Google\r\nConnection: close\r\n\r\n");
    metadata.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    metadata.read_to_string(&mut answer).await.unwrap();
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

/// A whole registry behind the name: TLS, a certificate of its own authority, passwords.
#[tokio::test]
async fn a_registry_that_asks_for_passwords_by_tls_takes_the_token_that_is_good_then() {
    const USER: &str = "oauth2accesstoken";
    let Some(vm) = Vm::with_docker().await else { return };
    if !is_us().await {
        return;
    }
    let Some(registry) = Registry::start_with_tls(vm.dir(), TLS_HOST, TLS_ADDRESS).await else { return };
    let image = registry.push("p/r/train:1").await;
    let job = json!({"container": {"image": image}});
    registry.let_in(USER, &token(&vm).await).await;
    let report = vm.run_job("exit 7", job.clone()).await;
    expect(&report, &json!({"exit_code": 7, "image": {"ref": image, "digest": "~sha256:"}}));
    docker::docker(&["rmi", &image]).await;

    // Another VM's token is none of those that are let in.
    let Some(vm) = Vm::with_docker().await else { return };
    expect(&vm.run_job("true", job.clone()).await, &json!({"cause": "IMAGE_DENIED", "image": {"digest": null}}));
    assert!(!vm.logs().contains("try 2 in"), "{}", vm.logs());

    // Between two tries the token expires, and the registry takes the next one only.
    let Some(vm) = Vm::with_docker().await else { return };
    registry.let_in(USER, &token(&vm).await).await;
    let registry = registry.stop().await;
    vm.set_job("exit 7", job);
    let agent = vm.start();
    vm.until_logged("try 2 in").await;
    vm.cloud.revoke_tokens();
    registry.let_in(USER, &token(&vm).await).await;
    let _registry = registry.start_again().await;
    let report = vm.finish(agent).await;
    expect(&report, &json!({"exit_code": 7, "image": {"ref": image, "digest": "~sha256:"}}));
    docker::docker(&["rmi", &image]).await;
}
