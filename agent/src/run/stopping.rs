//! A stop under way: TERM, the grace period, KILL, on one clock with the VM's end.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::Run;
use crate::{
    clock,
    job::Job,
    runtime::{Engine, EngineError, Found},
    stop::REPORT_SHARE,
};

/// How long a killed container may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(30);
/// How often the stop's clock is looked at: the VM's end may come closer meanwhile.
const STOP_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// How far the stop has come in this process. A restarted agent begins with TERM again: it does not know whether the first arrived.
#[derive(Default)]
pub(super) struct Stopping {
    termed: bool,
    killed_at: Option<Instant>,
}

impl Stopping {
    /// Does what is due, and says when to look again; `None` if the container does not die.
    pub(super) async fn next(
        &mut self,
        run: &Run<'_>,
        engine: &Engine,
        job: &Job,
        id: &str,
    ) -> Result<Option<Instant>, EngineError> {
        let Some(stop) = &run.record.attempt.stop else { return Ok(None) };
        if !self.termed {
            self.termed = true;
            let signal = match engine.inspect(id).await? {
                Found::Container(found) => found.stop_signal,
                Found::Nothing => "SIGTERM".into(),
            };
            info!(signal, "stopping the job");
            engine.kill(id, &signal).await?;
        }
        let now = Instant::now();
        let began_ago = clock::since_boot().unwrap_or_default().as_secs_f64() - stop.since_boot_s;
        let began = now.checked_sub(Duration::try_from_secs_f64(began_ago).unwrap_or_default()).unwrap_or(now);
        // The VM's end may have come closer since the stop began.
        let vm_end = run.notices.vm_end_now().or_else(|| Some(began + stop.reason.vm_time_left()?));
        let kill_at = vm_end.map_or(began + job.grace, |end| (began + job.grace).min(end - REPORT_SHARE));
        if now >= kill_at && self.killed_at.is_none() {
            info!("the grace period is over: killing the job");
            engine.kill(id, "SIGKILL").await?;
            self.killed_at = Some(now);
        }
        match self.killed_at {
            Some(at) if now > at + KILL_PATIENCE => Ok(None),
            _ => Ok(Some(now + STOP_CHECK_INTERVAL.min(kill_at.saturating_duration_since(now).max(MIN_PAUSE)))),
        }
    }
}
