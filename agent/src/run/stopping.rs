//! A stop under way: TERM, the grace period, KILL, on one clock with the VM's end.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::Run;
use crate::{
    clock,
    job::Job,
    runtime::{Engine, EngineError},
    stop::{OUTPUTS_SHARE, REPORT_SHARE},
};

/// How long a killed container may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(30);
/// How often the stop's clock is looked at: the VM's end may come closer meanwhile.
const STOP_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How far the stop has come in this process.
pub(super) struct Stopping {
    /// Whether the stop was begun in this process, and not by an agent before it.
    fresh: bool,
    termed: bool,
    killed_at: Option<Instant>,
}

/// What comes next in a stop.
pub(super) enum Next {
    /// To look again, at this time.
    At(Instant),
    /// Nothing: the container does not die.
    Undying,
    /// Nothing: the job had ended before it could be stopped.
    WasOver,
}

impl Stopping {
    pub(super) fn new(fresh: bool) -> Self {
        Self { fresh, termed: false, killed_at: None }
    }

    /// Does what is due, and says what is next.
    pub(super) async fn next(
        &mut self,
        run: &Run<'_>,
        engine: &Engine,
        job: &Job,
        id: &str,
    ) -> Result<Next, EngineError> {
        let attempt = &run.record.attempt;
        let Some(stop) = &attempt.stop else { return Ok(Next::WasOver) };
        if !self.termed {
            // A restarted agent sends it again: it does not know whether the first one arrived.
            self.termed = true;
            let signal = attempt.stop_signal.as_deref().unwrap_or("SIGTERM");
            info!(signal, "stopping the job");
            if !engine.kill(id, signal).await? && self.fresh {
                return Ok(Next::WasOver);
            }
        }
        // Docker lets it go on by itself, Podman does not.
        if attempt.actors.is_paused() && self.killed_at.is_none() {
            engine.unpause(id).await?;
        }
        let now = Instant::now();
        // The tick: the grace is never shorter than it was to be.
        // A stop that was asked for while the job was being started gives it its grace from there on.
        let began_s =
            attempt.started_since_boot_s.map_or(stop.since_boot_s, |started_s| started_s.max(stop.since_boot_s));
        let began_ago = clock::since_boot().unwrap_or_default().as_secs_f64() - began_s - clock::TICK.as_secs_f64();
        let began = now.checked_sub(Duration::try_from_secs_f64(began_ago).unwrap_or_default()).unwrap_or(now);
        // The VM's end may have come closer since the stop began.
        let vm_end = run.notices.vm_end_now().or_else(|| Some(began + stop.reason.vm_time_left()?));
        let share = if job.outputs.is_empty() { REPORT_SHARE } else { REPORT_SHARE + OUTPUTS_SHARE };
        let kill_at = vm_end.map_or(began + job.grace, |end| (began + job.grace).min(end - share));
        if self.killed_at.is_none() && now >= kill_at {
            info!("the grace period is over: killing the job");
            engine.kill(id, "SIGKILL").await?;
            self.killed_at = Some(now);
        }
        Ok(match self.killed_at {
            Some(at) if now > at + KILL_PATIENCE => Next::Undying,
            Some(_) => Next::At(now + STOP_CHECK_INTERVAL),
            None => Next::At(kill_at.min(now + STOP_CHECK_INTERVAL)),
        })
    }
}
