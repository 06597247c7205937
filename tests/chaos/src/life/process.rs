//! The agent's process: it is started, ends or is killed, and is started again.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use super::Life;
use crate::{
    agent::{Ending, Run},
    log_file,
    schedule::Phase,
};

/// A job that is over is found to be over at once, however slow the machine is.
const RERUN_DEADLINE: Duration = Duration::from_mins(2);
/// Between an agent that failed and the next, as a service manager would pause.
const RESTART_PAUSE_MS: u64 = 500;
/// An agent that fails so many times is not started again.
const MAX_RUNS: usize = 20;

impl Life<'_> {
    pub(crate) fn start(&mut self) -> io::Result<()> {
        self.restart_at = None;
        if let Some((log, how)) = self.harm_before_start.take() {
            self.harmed.push(log_file::harm(&log, &self.launch.state_dir(), how)?);
        }
        self.child = Some(self.launch.start()?);
        self.runs.push(Run { started: SystemTime::now(), ended: None, told: Vec::new() });
        Ok(())
    }

    /// Notes the agent's end; false if that was the end of the life too.
    pub(super) fn goes_on_after(&mut self, ending: Ending) -> bool {
        self.child = None;
        let Some(run) = self.runs.last_mut() else { return false };
        run.ended = Some((SystemTime::now(), ending));
        let told = !run.told.is_empty();
        let hung_up = run.told.last() == Some(&"HUP");
        let phase = self.phase();
        let goes_on = match ending {
            // Its handlers were not there yet.
            Ending::Signal(_) => told,
            // The next one carries on, with the tidying up at least.
            Ending::Code(0) if hung_up => true,
            // Left in the middle because it was told to; or the VM's time was over.
            Ending::Code(0) => told && phase != Some(Phase::Delivered),
            Ending::Code(75) => phase != Some(Phase::Delivered),
            Ending::Code(1) => self.plan.schedule.disk_kib.is_some(),
            Ending::Code(_) => false,
        };
        if goes_on && self.runs.len() < MAX_RUNS {
            let pause_ms = self.pause_ms.take().unwrap_or(RESTART_PAUSE_MS);
            self.restart_at = Some(Instant::now() + Duration::from_millis(pause_ms));
            return true;
        }
        false
    }

    /// Kills the agent, and waits until it is dead.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.start_kill()?;
        let status = child.wait().await?;
        if let Some(run) = self.runs.last_mut() {
            run.told.push("KILL");
            run.ended = Some((SystemTime::now(), status.into()));
        }
        Ok(())
    }

    pub(crate) fn restart_in(&mut self, ms: u64) {
        self.restart_at = Some(Instant::now() + Duration::from_millis(ms));
    }

    /// As [`restart_in`](Self::restart_in), once the agent has ended by itself.
    pub(crate) fn restart_after_end_in(&mut self, ms: u64) {
        self.pause_ms = Some(ms);
    }

    /// Notes that the agent's process was sent a signal.
    pub(crate) fn note_told(&mut self, name: &'static str) {
        if let Some(run) = self.runs.last_mut() {
            run.told.push(name);
        }
    }

    /// Runs the agent again over a life that is done; returns how many posts there had been.
    pub(super) async fn run_once_more(&mut self) -> io::Result<usize> {
        let posts = self.cloud.callback_requests().len();
        self.cloud.clear_scripts();
        self.cloud.metadata_down(false).await?;
        self.cloud.callback_down(false).await?;
        self.start()?;
        if let Some(child) = &mut self.child
            && let Ok(status) = tokio::time::timeout(RERUN_DEADLINE, child.wait()).await
        {
            self.goes_on_after(status?.into());
        }
        self.kill().await?;
        Ok(posts)
    }
}
