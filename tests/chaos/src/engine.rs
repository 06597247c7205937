//! Trouble with the Docker daemon itself, for lives that have one of their own: that of `tests/with-docker`, in namespaces
//! that nobody else is in.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::{process::Command, time::sleep};

use crate::{docker::docker, schedule::Engine};

const PID_FILE: &str = "/run/docker.pid";
const CONFIG: &str = "/etc/docker/daemon.json";
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether the daemon may be harmed: the first process of our namespace is the one that made both.
pub fn is_ours() -> bool {
    let first = fs::read("/proc/1/cmdline").unwrap_or_default();
    String::from_utf8_lossy(&first).contains("with-docker\0--inside")
}

/// Makes containers outlive the daemon, or not.
pub async fn set_live_restore(live_restore: bool) -> io::Result<()> {
    fs::write(CONFIG, format!("{{\"live-restore\": {live_restore}}}\n"))?;
    kill_process(pid()?, Signal::HUP)?;
    // A reload says nothing when it is done.
    sleep(Duration::from_millis(200)).await;
    Ok(())
}

/// Does it, and comes back when the daemon runs again.
pub async fn trouble(how: Engine, log: &Path) -> io::Result<()> {
    let pid = pid()?;
    match how {
        Engine::Restart(pause_ms) => restart(pid, Signal::TERM, pause_ms, log).await,
        Engine::Crash(pause_ms) => restart(pid, Signal::KILL, pause_ms, log).await,
        Engine::Freeze(ms) => {
            kill_process(pid, Signal::STOP)?;
            sleep(Duration::from_millis(ms)).await;
            Ok(kill_process(pid, Signal::CONT)?)
        }
    }
}

async fn restart(pid: Pid, signal: Signal, pause_ms: u64, log: &Path) -> io::Result<()> {
    let command_line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))?;
    let words = String::from_utf8_lossy(&command_line);
    let mut words = words.split_terminator('\0');
    let program = words.next().ok_or_else(|| io::Error::other("the daemon has no command line"))?;

    kill_process(pid, signal)?;
    let began = Instant::now();
    // Reaped by the first process of the namespace.
    while test_kill_process(pid).is_ok() {
        late(began, "the daemon does not end")?;
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(pause_ms)).await;
    let log = File::options().create(true).append(true).open(log)?;
    // In a session of its own, and not ended with us: the next life needs it.
    Command::new("setsid")
        .args(["--fork", program])
        .args(words)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .await?;
    answers().await
}

/// Waits until the daemon answers.
pub async fn answers() -> io::Result<()> {
    let began = Instant::now();
    while !docker(&["version"]).await? {
        late(began, "the daemon does not come back")?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn late(began: Instant, problem: &str) -> io::Result<()> {
    if began.elapsed() > PATIENCE { Err(io::Error::other(problem)) } else { Ok(()) }
}

fn pid() -> io::Result<Pid> {
    let text = fs::read_to_string(PID_FILE)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other(format!("{PID_FILE} holds no process")))
}
