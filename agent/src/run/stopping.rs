//! A stop under way: TERM, the grace period, KILL, on one clock with the VM's end. The engine is asked to send them; the loop does
//! not wait for its answers, and what it does not do the agent does itself.

use std::{io, pin::Pin, time::Duration};

use rustix::process::Signal;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::Run;
use crate::{
    clock::{self, SinceBoot},
    job::Job,
    runtime::{Engine, EngineError, Found, MainProcess, Status},
    stop::{OUTPUTS_SHARE, REPORT_SHARE},
};

/// How often the stop's clock is looked at: the VM's end may come closer meanwhile.
const STOP_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the engine may take to send a signal; at most half of the grace period, so that the job has the other half.
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// Before it is asked again for a signal that it did not send.
const AGAIN_PAUSE: Duration = Duration::from_secs(5);
/// How long a job that is to be killed may go on before the agent kills it without the engine.
const FORCE_AFTER: Duration = Duration::from_secs(2);
const TERM: &str = "SIGTERM";
const KILL: &str = "SIGKILL";

/// How far the stop has come in this process.
pub(super) struct Stopping {
    /// Whether the stop was begun in this process, and not by an agent before it.
    fresh: bool,
    /// Whether the job had ended by itself when it was to be stopped.
    pub(super) was_over: bool,
    /// The signal instead of the image's, whose name the engine does not know.
    instead: Option<&'static str>,
    killed_at: Option<Instant>,
    /// When the agent is to kill the job itself.
    force_at: Option<Instant>,
    due: Due,
    /// Why the agent could not send a signal itself, as it was last told.
    problem: String,
    call: Option<Pin<Box<dyn Future<Output = Sent> + Send>>>,
}

/// When the signal that is due goes out.
enum Due {
    /// For the first time.
    Now,
    Again(Instant),
    Sent,
}

/// What became of a signal.
pub(super) enum Sent {
    Yes,
    /// Nothing runs that it could be sent to.
    NotRunning,
    No(EngineError),
    /// What became of it without the engine, by the service manager.
    ByUnit(String, io::Result<()>),
}

impl Stopping {
    pub(super) fn new(fresh: bool) -> Self {
        Self {
            fresh,
            was_over: false,
            instead: None,
            killed_at: None,
            force_at: None,
            due: Due::Now,
            problem: String::new(),
            call: None,
        }
    }

    /// Does what is due, and says when to look again.
    pub(super) fn go_on(&mut self, run: &Run<'_>, engine: Option<&Engine>, job: &Job) -> Instant {
        let now = Instant::now();
        let kill_at = run.kill_at(job, now);
        if self.killed_at.is_none() && now >= kill_at {
            info!("the grace period is over: killing the job");
            (self.killed_at, self.force_at, self.due, self.call) = (Some(now), Some(now + FORCE_AFTER), Due::Now, None);
        }
        let is_due = match self.due {
            Due::Now => true,
            Due::Again(at) => now >= at,
            Due::Sent => false,
        };
        if is_due && self.call.is_none() {
            self.send(run, engine, job.grace);
        }
        if self.force_at.is_some_and(|at| now >= at) {
            self.force(run, engine);
        }
        if self.killed_at.is_some() { now + STOP_CHECK_INTERVAL } else { kill_at.min(now + STOP_CHECK_INTERVAL) }
    }

    /// The signal that is due.
    fn signal<'a>(&self, run: &'a Run<'_>) -> &'a str {
        match &run.record.attempt.stop_signal {
            _ if self.killed_at.is_some() => KILL,
            Some(signal) => self.instead.unwrap_or(signal),
            None => TERM,
        }
    }

    fn send(&mut self, run: &Run<'_>, engine: Option<&Engine>, grace: Duration) {
        let signal = self.signal(run);
        let Some(engine) = engine.cloned() else {
            self.due = self.send_directly(run, signal);
            return;
        };
        if matches!(self.due, Due::Now) && self.killed_at.is_none() {
            // A restarted agent sends it again: it does not know whether the first one arrived.
            info!(signal, "stopping the job");
        }
        let (id, signal) = (run.record.attempt.container.clone().unwrap_or_default(), signal.to_owned());
        let deadline = if self.killed_at.is_some() {
            SEND_DEADLINE
        } else {
            SEND_DEADLINE.min(grace / 2).max(STOP_CHECK_INTERVAL)
        };
        // Docker lets it go on by itself, Podman does not.
        let is_paused = self.killed_at.is_none() && run.record.attempt.actors.is_paused();
        self.call = Some(Box::pin(async move {
            let send = async {
                let sent = send(&engine, &id, &signal).await;
                if is_paused && matches!(sent, Sent::Yes) {
                    let _ = engine.unpause(&id).await;
                }
                sent
            };
            timeout(deadline, send).await.unwrap_or(Sent::No(EngineError::Late { call: "kill", deadline }))
        }));
    }

    /// Where the job goes on though it is to be dead.
    fn force(&mut self, run: &Run<'_>, engine: Option<&Engine>) {
        self.force_at = None;
        if run.main_process().is_none_or(MainProcess::has_ended) {
            return;
        }
        self.call = None;
        let due = self.send_directly(run, KILL);
        let by_unit = self.call.take();
        if let Some(engine @ Engine::Processes(_)) = engine.cloned()
            && (matches!(due, Due::Sent) || by_unit.is_some())
        {
            let id = run.record.attempt.container.clone().unwrap_or_default();
            self.call = Some(Box::pin(async move {
                let sent = match by_unit {
                    Some(by_unit) => by_unit.await,
                    None => Sent::Yes,
                };
                engine.end_by_force(&id).await;
                sent
            }));
        } else {
            self.call = by_unit;
        }
    }

