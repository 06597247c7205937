//! The engine that the jobs run on, asked through Docker's own command line.

use std::env;
use std::process::{Command as StdCommand, Output};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::skip;

/// The one image of the tests: busybox, with a user `job` (1000:1000).
pub const IMAGE: &str = "vmjob/busybox:test";

/// Where the engine listens, as `--docker-host` wants it.
pub fn host() -> String {
    env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

/// Whether there is an engine with the test image. If not, the test is skipped.
pub async fn is_there() -> bool {
    static FOUND: OnceCell<bool> = OnceCell::const_new();
    let is_unwanted = env::var("VMJOB_DOCKER").is_ok_and(|docker| docker == "none");
    let look = async || !is_unwanted && run(&["image", "inspect", IMAGE]).await.status.success();
    let found = *FOUND.get_or_init(look).await;
    if !found {
        skip("no Docker engine with the test image (run it through tests/with-docker)");
    }
    found
}

/// Runs `docker ARGS` and returns what it printed.
pub async fn docker(args: &[&str]) -> String {
    let output = run(args).await;
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs `docker ARGS`, which may fail.
pub async fn run(args: &[&str]) -> Output {
    let output = Command::new("docker").args(args).kill_on_drop(true).output().await;
    output.unwrap_or_else(|error| panic!("failed to run docker: {error}"))
}

/// Removes a container, running or not.
pub async fn remove(container: &str) {
    let mut is_under_way = false;
    loop {
        let output = run(&["rm", "--force", "--volumes", container]).await;
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || (is_under_way && error.contains("No such container")) {
            return;
        }
        // The agent may be at it too.
        is_under_way = error.contains("already in progress");
        assert!(is_under_way, "docker rm {container}: {error}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// The names of the containers, running or not, whose name begins with `prefix`.
pub async fn containers(prefix: &str) -> Vec<String> {
    let filter = format!("name=^/?{prefix}");
    let names = docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]).await;
    names.lines().map(str::to_owned).collect()
}

/// Removes containers that a failed test has left.
pub(crate) fn remove_all(prefix: &str) {
    let filter = format!("name=^/?{prefix}");
    let Ok(found) = StdCommand::new("docker").args(["ps", "--all", "--quiet", "--filter", &filter]).output() else {
        return;
    };
    for id in String::from_utf8_lossy(&found.stdout).lines() {
        let _ = StdCommand::new("docker").args(["rm", "--force", id]).output();
    }
}
