//! Where the first process of a container is an init (`docker run --init`, or one of the image's own): which process is the job.

use std::{fs, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// Docker's, Podman's, and those that images bring along: each ends with the exit of the one process that it was told to run.
const INITS: [&str; 5] = ["docker-init", "catatonit", "tini", "tini-static", "dumb-init"];
/// How long an init may take to start its process.
const LOOKS: u32 = 25;
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// A first process that only runs another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// The process that it runs, as the engine numbers it; `None` where that was gone, or could not be seen.
    pub child: Option<i64>,
}

impl Init {
    /// The init that process `pid` is; `None` where it is the job itself. `is_asked_for`: the job wants one from the engine.
    pub async fn of(pid: i64, is_asked_for: bool) -> Option<Self> {
        let mut child = None;
        let mut is_init = is_asked_for;
        for _ in 0..LOOKS {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            is_init |= INITS.contains(&name.trim());
            // The engine's runtime, about to become what the container runs.
            let is_early = name.starts_with("runc") || name.starts_with("crun");
            child = first_child(pid).filter(|_| is_init && !is_early);
            if child.is_some() || name.is_empty() || !(is_init || is_early) {
                break;
            }
            sleep(LOOK_INTERVAL).await;
        }
        is_init.then_some(Self { child })
    }
}

/// The oldest child of a process (`proc_pid_task(5)`, `children`; the parent is the fourth field of `stat` otherwise).
fn first_child(pid: i64) -> Option<i64> {
    if let Ok(children) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        return children.split(' ').next()?.parse().ok();
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i64>().ok());
    let has_parent = |child: &i64| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
        parent == Some(pid)
    };
    numbers.filter(has_parent).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_that_an_init_runs_is_found() {
        let mut shell = std::process::Command::new("sh").args(["-c", "sleep 60; true"]).spawn().unwrap();
        let pid = shell.id().into();
        assert_eq!(Init::of(pid, false).await, None, "a shell is no init");
        let found = Init::of(pid, true).await.unwrap();
        let child = found.child.expect("it has a child");
        // The shell goes on when the one that it waits for is gone.
        let _ = std::process::Command::new("kill").arg(child.to_string()).status();
        shell.wait().unwrap();
        assert_eq!(Init::of(pid, true).await, Some(Init { child: None }), "it is gone");
    }
}
