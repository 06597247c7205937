//! The agent's own clock for the end of a job: it runs from a stop, from a timeout, or from the moment the job was seen to have
//! ended, and no engine can hold it up. When it has run out, the report goes out with what is known. A job that runs on while
//! its engine is away starts no clock. What the clock counts from is in the record, so a restarted agent goes on with it.

use std::{io, time::Duration};

use rustix::process::Signal;
use tokio::{sync::watch, time::sleep};
use tracing::warn;

use super::Run;
use crate::{
    clock::{self, SinceBoot},
    job::{Job, Work},
    outcome::{Failure, Outcome, classify},
    runtime::{Exit, MainProcess},
    stop::{LAST_MOMENT, Notices, Stop, StopReason},
};

/// How long the engine may take to say how a job ended that was killed, or that was seen to end. With the log's end and the
/// report it is less than two minutes. Less where the configuration waits less for an engine.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(100);
/// How long a restarted agent listens to the engine where the clock ran out before its start.
const LEAST: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a process may take to be gone that the agent killed itself.
const FORCE_DEADLINE: Duration = Duration::from_secs(2);

/// All times are since boot.
pub(super) struct Bound {
    notices: Notices,
    began: Duration,
    /// When a stop began, and by when it has to be over where the VM ends with it.
    stop: Option<(Duration, Option<Duration>)>,
    timeout_at: Option<Duration>,
    grace: Duration,
    main: Option<MainProcess>,
    gone: watch::Sender<Option<Duration>>,
    confirm: Duration,
}

