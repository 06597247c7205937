//! What stands between the agent and a job without a container: a process that outlives the agent, keeps the job's output, and
//! writes down how it ended. In: a directory with the [`ProcessSpec`]. Out: the same directory with the [`ProcessState`], the log
//! in Docker's json-file format, and a socket that takes signals and lasts as long as the job.

mod cgroup;
mod event;
mod exec;
mod files;
mod log;
mod user;

use std::{
    io,
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{
        net::{UnixListener, UnixStream},
        process::ExitStatusExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    low_level::pipe,
};

use self::{
    cgroup::Group,
    event::Event,
    log::{Log, Unfinished},
};
pub use self::{
    cgroup::{end_groups, kill_groups},
    exec::exec,
    files::{Ended, Files, ProcessSpec, ProcessState},
};
use crate::{clock, files::Rights, threads};

/// The number of the user that `text` names, as `process.user` does, and the names of the groups that the job will be in.
///
/// # Errors
/// There is no such user.
pub fn uid_and_groups(text: Option<&str>) -> io::Result<(u32, Vec<String>)> {
    user::User::named(text).map(|user| (user.uid, user.group_names))
}

/// Its name, as far as it has one.
pub fn user_name(uid: u32) -> Option<String> {
    user::User::named(Some(&uid.to_string())).ok().map(|user| user.name)
}

/// How long a child that has the output open may go on after the job has ended.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// The same where the job was told to stop: the VM's last seconds may be the report's.
const STOPPED_DRAIN_PATIENCE: Duration = Duration::from_millis(500);
/// How long the agent may take to send the job's secrets.
const SECRETS_PATIENCE: Duration = Duration::from_mins(1);
/// What its line with them, a JSON object, begins with.
pub const SECRETS_WORD: &str = "SECRETS ";
/// How long killed processes may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// The rights of the user that `text` names; the agent's own where it names none.
///
/// # Errors
/// There is no such user.
pub fn rights_of(text: Option<&str>) -> io::Result<Rights> {
    user::User::named(text).map(|user| user.rights())
}

/// The rights of the user that `text` names, by an image's own lists of users and groups; `None` where they do not have it.
pub fn rights_by(text: &str, passwd: &str, group: &str) -> Option<Rights> {
    let user = user::User::find(text, passwd, group).ok()?;
    (user.name != user.uid.to_string()).then(|| user.rights())
}

/// Runs the job of `dir` to its end. A job that has been begun is never begun again.
///
/// # Errors
/// What kept the job from being begun, or its end from being written down.
pub fn run(dir: &Path) -> io::Result<()> {
    let files = Files::new(dir);
    let Some(_lock) = files.lock()? else { return Ok(()) };
    if files.state()?.is_some() {
        return Ok(());
    }
    let spec = files.spec()?;
    let failed = |error: io::Error| {
        // Whoever waits for the job learns why there is none; where not even that can be written down, that the shim is gone.
        let _ = files.save(&ProcessState::failed(&error));
        error
    };
    let (events, coming) = channel();
    take_commands(files.listen().map_err(failed)?, events.clone());
    // Without them another shim may have more luck.
    let secrets = if spec.has_secrets { wait_for_secrets(&coming)? } else { String::new() };
    let group = Group::enter(&spec.name, spec.has_own_group).map_err(failed)?;

    // Before the job, which may send them at once.
    take_signals(events.clone()).map_err(failed)?;
    let (mut child, mut gate) = spawn(dir).map_err(failed)?;
    let mut state = ProcessState::begun(child.id().into(), group.paths());
    files.save(&state).map_err(failed)?;
    let began = Log::begin(&files.log(), child.stdout.take(), child.stderr.take(), events.clone());
    let began = began.and_then(|unfinished| {
        open(&mut gate, &secrets)?;
        drop(secrets);
        let mut problem = String::new();
        // Closed by the job's program as it begins.
        gate.read_to_string(&mut problem)?;
        if problem.is_empty() { Ok(unfinished) } else { Err(io::Error::other(problem)) }
    });
    drop(gate);
    let (unfinished, problem) = match began {
        Ok(unfinished) => (Some(unfinished), String::new()),
        Err(error) => (None, error.to_string()),
    };
    if !problem.is_empty() {
        child.wait()?;
        state.ended = Some(Ended { code: 127, finished_at: clock::now(), oom_killed: false });
        state.error = Some(problem);
        return files.save(&state);
    }
    state.started_at = Some(clock::now());
    files.save(&state)?;

    let pid = Pid::from_child(&child);
    threads::spawn(move || drop(events.send(Event::Exited(wait_unreaped(pid)))));
    let finished_at = follow(&coming, pid, &group)?;

    // What is left of the job, and of its session where there is no control group.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    group.kill_others(KILL_PATIENCE);
    // Whoever else has the output open cannot be waited for.
    unfinished.inspect(Unfinished::keep);
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
    state.ended = Some(Ended { code: code.into(), finished_at, oom_killed: group.oom_kills() > 0 });
    files.save(&state)
}

/// The child that will become the job once the gate is opened.
fn spawn(dir: &Path) -> io::Result<(Child, UnixStream)> {
    let (gate, other_end) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .arg("shim-exec")
        .arg(dir)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(other_end)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok((child, gate))
}

/// Lets the job begin, with this much more of an environment.
fn open(gate: &mut UnixStream, secrets: &str) -> io::Result<()> {
    gate.write_all(b"\n")?;
    gate.write_all(secrets.as_bytes())?;
    gate.shutdown(Shutdown::Write)
}

/// The job's secrets, as the agent sends them: JSON. Any other word means that the job is not wanted any more.
fn wait_for_secrets(coming: &Receiver<Event>) -> io::Result<String> {
    let nobody = || io::Error::other("nobody sent the job's secrets");
    match coming.recv_timeout(SECRETS_PATIENCE).map_err(|_| nobody())? {
        Event::Signal(word, mut client) => {
            let secrets = word.strip_prefix(SECRETS_WORD).map(str::to_owned);
            client.write_all(if secrets.is_some() { b"sent\n" } else { b"ended\n" })?;
            secrets.ok_or_else(nobody)
        }
        _ => Err(nobody()),
    }
}

/// Waits for the end of a child, which stays a zombie: its number is no other process's until it is reaped.
fn wait_unreaped(pid: Pid) -> io::Result<()> {
    while let Err(error) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Does what is asked until the job has ended, and its output too, or nearly. Returns when it ended.
fn follow(coming: &Receiver<Event>, pid: Pid, group: &Group) -> io::Result<String> {
    let mut ended: Option<Instant> = None;
    let mut finished_at = String::new();
    let mut is_drained = false;
    let mut longest = DRAIN_PATIENCE;
    loop {
        let patience = match ended {
            Some(at) if is_drained || at.elapsed() >= longest => return Ok(finished_at),
            Some(at) => longest.saturating_sub(at.elapsed()),
            None => Duration::MAX,
        };
        match coming.recv_timeout(patience) {
            Ok(Event::Exited(exited)) => {
                exited?;
                finished_at = clock::now();
                ended = Some(Instant::now());
            }
            Ok(Event::Drained) => is_drained = true,
            Ok(Event::Told) => {
                longest = STOPPED_DRAIN_PATIENCE;
                let _ = kill_process(pid, Signal::TERM);
            }
            Ok(Event::Signal(name, mut client)) => {
                longest = STOPPED_DRAIN_PATIENCE;
                let answer = if ended.is_some() { "ended\n" } else { send(&name, pid, group) };
                // Whoever asked may be gone.
                let _ = client.write_all(answer.as_bytes());
            }
            Err(_) => {}
        }
    }
}

/// A signal goes to the job's first process; nothing of the job is to be left by SIGKILL.
fn send(name: &str, pid: Pid, group: &Group) -> &'static str {
    let sent = match name {
        "SIGKILL" => {
            group.kill_others(Duration::ZERO);
            kill_process_group(pid, Signal::KILL)
        }
        "SIGTERM" => kill_process(pid, Signal::TERM),
        _ => return "unknown\n",
    };
    if sent.is_ok() { "sent\n" } else { "ended\n" }
}

/// Each client writes the name of a signal a line, or nothing, and waits for the end.
fn take_commands(listener: UnixListener, events: Sender<Event>) {
    threads::spawn(move || {
        for client in listener.incoming().flatten() {
            let events = events.clone();
            threads::spawn(move || {
                for line in BufReader::new(&client).lines().map_while(Result::ok) {
                    let Ok(answer_to) = client.try_clone() else { return };
                    if events.send(Event::Signal(line, answer_to)).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn take_signals(events: Sender<Event>) -> io::Result<()> {
    let (mut told, tell) = UnixStream::pair()?;
    pipe::register(SIGTERM, tell.try_clone()?)?;
    pipe::register(SIGINT, tell)?;
    // Of a terminal that is closed: no reason to end.
    let (_, unheard) = UnixStream::pair()?;
    pipe::register(SIGHUP, unheard)?;
    threads::spawn(move || while told.read_exact(&mut [0]).is_ok() && events.send(Event::Told).is_ok() {});
    Ok(())
}
