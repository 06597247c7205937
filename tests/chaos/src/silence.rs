//! An engine that half dies: the containers' shims stand still, or what the agent asks is answered late or not at all.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use e2e::{Fate, Gate};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Command, time::sleep};

use crate::schedule::Silence;

/// What the gate does with a call: nothing, hold it if it is about a container, or so many ms of delay.
const OPEN: u64 = 0;
const DEAF: u64 = 1;

/// The agent's way to the engine, through a gate.
pub(crate) struct Road {
    gate: Gate,
    mode: Arc<AtomicU64>,
}

impl Road {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let mode = Arc::new(AtomicU64::new(OPEN));
        let current = Arc::clone(&mode);
        let gate = Gate::open(dir, move |_, call| {
            let is_about_one = call.contains("/containers/") && !call.contains("/containers/create");
            match current.load(Ordering::Relaxed) {
                DEAF if is_about_one => Fate::HoldBefore,
                OPEN | DEAF => Fate::Pass,
                by_ms => Fate::Late(Duration::from_millis(by_ms)),
            }
        });
        let road = Self { gate, mode };
        // Which process the daemon is, stands beside its socket.
        let pid_file = Path::new(road.host().trim_start_matches("unix://")).with_extension("pid");
        let _ = fs::remove_file(&pid_file);
        symlink("/run/docker.pid", pid_file)?;
        Ok(road)
    }

    pub(crate) fn host(&self) -> String {
        self.gate.host()
    }

    /// Begins it; what is returned ends it. Nothing if there is no container that it could be done to.
    pub(crate) async fn begin(
        &self,
        how: Silence,
        containers: &[String],
    ) -> io::Result<Option<impl Future<Output = io::Result<()>> + Send + 'static>> {
        let (mode, ms) = match how {
            Silence::Shim(ms) => (OPEN, ms),
            Silence::Deaf(ms) => (DEAF, ms),
            Silence::Slow { by_ms, ms } => (by_ms, ms),
        };
        let mut shims = Vec::new();
        if matches!(how, Silence::Shim(_)) {
            for container in containers {
                shims.extend(shim_of(container).await?);
            }
            if shims.is_empty() {
                return Ok(None);
            }
        }
        for shim in &shims {
            kill_process(*shim, Signal::STOP)?;
        }
        self.mode.store(mode, Ordering::Relaxed);
        let current = Arc::clone(&self.mode);
        Ok(Some(async move {
            sleep(Duration::from_millis(ms)).await;
            current.store(OPEN, Ordering::Relaxed);
            // A shim may have been killed with its daemon.
            for shim in shims {
                let _ = kill_process(shim, Signal::CONT);
            }
            Ok(())
        }))
    }
}

/// What shims a container that runs: the parent of its main process (`proc(5)`, the fourth field of its `stat`).
async fn shim_of(container: &str) -> io::Result<Option<Pid>> {
    let output = Command::new("docker").args(["inspect", "--format", "{{.State.Pid}}", container]).output().await?;
    let pid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok());
    // The first process is nobody's shim: of a container that does not run, the number is 0.
    Ok(parent.filter(|parent| *parent > 1).and_then(Pid::from_raw))
}
