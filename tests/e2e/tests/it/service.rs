//! The agent as systemd and Google's script runner start it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use e2e::{Vm, agent_binary, expect};
use fakecloud::Config;
use serde_json::json;
use tokio::process::Command;
use tokio::task::{JoinHandle, spawn_blocking};

/// Listens until the other end is told to have ended. The kernel keeps ten messages for those who do not listen.
fn listen(socket: UnixDatagram) -> JoinHandle<Vec<String>> {
    spawn_blocking(move || {
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            match str::from_utf8(&buffer[..length]).unwrap() {
                "" => return messages,
                message => messages.push(message.to_owned()),
            }
        }
    })
}

/// `Type=notify` and `WatchdogSec`: with a socket in the file system, and with one in the abstract namespace.
#[tokio::test]
async fn systemd_is_told_that_the_agent_is_ready_alive_and_at_what() {
    for is_abstract in [false, true] {
        let Some(vm) = Vm::with_docker().await else { return };
        vm.set_job("sleep 3", json!({}));
        let (addr, name) = if is_abstract {
            let name = format!("vmjob-notify-{}", vm.id());
            (SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}"))
        } else {
            let path = vm.dir().join("notify");
            (SocketAddr::from_pathname(&path).unwrap(), path.display().to_string())
        };
        let told = listen(UnixDatagram::bind_addr(&addr).unwrap());
        let mut command = vm.command();
        command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "900000");
        vm.finish(vm.spawn(command)).await;
        UnixDatagram::unbound().unwrap().send_to_addr(b"", &addr).unwrap();
        let told = told.await.unwrap();
        assert_eq!(told.first().map(String::as_str), Some("READY=1"), "{told:?}");
        let signs_of_life = told.iter().filter(|message| *message == "WATCHDOG=1").count();
        assert!(signs_of_life >= 4, "{signs_of_life} in the three seconds that the job took");
        for phase in ["RUNNING", "EXITED", "DELIVERED"] {
            assert!(told.contains(&format!("STATUS=job {}: {phase}", vm.id())), "{phase}: {told:?}");
        }
    }
}

/// A watchdog that waits for another process is not ours to feed.
#[tokio::test]
async fn the_watchdog_of_another_process_is_not_fed() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.set_job("true", json!({}));
    let path = vm.dir().join("notify");
    let addr = SocketAddr::from_pathname(&path).unwrap();
    let told = listen(UnixDatagram::bind_addr(&addr).unwrap());
    let mut command = vm.command();
    command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    vm.finish(vm.spawn(command)).await;
    UnixDatagram::unbound().unwrap().send_to_addr(b"", &addr).unwrap();
    let told = told.await.unwrap();
    assert!(told.contains(&"READY=1".to_owned()) && !told.contains(&"WATCHDOG=1".to_owned()), "{told:?}");
}

/// The agent as the target of `startup-script-url`, on a machine where it cannot install itself: the workflow is told.
#[tokio::test]
async fn a_startup_script_that_cannot_install_itself_reports_that() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.set_job("true", json!({}));
    let script = vm.dir().join("startup-script-url");
    // Another program copies it: while one of this process's threads forks, a file that it has open for writing cannot be run.
    let copied = Command::new("cp").arg(agent_binary()).arg(&script).status().await;
    assert!(copied.unwrap().success());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", "mount --bind /usr /usr && mount -o remount,ro,bind /usr && exec \"$1\"", "sh"])
        .arg(script)
        .env("GCE_METADATA_HOST", vm.cloud.metadata_host())
        .env("VMJOB_CALLBACK_ALLOW", "127.0.0.1")
        .env("STATE_DIRECTORY", vm.state_dir());
    let report = vm.finish(vm.spawn(command)).await;
    expect(
        &report,
        &json!({"cause": "AGENT_ERROR", "retryable": true, "message": "~failed to write /usr/bin/vmjob-agent"}),
    );
}
