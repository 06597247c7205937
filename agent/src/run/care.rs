//! What a running job needs of the agent, whatever its engine does: its output is read, its use is measured, its timeout is kept,
//! and it is stopped where there is a reason to. All of it goes on beside any question to the engine.

use std::{pin::pin, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};
use tracing::warn;

use super::{Run, stopping::Stopping};
use crate::{
    clock,
    job::Job,
    runtime::{Engine, Meter},
    stop::{Stop, StopReason},
};

/// How often the place in the log is written down, with what the job has used, and how soon first: without a place nobody knows
/// what rotation has taken.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
const FIRST_CHECKPOINT: Duration = Duration::from_secs(1);

/// How far the care for one run of the job has come.
pub(super) struct Care {
    stopping: Stopping,
    /// When the job's main process was seen to have ended.
    pub(super) gone: watch::Receiver<Option<Duration>>,
    meter: Option<Meter>,
    samples: Samples,
    checkpoints: Interval,
    timeout_at: Option<Instant>,
    unsaved_logs: bool,
    /// Whether no checkpoint was made yet.
    is_first: bool,
}

impl Run<'_> {
    pub(super) fn begin_care(&self, job: &Job, gone: watch::Receiver<Option<Duration>>) -> Care {
        let mut checkpoints = every(CHECKPOINT_INTERVAL);
        checkpoints.reset_after(FIRST_CHECKPOINT);
        Care {
            stopping: Stopping::new(self.record.attempt.stop.is_none()),
            gone,
            meter: self.record.attempt.main_pid.and_then(Meter::of),
            samples: Samples::start(),
            checkpoints,
            timeout_at: job.timeout.map(|timeout| self.job_started() + timeout),
            unsaved_logs: true,
            is_first: true,
        }
    }

    /// Takes care of the job until `work` is done, and returns what came of it. Signals are sent through `engine`, if there is one.
    pub(super) async fn beside<T>(
        &mut self,
        care: &mut Care,
        job: &Job,
        engine: Option<&Engine>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut done = None;
        // Without its type, so that the loop below is compiled once.
        self.care_for(care, job, engine, &mut pin!(async { done = Some(work.await) })).await;
        done.expect("it is over when its work is done")
    }

    async fn care_for(
        &mut self,
        care: &mut Care,
        job: &Job,
        engine: Option<&Engine>,
        work: &mut (dyn Future<Output = ()> + Unpin + '_),
    ) {
        let mut notices = self.notices.clone();
        let mut leaving = notices.clone();
        // With parts for a bucket, each makes one of what has come: from the second on they say themselves when it is time.
        let has_parts = job.logs.upload.is_some();
        loop {
            let stops = self.record.attempt.stop.is_some();
            let is_gone = self.record.attempt.gone.is_some();
            // What comes after the job's own end is no reason for it.
            let is_over = care.stopping.was_over || is_gone;
            let wake_at = if stops {
                Some(care.stopping.go_on(self, engine, job))
            } else if is_over {
                None
            } else {
                care.timeout_at
            };
            let Care { stopping, gone, meter, samples, checkpoints, unsaved_logs, is_first, .. } = care;
            let logs = self.logs(job);
            tokio::select! {
                biased;
                () = &mut *work => return,
                sent = stopping.answer(), if stops => stopping.heed(sent, self),
                () = leaving.handover() => {
                    self.sample(meter.as_ref());
                    // The live view repeats nothing, and leaves nothing out.
                    self.save_logs();
                    self.logs(job).hand_over();
                    std::future::pending::<()>().await;
                }
                stop = notices.stop(), if !stops && !is_over => self.note_stop_anyway(stop),
                () = sleep_until_some(wake_at) => if !stops {
                    self.note_stop_anyway(Stop::now(StopReason::Timeout));
                },
                at = when_gone(gone), if !is_gone => self.note_gone(at),
                () = samples.next(), if meter.is_some() => self.sample(meter.as_ref()),
                _ = checkpoints.tick(), if *unsaved_logs || meter.is_some() => {
                    if !has_parts || *is_first || !*unsaved_logs || logs.is_checkpoint_due() {
                        (*unsaved_logs, *is_first) = (false, false);
                        self.save_logs();
                    }
                }
                () = logs.pump() => {
                    *unsaved_logs = true;
                    if logs.is_checkpoint_due() {
                        *unsaved_logs = false;
                        self.save_logs();
                    }
                }
            }
        }
    }

    /// The last sample: a process's control group is still there when it has ended.
    pub(super) fn sample_last(&mut self, care: &Care) {
        self.sample(care.meter.as_ref());
    }

    fn sample(&mut self, meter: Option<&Meter>) {
        if let Some(meter) = meter {
            meter.sample(&mut self.record.attempt.usage);
        }
    }

    pub(super) fn note_stop_anyway(&mut self, stop: Stop) {
        if let Err(failure) = self.note_stop(stop) {
            warn!("{failure}; carrying on without");
        }
    }

    /// When the job started, by the clock that timers run on, and not earlier: its timeout would be too early.
    fn job_started(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.running_for().unwrap_or_default()).unwrap_or(now) + clock::TICK
    }

    pub(super) fn running_for(&self) -> Option<Duration> {
        clock::since_boot().ok()?.checked_sub(self.record.attempt.started?.0)
    }
}

/// Resolves once the job's main process was seen to have ended.
pub(super) async fn when_gone(gone: &mut watch::Receiver<Option<Duration>>) -> Duration {
    let at = gone.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    match at {
        Some(at) => at,
        None => std::future::pending().await,
    }
}

/// When to look at what the job uses: the last look is never older than a tenth of the run, or than ten seconds.
struct Samples {
    began: Instant,
    at: Instant,
}

impl Samples {
    fn start() -> Self {
        let now = Instant::now();
        Self { began: now, at: now }
    }

    async fn next(&mut self) {
        sleep_until(self.at).await;
        let pause = (self.began.elapsed() / 10).clamp(Duration::from_millis(20), Duration::from_secs(10));
        self.at = Instant::now() + pause;
    }
}

/// A ticker whose first tick is one interval away.
pub(super) fn every(interval: Duration) -> Interval {
    let mut ticker = interval_at(Instant::now() + interval, interval);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
