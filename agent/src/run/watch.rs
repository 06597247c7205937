//! From a running container to its exit: waits, reads the log, and stops the job where there is a reason to. The engine may
//! go away and come back meanwhile; what it says last is the truth.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until};
use tracing::{info, warn};

use super::{
    Cut, Run,
    attempt::seconds,
    run_time::run_time,
    stopping::{Next, Stopping},
};
use crate::{
    clock,
    job::{Job, Work},
    journal::Attempt,
    outcome::{Cause, Exit, Failure, Outcome, classify, oom_kills},
    runtime::{Engine, EngineError, Event, Found, Inspected, Meter, Status},
    stop::{Stop, StopReason},
};

/// How often the place in the log is written down, with what the job has used, and how soon first: without a place nobody knows
/// what rotation has taken.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
const FIRST_CHECKPOINT: Duration = Duration::from_secs(1);
/// How often the engine is asked for a sign of life: the wait alone would not notice that it hangs.
const ENGINE_CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// How long the engine's books may lag behind its wait.
const BOOKS_PAUSE: Duration = Duration::from_millis(100);

/// What was learnt of the container.
enum Learnt {
    Exit(Exit, Option<Box<Inspected>>),
    /// It is gone, and nobody saw how.
    Gone,
    /// It was told to stop, and killed, and did not end in time.
    Undying,
    /// It was started again, and nobody saw how the job's own run ended.
    StartedAgain,
}

/// What a wait came to.
enum Waited {
    Code(i64),
    Gone,
    Undying,
    /// The container runs, but it is not the job's own run.
    Other,
}