impl Bound {
    /// Resolves when there is no more time to wait for the job's end.
    pub(super) async fn passed(mut self) {
        loop {
            if let Ok(now) = clock::since_boot() {
                self.look(now);
                if self.end().is_some_and(|end| now >= end.max(self.began + LEAST)) {
                    return;
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    fn look(&mut self, now: Duration) {
        if self.stop.is_none() && (self.notices.asked().is_some() || self.timeout_at.is_some_and(|at| now >= at)) {
            self.stop = Some((now, None));
        }
        if self.gone.borrow().is_none() && self.main.is_some_and(MainProcess::has_ended) {
            self.gone.send_replace(Some(now));
        }
    }

    fn end(&self) -> Option<Duration> {
        let of_stop = self.stop.map(|(at, vm_end)| {
            let end = at.saturating_add(self.grace).saturating_add(self.confirm);
            vm_end.map_or(end, |vm_end| end.min(vm_end))
        });
        let of_exit = self.gone.borrow().map(|at| at.saturating_add(self.confirm));
        of_stop.into_iter().chain(of_exit).min()
    }
}

impl Run<'_> {
    /// The clock of the running job, and what tells that its main process has ended, with the time.
    pub(super) fn bound(&self, job: &Job) -> (Bound, watch::Receiver<Option<Duration>>) {
        let attempt = &self.record.attempt;
        let began = clock::since_boot().unwrap_or_default();
        let stop = attempt.stop.as_ref().map(|stop| {
            let at = stop.since_boot.0;
            (at, stop.reason.vm_time_left().map(|left| at.saturating_add(left.saturating_sub(LAST_MOMENT))))
        });
        let started = attempt.started.map(|started| started.0);
        let (gone, is_gone) = watch::channel(attempt.gone.map(|gone| gone.0));
        let bound = Bound {
            notices: self.notices.clone(),
            began,
            stop,
            timeout_at: job.timeout.and_then(|timeout| started?.checked_add(timeout)),
            grace: job.grace,
            main: self.main_process(),
            gone,
            confirm: CONFIRM_DEADLINE.min(self.config.engine_patience),
        };
        (bound, is_gone)
    }

    /// The job's main process, where it is one of this machine's.
    pub(super) fn main_process(&self) -> Option<MainProcess> {
        let attempt = &self.record.attempt;
        // In another boot the same number and start are another's.
        if attempt.boot_id != self.boot_id {
            return None;
        }
        MainProcess::noted(attempt.main_pid?, attempt.main_started?.0)
    }

    pub(super) fn note_gone(&mut self, at: Duration) {
        if self.record.attempt.gone.is_none() {
            self.record.attempt.gone = Some(SinceBoot(at));
            self.save_if_possible();
        }
    }

    /// How long ago the job's main process was seen to have ended.
    pub(super) fn gone_ago(&self) -> Option<Duration> {
        let gone = self.record.attempt.gone?;
        clock::since_boot().ok().map(|now| now.saturating_sub(gone.0))
    }

    /// Ends the job without its engine; false if it goes on, or cannot be seen.
    pub(super) async fn end_by_force(&self) -> bool {
        if let Some(engine) = &self.engine {
            engine.end_by_force(self.record.attempt.container.as_deref().unwrap_or_default()).await;
        }
        let Some(main) = self.main_process() else { return false };
        if !main.has_ended() {
            let mut killed = main.signal(Signal::KILL);
            if killed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                killed = main.signal_by_unit(Signal::KILL).await;
            }
            if let Err(error) = killed {
                warn!("failed to kill the job's main process: {error}");
            }
        }
        let looks = async {
            while !main.has_ended() {
                sleep(LOOK_INTERVAL / 20).await;
            }
        };
        tokio::time::timeout(FORCE_DEADLINE, looks).await.is_ok()
    }

    /// The stop that was not written down, as an engine was waited for when it came; none where the job had ended before.
    fn note_late_stop(&mut self, job: &Job) {
        if self.record.attempt.stop.is_some() || self.record.attempt.gone.is_some() {
            return;
        }
        let ran_out = job.timeout.is_some_and(|timeout| self.running_for().is_some_and(|ran| ran >= timeout));
        if let Some(stop) = self.notices.asked().or_else(|| ran_out.then(|| Stop::now(StopReason::Timeout))) {
            self.note_stop_anyway(stop);
        }
    }

    /// The outcome where the job's end cannot be waited for any longer: what is known of it, and what did not answer.
    pub(super) fn out_of_time(&mut self, job: &Job, is_over: bool) -> Outcome {
        self.note_late_stop(job);
        let gone_ago = self.gone_ago();
        let who = if matches!(job.work, Work::Process(_)) { "the job's shim" } else { "the engine" };
        self.note_times(None);

        let attempt = &self.record.attempt;
        let mut outcome = match (attempt.exit_seen, &attempt.stop) {
            // After the agent's own KILL that code says nothing of the job.
            (Some(code), stop) if stop.is_none() || code != 137 => {
                classify(&Exit { code, ..Exit::default() }, &attempt.circumstances(), &[])
                    .with_success_codes(&job.success_exit_codes)
            }
            (_, Some(stop)) => Outcome::from(stop),
            (_, None) if self.engine.is_none() => Outcome::from(&Failure::EngineUnavailable {
                host: self.config.docker_host.clone(),
                waited_s: self.silence.lasts().as_secs(),
                source: self.silence.error(),
            }),
            (_, None) => Outcome::from(&Failure::ExitUnconfirmed { who }),
        };
        outcome.evidence.push(match (is_over, gone_ago) {
            (true, Some(ago)) => {
                format!("the job's main process was seen to have ended {} s before this report", ago.as_secs())
            }
            (true, None) => "the agent killed the job's main process itself".into(),
            (false, _) => "the job had not ended when there was no more time to wait for it".into(),
        });
        outcome.evidence.push(self.silence.evidence(who));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(stop: Option<(u64, Option<u64>)>, gone: Option<u64>) -> Bound {
        let secs = Duration::from_secs;
        Bound {
            notices: Notices::none(),
            began: secs(0),
            stop: stop.map(|(at, vm_end)| (secs(at), vm_end.map(secs))),
            timeout_at: Some(secs(500)),
            grace: secs(30),
            main: None,
            gone: watch::channel(gone.map(secs)).0,
            confirm: secs(100),
        }
    }

    #[test]
    fn only_a_stop_a_timeout_or_an_exit_starts_the_clock_and_the_first_to_run_out_counts() {
        let cases = [
            (None, None, 499, None),
            // The timeout, as it is noticed.
            (None, None, 510, Some(640)),
            (Some((50, None)), None, 510, Some(180)),
            (Some((50, Some(73))), None, 60, Some(73)),
            (None, Some(50), 60, Some(150)),
            // Killed, and gone at once.
            (Some((50, None)), Some(52), 60, Some(152)),
            (Some((50, None)), Some(100), 120, Some(180)),
        ];
        for (stop, gone, now, end) in cases {
            let mut bound = bound(stop, gone);
            bound.look(Duration::from_secs(now));
            assert_eq!(bound.end(), end.map(Duration::from_secs), "{stop:?} {gone:?} at {now}");
        }
        let mut endless = Bound { grace: Duration::MAX, ..bound(Some((50, None)), None) };
        endless.look(Duration::from_mins(1));
        assert_eq!(endless.end(), Some(Duration::MAX));
    }
}