    /// Sends the signal to the job's main process, without the engine: the service manager does it, which is then called, where the
    /// agent may not. It may not see the process.
    fn send_directly(&mut self, run: &Run<'_>, name: &str) -> Due {
        let again = Due::Again(Instant::now() + AGAIN_PAUSE);
        let Some(main) = run.main_process() else { return again };
        if main.has_ended() {
            return Due::Sent;
        }
        let signal = match name.trim_start_matches("SIG") {
            "KILL" | "9" => Signal::KILL,
            "INT" | "2" => Signal::INT,
            "QUIT" | "3" => Signal::QUIT,
            "HUP" | "1" => Signal::HUP,
            "USR1" | "10" => Signal::USR1,
            "USR2" | "12" => Signal::USR2,
            _ => Signal::TERM,
        };
        match main.signal(signal) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let name = name.to_owned();
                self.call = Some(Box::pin(async move { Sent::ByUnit(name, main.signal_by_unit(signal).await) }));
                again
            }
            sent => self.note_direct(name, sent),
        }
    }

    fn note_direct(&mut self, name: &str, sent: io::Result<()>) -> Due {
        if let Err(error) = sent {
            let problem = format!("failed to send the job's main process {name} without the engine: {error}");
            if self.problem != problem {
                warn!("{problem}");
                self.problem = problem;
            }
            return Due::Again(Instant::now() + AGAIN_PAUSE);
        }
        warn!("sent the job's main process {name} without the engine");
        Due::Sent
    }

    /// The answer to what the engine was asked to send; never resolves while it is asked for nothing.
    pub(super) async fn answer(&mut self) -> Sent {
        match &mut self.call {
            Some(call) => call.await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn heed(&mut self, sent: Sent, run: &mut Run<'_>) {
        self.call = None;
        match sent {
            Sent::NotRunning if self.killed_at.is_none() && self.fresh => {
                info!("the job had ended by itself");
                self.was_over = true;
                run.record.attempt.stop = None;
                run.save_if_possible();
            }
            Sent::Yes | Sent::NotRunning => self.due = Due::Sent,
            Sent::ByUnit(name, sent) => self.due = self.note_direct(&name, sent),
            Sent::No(error) if error.is_lost() => {
                run.silence.note("the engine did not send the job its signal", &error);
                self.due = self.send_directly(run, self.signal(run));
            }
            Sent::No(error) => {
                let signal = self.signal(run).to_owned();
                let mut pause = AGAIN_PAUSE;
                if signal != TERM && signal != KILL {
                    (self.instead, pause) = (Some(TERM), Duration::ZERO);
                }
                self.due = Due::Again(Instant::now() + pause);
                let fact = format!("the engine did not send {signal}: {error}");
                if run.note(&fact) {
                    warn!("{fact}");
                }
            }
        }
    }
}

/// Has the engine send a signal. That it finds nothing running is believed only if it says so again when looked at: Podman kills
/// none that is paused.
async fn send(engine: &Engine, id: &str, signal: &str) -> Sent {
    match engine.kill(id, signal).await {
        Ok(true) => Sent::Yes,
        // A shim knows, and is about to write the end down.
        Ok(false) if matches!(engine, Engine::Processes(_)) => Sent::NotRunning,
        Ok(false) => match engine.inspect(id).await {
            Ok(Found::Container(found)) if found.status == Status::Running => {
                let _ = engine.unpause(id).await;
                match engine.kill(id, signal).await {
                    Ok(true) => Sent::Yes,
                    Ok(false) => Sent::No(EngineError::Failed(
                        "it says that the container does not run, and that it does".into(),
                    )),
                    Err(error) => Sent::No(error),
                }
            }
            Ok(_) => Sent::NotRunning,
            Err(error) => Sent::No(error),
        },
        Err(error) => Sent::No(error),
    }
}

impl Run<'_> {
    /// When a job that is being stopped is to be killed.
    fn kill_at(&self, job: &Job, now: Instant) -> Instant {
        let Some(stop) = &self.record.attempt.stop else { return now + job.grace };
        // A stop that was asked for while the job was being started gives it its grace from there on.
        let attempt = &self.record.attempt;
        let SinceBoot(began) = attempt.started.map_or(stop.since_boot, |started| started.max(stop.since_boot));
        // The tick: the grace is never shorter than it was to be.
        let began_ago = clock::since_boot().unwrap_or_default().saturating_sub(began).saturating_sub(clock::TICK);
        let began = now.checked_sub(began_ago).unwrap_or(now);
        // The VM's end may have come closer since the stop began.
        let vm_end = self.notices.vm_end_now().or_else(|| Some(began + stop.reason.vm_time_left()?));
        let share = if job.outputs.is_empty() { REPORT_SHARE } else { REPORT_SHARE + OUTPUTS_SHARE };
        vm_end.map_or(began + job.grace, |end| (began + job.grace).min(end - share))
    }
}