impl Run<'_> {
    /// Running → Exited.
    pub(super) async fn watch(&mut self) -> Result<(), Cut> {
        let job = self.job()?;
        self.fetch_secrets_again(&job).await;
        if self.record.attempt.boot_id != self.boot_id {
            return self.report_reboot().await;
        }
        let mut notices = self.notices.clone();
        let learnt = tokio::select! {
            learnt = self.wait_for_exit(&job) => learnt?,
            () = notices.last_moment() => Learnt::Undying,
        };
        self.guard_container();
        self.drain_logs(&job).await;

        let outcome = match learnt {
            Learnt::Exit(exit, found) => {
                // After its last lines.
                self.logs(&job).end_view();
                info!(exit_code = exit.code, "the job has ended");
                if let Some(found) = &found {
                    self.note_settings(found);
                }
                self.note_times(found.as_deref());
                let attempt = &mut self.record.attempt;
                let started_s = attempt.started_since_boot_s.unwrap_or_default();
                let kills = if exit.oom_killed || exit.code == 137 {
                    oom_kills(attempt.container.as_deref().unwrap_or_default(), started_s)
                } else {
                    Vec::new()
                };
                if !kills.is_empty() {
                    attempt.usage.oom_kills = attempt.usage.oom_kills.max(Some(kills.len() as u64));
                    let held = kills.iter().filter_map(|kill| kill.rss_bytes).max();
                    attempt.usage.peak_memory_bytes = attempt.usage.peak_memory_bytes.max(held);
                }
                let mut outcome = classify(&exit, attempt, &kills);
                if outcome.cause == Cause::OomKilled {
                    outcome.evidence.push(memory_facts(attempt, &job));
                }
                outcome
            }
            Learnt::Gone => self.stopped_or(|attempt| Failure::ContainerLost {
                container: attempt.container.clone().unwrap_or_default(),
            }),
            Learnt::StartedAgain => {
                let failure = self.restarted_unseen();
                self.stopped_or(|_| failure)
            }
            Learnt::Undying => {
                if self.record.attempt.stop.is_none() {
                    let stop = notices.stop().await;
                    self.note_stop_anyway(stop);
                }
                let mut outcome = self.stopped_or(|_| Failure::Agent("the job does not end".into()));
                outcome.evidence.push("the job had not ended when there was no more time to wait for it".into());
                outcome
            }
        };
        self.end_attempt(outcome).await;
        Ok(())
    }

    /// The outcome of the stop, if there was one, or else of the failure.
    fn stopped_or(&self, failure: impl FnOnce(&Attempt) -> Failure) -> Outcome {
        let attempt = &self.record.attempt;
        attempt.stop.as_ref().map_or_else(|| failure(attempt).outcome(self.is_process()), Outcome::from)
    }

    fn note_times(&mut self, found: Option<&Inspected>) {
        let attempt = &self.record.attempt;
        // Of one that is gone, what was noted as it started, and now.
        let started_at =
            found.map_or_else(|| attempt.started_at.as_deref().and_then(clock::parse), |found| found.started_at);
        let finished_at = found.and_then(|found| found.finished_at).unwrap_or_else(Timestamp::now);
        let run = run_time(started_at.map(|started_at| (started_at, finished_at)), self.running_for());
        self.record.attempt.run_s = run.map(seconds);
        // Of a container that ends at once, the engine may note the end before the start.
        self.record.attempt.finished_at =
            Some(clock::rfc3339(started_at.map_or(finished_at, |at| at.max(finished_at))));
    }

    /// Another boot: whatever the engine says now of the exit code, it did not see the exit.
    async fn report_reboot(&mut self) -> Result<(), Cut> {
        if let Ok(job) = self.job()
            && self.engine().await.is_ok()
        {
            self.drain_logs(&job).await;
        }
        match &self.record.attempt.stop {
            Some(_) => Err(Cut::Stopped),
            None => Err(self.rebooted().into()),
        }
    }

    async fn wait_for_exit(&mut self, job: &Job) -> Result<Learnt, Failure> {
        let id = self.record.attempt.container.clone().unwrap_or_default();
        loop {
            let engine = self.engine().await?;
            let (waited, found) = match self.wait_with(&engine, job, &id).await {
                Ok(Waited::Undying) => return Ok(Learnt::Undying),
                Ok(waited) => (waited, engine.inspect(&id).await),
                Err(error) => (Waited::Gone, Err(error)),
            };
            match found {
                Ok(found) if self.runs_again(&found) => {
                    let seen = if let Waited::Code(code) = waited { Some(code) } else { None };
                    let own = self.end_other_run(&engine, &id, found, seen).await;
                    return Ok(own.map_or(Learnt::StartedAgain, |own| Learnt::Exit(own.exit.clone(), Some(own))));
                }
                Ok(Found::Container(found)) if found.status == Status::Exited => {
                    let exit = self.true_exit(&engine, &id, &found).await;
                    return Ok(Learnt::Exit(exit, Some(found)));
                }
                Ok(Found::Container(found)) if found.status == Status::Lost => return Ok(Learnt::Gone),
                // What the wait saw is not in the engine's books yet.
                Ok(Found::Container(_)) => sleep(BOOKS_PAUSE).await,
                Ok(Found::Nothing) => {
                    return Ok(match waited {
                        // A forced removal kills first, and the wait sees that; any other exit was the job's own.
                        Waited::Code(code) if code != 137 || self.record.attempt.stop.is_some() => {
                            Learnt::Exit(Exit { code, ..Exit::default() }, None)
                        }
                        _ => Learnt::Gone,
                    });
                }
                Err(error) => {
                    warn!("lost the engine while the job ran: {error}");
                    self.engine_lost();
                }
            }
        }
    }

    /// Waits for the exit and does everything else that is to be done meanwhile.
    async fn wait_with(&mut self, engine: &Engine, job: &Job, id: &str) -> Result<Waited, EngineError> {
        self.look_after_connecting(engine, id).await?;
        if self.found_another_run(engine, id).await? {
            return Ok(Waited::Other);
        }
        let is_witness = !self.record.attempt.engine_lost;
        self.open_logs(engine, job, id).await;
        let mut notices = self.notices.clone();
        let mut leaving = notices.clone();
        let mut events = engine.events(id);
        let mut exit = Box::pin(engine.wait(id));
        let meter = self.record.attempt.main_pid.and_then(Meter::of);
        let mut samples = Samples::start();
        self.upload_parts(job);
        // With parts for a bucket, each makes one of what has come: from the second on they say themselves when it is time.
        let (has_parts, mut is_first) = (job.logs.upload.is_some(), true);
        let mut checkpoints = every(CHECKPOINT_INTERVAL);
        checkpoints.reset_after(FIRST_CHECKPOINT);
        let mut engine_checks = every(ENGINE_CHECK_INTERVAL);
        // Its answer is waited for beside the log: an attached job stands still while nobody reads.
        let mut engine_check = None;
        let timeout_at = job.timeout.map(|timeout| self.job_started() + timeout);
        let mut stopping = Stopping::new(self.record.attempt.stop.is_none());
        let mut is_over = false;
        let mut unsaved_logs = true;
        loop {
            let stops = self.record.attempt.stop.is_some();
            let wake_at = if stops {
                match stopping.next(self, engine, job, id).await? {
                    Next::At(next) => Some(next),
                    Next::Undying => return Ok(Waited::Undying),
                    Next::WasOver => {
                        info!("the job had ended by itself");
                        self.record.attempt.stop = None;
                        self.save_if_possible();
                        is_over = true;
                        continue;
                    }
                }
            } else if is_over {
                None
            } else {
                timeout_at
            };
            let logs = self.logs(job);
            tokio::select! {
                biased;
                code = &mut exit => return match code {
                    Ok(code) => {
                        // A process's control group is still there.
                        self.sample(meter.as_ref());
                        self.note_exit(is_witness, code);
                        self.look_for_the_engine_s_end(engine, id, &mut events).await;
                        Ok(Waited::Code(code))
                    }
                    Err(error) if error.is_not_found() => Ok(Waited::Gone),
                    Err(error) => Err(error),
                },
                event = events.next() => {
                    let event = event?;
                    self.note_event(&event);
                    if let Event::Die(code) = event {
                        self.note_exit(is_witness, code);
                        self.look_for_the_engine_s_end(engine, id, &mut events).await;
                        return Ok(Waited::Code(code));
                    }
                }
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
                () = samples.next(), if meter.is_some() => self.sample(meter.as_ref()),
                _ = checkpoints.tick(), if unsaved_logs || meter.is_some() => {
                    if !has_parts || is_first || !unsaved_logs || logs.is_checkpoint_due() {
                        (unsaved_logs, is_first) = (false, false);
                        self.save_logs();
                    }
                }
                _ = engine_checks.tick(), if engine_check.is_none() => engine_check = Some(Box::pin(engine.inspect(id))),
                found = some(&mut engine_check) => {
                    engine_check = None;
                    let found = found?;
                    let is_other = self.runs_again(&found);
                    if let Some(waited) = is_other.then_some(Waited::Other).or_else(|| end_of(&found)) {
                        return Ok(waited);
                    }
                }
                () = logs.pump() => {
                    unsaved_logs = true;
                    if logs.is_checkpoint_due() {
                        unsaved_logs = false;
                        self.save_logs();
                    }
                }
            }
        }
    }

    fn sample(&mut self, meter: Option<&Meter>) {
        if let Some(meter) = meter {
            meter.sample(&mut self.record.attempt.usage);
        }
    }

    pub(super) fn note_event(&mut self, event: &Event) {
        if self.record.attempt.actors.is_health_check(event) {
            return;
        }
        info!("the engine reports: {event}");
        self.note_actor(event);
        if let Event::Kill(signal) = event
            && self.record.attempt.stop.is_none()
        {
            self.record.attempt.signalled = Some(signal.clone());
        }
    }

    fn note_stop_anyway(&mut self, stop: Stop) {
        if let Err(failure) = self.note_stop(stop) {
            warn!("{failure}; carrying on without");
        }
    }

    /// When the job started, by the clock that timers run on, and not earlier: its timeout would be too early.
    fn job_started(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.running_for().unwrap_or_default()).unwrap_or(now) + clock::TICK
    }

    fn running_for(&self) -> Option<Duration> {
        let started_s = self.record.attempt.started_since_boot_s?;
        clock::since_boot().ok()?.checked_sub(Duration::from_secs_f64(started_s))
    }
}

fn memory_facts(attempt: &Attempt, job: &Job) -> String {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "none".to_owned(), |bytes| format!("{bytes} bytes"));
    let limit = match &job.work {
        Work::Container(container) => container.memory,
        Work::Process(_) => None,
    };
    format!("memory limit: {}; peak seen: {}", bytes(limit), bytes(attempt.usage.peak_memory_bytes))
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
fn every(interval: Duration) -> Interval {
    let mut ticker = interval_at(Instant::now() + interval, interval);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// What the wait should have said of a container that does not run.
fn end_of(found: &Found) -> Option<Waited> {
    match found {
        Found::Container(found) if found.status != Status::Exited => None,
        Found::Container(found) => Some(Waited::Code(found.exit.code)),
        Found::Nothing => Some(Waited::Gone),
    }
}

async fn some<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
