//! One run of the agent's binary: a child process with its output in files.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::DEADLINE;

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    stdout: PathBuf,
    log: PathBuf,
}

impl Agent {
    pub(crate) fn start(mut command: Command, stdout: PathBuf, log: PathBuf) -> Self {
        let file = |path| Stdio::from(File::create(path).expect("the state directory is writable"));
        let child = command
            .stdin(Stdio::null())
            .stdout(file(&stdout))
            .stderr(file(&log))
            .kill_on_drop(true)
            .spawn()
            .expect("the agent starts");
        Self { child, stdout, log }
    }

    /// Waits for its end and returns its exit status.
    pub async fn wait(&mut self) -> i32 {
        let ended = timeout(DEADLINE * 2, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("the agent does not end:\n{}", self.log()));
        status.ok().and_then(|status| status.code()).unwrap_or_else(|| panic!("the agent was killed:\n{}", self.log()))
    }

    /// Kills it as a power cut would, with no chance to do anything about it.
    pub async fn kill9(&mut self) {
        self.child.kill().await.expect("the agent can be killed");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the agent can be signalled");
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("the agent still runs")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// Its own log, from stderr.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}
