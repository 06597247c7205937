//! The agent as a child process: found, started, its output passed on, signals handed down, nothing left behind.

use std::collections::VecDeque;
use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use fakecloud::FakeCloud;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::report_filter::ReportFilter;

/// Lines of the agent's log that are kept to explain its death.
const LOG_LINES: usize = 20;
/// How long output may still come after the agent's exit: another process may hold the pipe.
const DRAIN: Duration = Duration::from_secs(2);

/// Where the agent's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Its stdout to ours, its log to our stderr.
    Both,
    /// All of it to our stderr: our stdout is for the report alone.
    OnStderr,
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    output: JoinHandle<()>,
    /// The last lines of a log that is not shown.
    log: Option<JoinHandle<VecDeque<String>>>,
}

/// How the agent ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The last lines of its log, unless the user has seen them.
    pub(crate) log: VecDeque<String>,
}

/// The agent to use: the one asked for, one beside this program, one in `PATH`.
pub(crate) fn find(given: Option<PathBuf>) -> io::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path);
    }
    let beside = env::current_exe()?.with_file_name("vmjob-agent");
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|dir| dir.join("vmjob-agent"));
    std::iter::once(beside).chain(in_path).find(|path| path.is_file()).ok_or_else(|| {
        let problem = "vmjob-agent is neither beside this program nor in PATH; say where it is with --agent PATH";
        io::Error::new(io::ErrorKind::NotFound, problem)
    })
}

impl Agent {
    /// Starts `vmjob-agent run` in a pretended cloud.
    pub(crate) fn start(path: &Path, cloud: &FakeCloud, state_dir: &Path, show: Show) -> io::Result<Self> {
        let (secrets, storage) = (cloud.secretmanager_endpoint(), cloud.storage_endpoint());
        let metadata_host = cloud.metadata_host();
        let arguments = ["run", "--metadata-host", &metadata_host, "--callback-allow", "127.0.0.1", "--state-dir"];
        let log = if show == Show::Nothing { Stdio::piped() } else { Stdio::inherit() };
        let mut child = Command::new(path)
            .args(arguments)
            .arg(state_dir)
            .args(["--secretmanager-endpoint", &secrets, "--storage-endpoint", &storage])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Its own group, so that Ctrl-C reaches it once: from us.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("failed to start {}: {e}", path.display())))?;
        let log = child.stderr.take().map(|stderr| tokio::spawn(last_lines(stderr)));
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("the agent has no stdout"))?;
        let output = tokio::spawn(pass_on(stdout, show));
        Ok(Self { child, output, log })
    }

    /// Sends a signal, unless the agent has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, signal); // it may end at this very moment
        }
    }

    /// Kills the agent and what it has started in its process group.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, Signal::KILL); // likewise
        }
    }

    /// `None` once the agent has been waited for: then the number may be another's.
    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    /// Returns when the agent has ended. May be dropped and called again.
    pub(crate) async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits for the end and the last output.
    pub(crate) async fn end(mut self) -> io::Result<Ended> {
        let status = self.exited().await?;
        if tokio::time::timeout(DRAIN, &mut self.output).await.is_err() {
            self.output.abort();
        }
        let log = match self.log {
            Some(mut log) => match tokio::time::timeout(DRAIN, &mut log).await {
                Ok(lines) => lines.unwrap_or_default(),
                Err(_) => VecDeque::new(),
            },
            None => VecDeque::new(),
        };
        Ok(Ended { status, log })
    }
}

async fn pass_on(mut stdout: impl AsyncRead + Unpin, show: Show) {
    let mut filter = ReportFilter::default();
    let mut chunk = vec![0; 32 << 10];
    while let Ok(length @ 1..) = stdout.read(&mut chunk).await {
        emit(&filter.pass(&chunk[..length]), show);
    }
    emit(&filter.finish(), show);
}

/// Errors are ignored: the job goes on when nobody reads its output.
fn emit(bytes: &[u8], show: Show) {
    let _ = match show {
        Show::Both => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Show::OnStderr => io::stderr().write_all(bytes),
        Show::Nothing => Ok(()),
    };
}

async fn last_lines(stderr: impl AsyncRead + Unpin) -> VecDeque<String> {
    let mut lines = VecDeque::new();
    let mut reader = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = reader.next_segment().await {
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    lines
}
