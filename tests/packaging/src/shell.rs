//! Other programs: each with a deadline.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn succeeded(&self) -> bool {
        self.status == Some(0)
    }
}

/// Runs a program; after the deadline it is killed, with exit code 124.
pub fn run(command: &Command, deadline: Duration) -> Ran {
    let mut timed = Command::new("timeout");
    timed.arg("--kill-after=5").arg(deadline.as_secs().to_string()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        timed.current_dir(directory);
    }
    let output = timed.stdin(Stdio::null()).output().expect("timeout(1) can be run");
    Ran {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a program that has to succeed, and returns its stdout.
pub fn succeed(command: &Command, deadline: Duration) -> String {
    let ran = run(command, deadline);
    assert!(ran.succeeded(), "{command:?}: {ran:#?}");
    ran.stdout
}

/// Runs a line of shell that has to succeed, and returns its stdout.
pub fn sh(line: impl AsRef<OsStr>) -> String {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c"]).arg(line);
    succeed(&command, Duration::from_mins(2))
}
