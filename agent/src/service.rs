//! What the agent tells systemd of itself: that it is there, what it does, that it is alive. Nothing where it was not started by
//! systemd. Source: `sd_notify(3)`, `sd_watchdog_enabled(3)`.

use std::{
    convert::Infallible,
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    process::{self, Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

/// A call of `systemctl`: it only has to ask.
const SYSTEMCTL_DEADLINE: Duration = Duration::from_secs(30);
/// How much longer than it may take the service manager is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// The service manager's end, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// How long it goes without a sign of life before it takes the agent for dead.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that started this process.
    pub fn from_env() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let socket = connect(name.as_bytes());
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        Self {
            socket: socket.inspect_err(|error| warn!("failed to reach the service manager: {error}")).ok(),
            watchdog: number("WATCHDOG_USEC").filter(|_| is_for_us).map(Duration::from_micros),
        }
    }

    /// Tells it what the agent is at; it is shown by `systemctl status`.
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={text}"));
    }

    /// Tells it that the agent has begun, and from then on that it is alive, for as long as this is polled.
    pub async fn keep_told(&self) -> Infallible {
        self.tell("READY=1");
        let Some(watchdog) = self.watchdog else { return std::future::pending().await };
        let mut ticks = interval(watchdog / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    /// A service manager that does not listen is no reason to do anything else.
    fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(text.as_bytes());
        }
    }
}

/// Whether systemd runs this machine (`sd_booted(3)`).
pub fn has_manager() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Whether services can be started here: not by a person at a laptop.
pub fn can_start_units() -> bool {
    has_manager() && rustix::process::geteuid().is_root()
}

/// What systemd knows of a unit: `LoadState` and `ActiveState` of `systemctl(1)`.
pub fn unit_state(unit: &str) -> io::Result<(String, String)> {
    let output = systemctl(&["show", unit, "--property=LoadState,ActiveState"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    Ok((value("LoadState="), value("ActiveState=")))
}

/// Asks systemd, by its own program, for a short while.
///
/// # Errors
/// There is no such program, or it does not answer in time. What it answers is the caller's to judge.
pub fn systemctl(call: &[&str]) -> io::Result<Output> {
    let mut command = Command::new("systemctl");
    command.args(call).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn()?, SYSTEMCTL_DEADLINE)
}

/// Has the service manager run `command` to its end, with all of root's rights, for what the agent's own unit may not. It takes no bus,
/// which a machine that shuts down may have no more: the unit counts as started when the command has ended.
///
/// # Errors
/// It cannot be run; it fails; it does not end in time.
pub fn run_in_unit(command: &[&OsStr], dir: &Path, patience: Duration) -> io::Result<()> {
    let mut run = Command::new("systemd-run");
    run.args(["--quiet", "--collect", "--property=Type=oneshot", "--property=DefaultDependencies=no"]);
    run.arg(format!("--property=TimeoutStartSec={}", patience.as_secs())).arg("--working-directory").arg(dir);
    run.args(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // The manager's own limit comes first.
    let output = wait(run.spawn()?, patience + GRACE)?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("a unit for it failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Waits for a child that says little.
///
/// # Errors
/// It does not end in time, and is killed.
pub fn wait(mut child: Child, patience: Duration) -> io::Result<Output> {
    let end = Instant::now() + patience;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("no answer within {} s", patience.as_secs())));
        }
        sleep(Duration::from_millis(5));
    }
    child.wait_with_output()
}

/// The program that this process runs: where it was replaced, its successor. Where that is gone too, itself, which the kernel
/// calls "PATH (deleted)" (`proc_pid_exe(5)`).
pub fn own_program() -> io::Result<PathBuf> {
    let mut path = env::current_exe()?;
    if let Some(replaced) = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        path = replaced.into();
        if !path.exists() {
            path = format!("/proc/{}/exe", process::id()).into();
        }
    }
    Ok(path)
}

/// A name that begins with `@` is in Linux's abstract namespace.
fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // It is never waited for: a message that does not fit is lost.
    socket.set_nonblocking(true)?;
    match name.strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(OsStr::from_bytes(name))?,
    }
    Ok(socket)
}
