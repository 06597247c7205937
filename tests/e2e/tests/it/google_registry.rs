//! Images from Google's registries: the VM's token opens them. A real registry stands behind a door that wants the token,
//! and the name of Google's is made to lead there; so it takes the private engine of `tests/with-docker`.

use std::fs;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use e2e::{Registry, Vm, docker, expect, skip};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

const HOST: &str = "europe-docker.pkg.dev";

/// Makes [`HOST`] this machine, for the engine and whoever else lives with it in its namespaces, where that harms nobody.
async fn is_us() -> bool {
    let first = fs::read("/proc/1/cmdline").unwrap_or_default();
    if !String::from_utf8_lossy(&first).contains("with-docker") {
        skip("the engine is not the private one of tests/with-docker (VMJOB_DOCKER=private)");
        return false;
    }
    let file = format!("/tmp/vmjob-e2e-hosts.{}", std::process::id());
    fs::write(&file, format!("127.0.0.1 localhost {HOST}\n")).unwrap();
    let mounted = Command::new("mount").args(["--bind", &file, "/etc/hosts"]).status().await;
    fs::remove_file(&file).unwrap();
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
        vm.logs().contains("there is no token for the registry") && vm.logs().contains("try 3 of 5"),
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
    assert!(vm.logs().contains("try 2 of 5"), "{}", vm.logs());
    let second = format!("oauth2accesstoken:{}", vm.tokens()[0]);
    assert_eq!((decode(&last).await, first == second), (second, false));
    docker::docker(&["rmi", &busy]).await;
    door.abort();
}
