//! The agent under test: the binary that ships, as a process of its own, started again and again over one state directory.

use std::{
    fs::{self, File},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long the agent waits for an engine, and for the confirmation of an exit.
pub const ENGINE_PATIENCE: Duration = Duration::from_secs(25);

/// How a life starts the agent.
#[derive(Debug, Clone)]
pub struct Launch {
    pub binary: PathBuf,
    pub metadata_host: String,
    pub dir: PathBuf,
    /// The boot id that the agent is to see, where it is not the machine's.
    pub boot_id: Option<String>,
    /// The engine that the agent is to use, where there is a gate before it.
    pub docker_host: Option<String>,
    /// The library that gives the agent a wall clock of its own, where the schedule sets it. The binary has to be a dynamic one.
    pub libfaketime: Option<PathBuf>,
}

/// One process of the agent, ended or not.
#[derive(Debug, Clone)]
pub struct Run {
    pub started: SystemTime,
    pub ended: Option<(SystemTime, Ending)>,
    /// Signals that it was sent, in words.
    pub told: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Code(i32),
    Signal(i32),
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or_default()), Self::Code)
    }
}

impl Launch {
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What the agent wrote, of all its processes: its log, and the job's output with the report's line.
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    pub fn stdout(&self) -> PathBuf {
        self.dir.join("agent.out")
    }

    /// What the engine told of the job's containers.
    pub fn events(&self) -> PathBuf {
        self.dir.join("events")
    }

    /// Sets the wall clock that the agent sees to so many s off the true time.
    pub fn set_clock(&self, off_s: i64) -> io::Result<()> {
        let new = self.dir.join("clock.new");
        fs::write(&new, format!("{off_s:+}\n"))?;
        fs::rename(new, self.clock())
    }

    fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    pub fn start(&self) -> io::Result<Child> {
        let mut command = match &self.boot_id {
            None => Command::new(&self.binary),
            Some(boot_id) => {
                // The mount is for this process alone; `exec` keeps the pid.
                let file = self.dir.join("boot_id");
                fs::write(&file, format!("{boot_id}\n"))?;
                let mut command = Command::new("unshare");
                command
                    .args(["--mount", "--propagation", "private", "sh", "-c"])
                    .arg(r#"mount --bind "$1" /proc/sys/kernel/random/boot_id && exec "$2" run"#)
                    .arg("sh")
                    .args([&file, &self.binary]);
                command
            }
        };
        command.env_clear();
        if let Some(library) = &self.libfaketime {
            // `faketime(1)`: the file is read at each look at the clock; monotonic clocks are left alone, as by a real jump.
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock())
                .envs(["FAKETIME_NO_CACHE", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"].map(|name| (name, "1")));
        }
        command
            .envs(
                ["PATH", "DOCKER_HOST", "RUST_LOG"]
                    .into_iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(self.docker_host.iter().map(|host| ("DOCKER_HOST", host)))
            .env("GCE_METADATA_HOST", &self.metadata_host)
            .env("STATE_DIRECTORY", self.state_dir())
            .env("VMJOB_CALLBACK_ALLOW", "127.0.0.1")
            .env("VMJOB_METADATA_PATIENCE", "25s")
            .env("VMJOB_ENGINE_PATIENCE", format!("{}s", ENGINE_PATIENCE.as_secs()))
            .stdin(Stdio::null())
            .stdout(append(&self.stdout())?)
            .stderr(append(&self.log())?)
            .kill_on_drop(true)
            .spawn()
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Sends a signal to a process that may have ended meanwhile.
pub fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}
