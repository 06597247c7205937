//! Jobs without a container, with the calls that containers have: each has a directory of its own below the state directory, and a
//! shim that runs it (see [`crate::shim`]).

use std::{
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::oneshot::{self, error::TryRecvError},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use super::{
    EngineError, MainProcess, SecretEnv,
    inspect::{ContainerFacts, Exit, Found, Inspected, Status},
};
use crate::{
    clock,
    service::{own_program, unit_state},
    shim::{Files, ProcessSpec, ProcessState, SECRETS_WORD, end_groups, kill_groups},
    threads,
};

/// Until a shim has begun its job, on slow disks at boot.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// Until a shim answers.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Until a shim that was told to kill its job is gone.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Between two looks at a shim that takes its time, and two questions to the service manager about it.
const UNIT_INTERVAL: Duration = Duration::from_secs(2);

/// The jobs below one directory.
#[derive(Debug, Clone)]
pub struct Processes {
    dir: PathBuf,
}

impl Processes {
    pub fn below(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn files(&self, name: &str) -> Files {
        Files::new(&self.dir.join(name))
    }

    pub(super) fn create(&self, spec: &ProcessSpec) -> Result<String, EngineError> {
        match self.files(&spec.name).create(spec) {
            Ok(()) => Ok(spec.name.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(EngineError::Refused { status: 409, message: format!("{} is there already", spec.name) })
            }
            Err(error) => Err(failed("write down what is to run", &error)),
        }
    }

    /// Starts the shim, unless it is there, and waits until it has begun the job.
    pub(super) async fn start(&self, name: &str, secrets: &SecretEnv) -> Result<(), EngineError> {
        let files = self.files(name);
        let spec = files.spec().map_err(|error| failed("read what is to run", &error))?;
        let mut shim = match files.connect().await {
            Ok(_) => Shim::Found,
            Err(_) => launch(&spec, &self.dir.join(name)).await?,
        };
        let end = Instant::now() + START_DEADLINE;
        let mut has_secrets = !spec.has_secrets;
        let mut look_at = Instant::now() + UNIT_INTERVAL;
        loop {
            if Instant::now() >= look_at {
                // Its job may have stopped it before it could write down that it had begun it.
                self.shim(name).await?;
                look_at = Instant::now() + UNIT_INTERVAL;
            }
            // Asked before the state is read: a shim writes that down before it goes. Another's may be beginning the job meanwhile.
            let is_gone = shim.is_gone(&files).await && !matches!(files.lock(), Ok(None));
            let state = files.state().map_err(|error| failed("read the job's state", &error))?;
            if state.is_none() && is_gone && matches!(shim, Shim::Found) {
                // It got no secrets, as the agent that began to send them died: another has more luck.
                shim = launch(&spec, &self.dir.join(name)).await?;
                has_secrets = !spec.has_secrets;
                continue;
            }
            if state.is_none() && is_gone {
                return Err(EngineError::Failed(
                    "the job's shim ended before it had begun the job; its log says why".into(),
                ));
            }
            if state.is_none() && !has_secrets {
                has_secrets = self.tell(name, &secrets_line(secrets)).await?;
            }
            match state {
                Some(ProcessState { error: Some(problem), .. }) => return Err(EngineError::Failed(problem)),
                Some(state) if state.started_at.is_some() => return Ok(()),
                _ if Instant::now() > end => {
                    return Err(EngineError::Late { call: "start", deadline: START_DEADLINE });
                }
                _ => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    pub(super) async fn inspect(&self, name: &str) -> Result<Found, EngineError> {
        let files = self.files(name);
        let spec = match files.spec() {
            Ok(spec) => spec,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(failed("read what is to run", &error)),
        };
        // Asked before the state is read: a shim writes the end down before it goes.
        let shim = self.shim(name).await;
        let state = files.state().map_err(|error| failed("read the job's state", &error))?;
        let status = match &state {
            None => Status::Created,
            Some(state) if state.error.is_some() => Status::Created,
            Some(state) if state.ended.is_some() => Status::Exited,
            Some(_) if shim?.is_some() => Status::Running,
            Some(_) => Status::Lost,
        };
        let ended = state.as_ref().and_then(|state| state.ended.clone());
        let started_at = state.as_ref().and_then(|state| state.started_at.as_deref());
        Ok(Found::Container(Box::new(Inspected {
            id: spec.name,
            pid: state.as_ref().map(|state| state.pid).filter(|_| status == Status::Running),
            status,
            exit: Exit {
                code: ended.as_ref().map_or(0, |ended| ended.code),
                oom_killed: ended.as_ref().is_some_and(|ended| ended.oom_killed),
                error: state.as_ref().and_then(|state| state.error.clone()).unwrap_or_default(),
                is_unseen: false,
            },
            started_at: started_at.and_then(clock::parse),
            finished_at: ended.as_ref().and_then(|ended| clock::parse(&ended.finished_at)),
            log_path: Some(files.log()),
            stop_signal: "SIGTERM".into(),
            labels: spec.labels.into_iter().collect(),
            container: ContainerFacts::default(),
        })))
    }

    /// Waits for the job's end: the exit code. This call alone has no deadline.
    pub(super) async fn wait(&self, name: &str) -> Result<i64, EngineError> {
        if let Some(mut shim) = self.shim(name).await? {
            // It says nothing unasked, and goes when the job has ended.
            let _ = shim.read(&mut [0]).await;
        }
        match self.files(name).state() {
            Ok(Some(ProcessState { ended: Some(ended), .. })) => Ok(ended.code),
            Ok(_) => Err(EngineError::Refused { status: 404, message: "the job's shim is gone".into() }),
            Err(error) => Err(failed("read the job's state", &error)),
        }
    }

    /// Sends a signal; false if the job does not run.
    pub(super) async fn kill(&self, name: &str, signal: &str) -> Result<bool, EngineError> {
        self.tell(name, signal).await
    }

    /// A connection to the shim; `None` only if nobody listens. One that was stopped, as its job can do, goes on.
    async fn shim(&self, name: &str) -> Result<Option<UnixStream>, EngineError> {
        match self.files(name).connect().await {
            Ok(shim) => {
                if let Some(process) = listener_of(&shim)
                    && process.is_stopped()
                {
                    warn!("the job's shim was stopped (SIGSTOP): it is continued");
                    let _ = process.signal(Signal::CONT);
                }
                Ok(Some(shim))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            // It may be there all the same: too many wait for its answer, or too many files are open here.
            Err(error) => Err(EngineError::Unreachable(format!("the job's shim: {error}"))),
        }
    }

    /// Ends the job and its shim without the shim's help.
    pub(super) async fn end_by_force(&self, name: &str) {
        let files = self.files(name);
        let groups = files.state().ok().flatten().map(|state| state.groups).unwrap_or_default();
        let shim = files.connect().await.ok().and_then(|shim| listener_of(&shim));
        kill_groups(&groups);
        // The kernel ends the job's first process with its shim.
        if let Some(shim) = shim {
            let _ = shim.signal(Signal::KILL);
        }
    }

    /// Sends the shim a line; false if it does not take it, or is not there.
    async fn tell(&self, name: &str, line: &str) -> Result<bool, EngineError> {
        let Some(shim) = self.shim(name).await? else { return Ok(false) };
        let exchange = async {
            let mut shim = BufReader::new(shim);
            shim.write_all(format!("{line}\n").as_bytes()).await?;
            let mut answer = String::new();
            shim.read_line(&mut answer).await.map(|_| answer)
        };
        match timeout(CALL_DEADLINE, exchange).await {
            Ok(Ok(answer)) => Ok(answer == "sent\n"),
            // It went as the job ended.
            Ok(Err(_)) => Ok(false),
            Err(_) => Err(EngineError::Late { call: "kill", deadline: CALL_DEADLINE }),
        }
    }

    /// Ends what is left of the job, and removes all that it has; one that is gone already is fine.
    pub(super) async fn remove(&self, name: &str) -> Result<(), EngineError> {
        match self.kill(name, "SIGKILL").await {
            Ok(false) => {}
            killed => {
                if killed.is_err() {
                    self.end_by_force(name).await;
                }
                let end = Instant::now() + KILL_DEADLINE;
                while self.shim(name).await?.is_some() {
                    if Instant::now() > end {
                        return Err(EngineError::Late { call: "remove", deadline: KILL_DEADLINE });
                    }
                    sleep(LOOK_INTERVAL).await;
                }
            }
        }
        Self::discard(&self.files(name)).await
    }

    /// Removes a job that was not begun; an error if it was, or is being.
    pub(super) async fn remove_stopped(&self, name: &str) -> Result<(), EngineError> {
        let files = self.files(name);
        let lock = match files.lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            lock => lock.map_err(|error| failed("lock the job", &error))?,
        };
        match lock {
            Some(_lock) => Self::discard(&files).await,
            None => Err(EngineError::Refused { status: 409, message: "the job is being started".into() }),
        }
    }

    /// What is left is kept, and is to be removed later, where a process of the job does not end.
    async fn discard(files: &Files) -> Result<(), EngineError> {
        if let Ok(Some(state)) = files.state() {
            // Of a shim that was killed something may be left.
            let ended = spawn_blocking(move || end_groups(&state.groups)).await.map_err(io::Error::other).flatten();
            ended.map_err(|error| failed("end what is left of the job", &error))?;
        }
        files.remove().map_err(|error| failed("remove what the job has left", &error))
    }
}

/// A shim that is to begin its job, and how to tell whether it still may.
enum Shim {
    /// It was there already, with its socket.
    Found,
    /// Ready once it has ended.
    Child(oneshot::Receiver<()>),
    /// A unit, which has been started, and when the service manager is to be asked about it.
    Unit(String, Instant),
}

impl Shim {
    async fn is_gone(&mut self, files: &Files) -> bool {
        match self {
            Self::Found => files.connect().await.is_err(),
            Self::Child(end) => end.try_recv() != Err(TryRecvError::Empty),
            Self::Unit(unit, ask_at) => {
                if Instant::now() < *ask_at {
                    return false;
                }
                *ask_at = Instant::now() + UNIT_INTERVAL;
                let unit = unit.clone();
                let state = spawn_blocking(move || unit_state(&unit)).await;
                matches!(state, Ok(Ok((_, active))) if active == "inactive" || active == "failed")
            }
        }
    }
}

/// The process that listens at the other end: who called `listen` (`unix(7)`, `SO_PEERCRED`).
fn listener_of(shim: &UnixStream) -> Option<MainProcess> {
    MainProcess::of_shim(shim.peer_cred().ok()?.pid()?.into())
}

/// What tells a shim the job's secrets.
fn secrets_line(secrets: &SecretEnv) -> String {
    let secrets = secrets.iter().map(|(name, value)| (name.clone(), value.reveal().into())).collect();
    format!("{SECRETS_WORD}{}", serde_json::Value::Object(secrets))
}

/// Starts a shim that does not end with the agent: as a unit of its own where systemd is, and not confined as the agent is.
async fn launch(spec: &ProcessSpec, dir: &Path) -> Result<Shim, EngineError> {
    let agent = own_program().map_err(|error| failed("find the agent's own program", &error))?;
    let mut command = if spec.has_own_group {
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--collect", "--unit", &spec.name, "--description=a job of vmjob"]).args([
            // Stopped after the agent, which can still report it then.
            "--property=Before=vmjob-agent.service",
            "--property=KillMode=mixed",
            // A child that was killed for memory is no reason to end the job.
            "--property=OOMPolicy=continue",
            "--property=MemoryAccounting=yes",
            "--property=CPUAccounting=yes",
            "--property=IOAccounting=yes",
            "--property=TasksMax=infinity",
            "--property=LimitNOFILE=1048576",
        ]);
        command.arg(agent);
        command
    } else {
        Command::new(agent)
    };
    let stderr = if spec.has_own_group { Stdio::piped() } else { Stdio::inherit() };
    // Ctrl-C at a terminal is for the agent.
    command.arg("shim").arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
    let mut child = command.spawn().map_err(|error| failed("start the job's shim", &error))?;
    if !spec.has_own_group {
        let (ended, end) = oneshot::channel();
        threads::spawn(move || {
            let _ = child.wait();
            // Whoever started it may have stopped waiting.
            let _ = ended.send(());
        });
        return Ok(Shim::Child(end));
    }
    let end = Instant::now() + START_DEADLINE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                if !status.success() {
                    let output = child.wait_with_output().map_err(|error| failed("start the job's shim", &error))?;
                    let text = String::from_utf8_lossy(&output.stderr);
                    // "Unit … was already loaded", or "already exists": an agent that died has started it.
                    if !text.contains(" already ") {
                        return Err(EngineError::Failed(format!("systemd-run failed: {}", text.trim())));
                    }
                }
                return Ok(Shim::Unit(format!("{}.service", spec.name), Instant::now() + UNIT_INTERVAL));
            }
            Ok(None) if Instant::now() < end => sleep(LOOK_INTERVAL).await,
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(EngineError::Late { call: "systemd-run", deadline: START_DEADLINE });
            }
            Err(error) => return Err(failed("start the job's shim", &error)),
        }
    }
}

fn failed(what: &str, error: &io::Error) -> EngineError {
    // In the words in which engines say it.
    if error.kind() == io::ErrorKind::StorageFull {
        return EngineError::Failed(format!("failed to {what}: no space left on device"));
    }
    EngineError::Failed(format!("failed to {what}: {error}"))
}

#[cfg(test)]
mod tests;
