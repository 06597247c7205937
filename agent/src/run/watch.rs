//! From a running container to its exit: waits, reads the log, and stops the job where there is a reason to. The engine may
//! go away and come back meanwhile; what it says last is the truth.

use std::{pin::Pin, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Interval, sleep},
};
use tracing::info;

use super::{
    Cut, Run,
    care::{Care, every, when_gone},
    output::{LAST_DRAIN, LONGEST_DRAIN},
    run_time::{run_time, seconds},
};
use crate::{
    clock::WallTime,
    job::{Job, Work},
    journal::Attempt,
    outcome::{Cause, Failure, Outcome, classify, oom_kills},
    retry::Delays,
    runtime::{Engine, EngineError, Event, Events, Exit, Found, Inspected, Status},
};

/// How often the engine is asked for a sign of life: the wait alone would not notice that it hangs.
const ENGINE_CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// The same once the job's main process is gone: the engine is about to say so.
const LAST_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the engine's books may lag behind its wait.
const BOOKS_PAUSE: Duration = Duration::from_millis(100);
/// Between two questions to an engine that does not answer.
const FIRST_SILENCE_PAUSE: Duration = Duration::from_millis(600);
const LONGEST_SILENCE_PAUSE: Duration = Duration::from_secs(10);

/// What was learnt of the container.
enum Learnt {
    Exit(Exit, Option<Box<Inspected>>),
    /// It is gone, and nobody saw how.
    Gone,
    /// It was told to stop, or seen to have ended, and its end was not confirmed in time.
    OutOfTime,
    /// It was started again, and nobody saw how the job's own run ended.
    StartedAgain,
}

/// What a wait came to.
enum Waited {
    Code(i64),
    Gone,
    /// The container runs, but it is not the job's own run.
    Other,
}

impl Run<'_> {
    /// Running → Exited.
    pub(super) async fn watch(&mut self) -> Result<(), Cut> {
        let job = self.job_to_run()?;
        self.fetch_secrets_again(&job).await;
        if self.record.attempt.boot_id != self.boot_id {
            return self.report_reboot().await;
        }
        let mut notices = self.notices.clone();
        let (bound, gone) = self.bound(&job);
        let mut care = self.begin_care(&job, gone);
        let learnt = tokio::select! {
            learnt = self.wait_for_exit(&job, &mut care) => learnt?,
            () = notices.last_moment() => Learnt::OutOfTime,
            () = bound.passed() => Learnt::OutOfTime,
        };
        let is_over = match learnt {
            Learnt::OutOfTime => {
                let gone = *care.gone.borrow();
                if let Some(at) = gone {
                    self.note_gone(at);
                }
                self.end_by_force().await
            }
            _ => true,
        };
        self.silence.job_may_run = !is_over;
        self.guard_container();
        self.drain_logs(&job, if matches!(learnt, Learnt::OutOfTime) { LAST_DRAIN } else { LONGEST_DRAIN }).await;

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
                let started = attempt.started.unwrap_or_default();
                let mut kills = if exit.oom_killed || exit.code == 137 {
                    oom_kills(attempt.container.as_deref().unwrap_or_default(), started.0.as_secs_f64())
                } else {
                    Vec::new()
                };
                for kill in &mut kills {
                    // By itself, as it is cut: in a sentence the beginning of a secret is not known.
                    kill.task = self.gate.text(&kill.task);
                }
                if !kills.is_empty() {
                    attempt.usage.oom_kills = attempt.usage.oom_kills.max(Some(kills.len() as u64));
                    let held = kills.iter().filter_map(|kill| kill.rss_bytes).max();
                    attempt.usage.peak_memory_bytes = attempt.usage.peak_memory_bytes.max(held);
                }
                let mut outcome =
                    classify(&exit, &attempt.circumstances(), &kills).with_success_codes(&job.success_exit_codes);
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
            Learnt::OutOfTime => self.out_of_time(&job, is_over),
        };
        // What made earlier runs panic did not keep the job from its end.
        self.panics.clear();
        self.end_attempt(outcome).await;
        Ok(())
    }

    /// The outcome of the stop, if there was one, or else of the failure.
    fn stopped_or(&self, failure: impl FnOnce(&Attempt) -> Failure) -> Outcome {
        let attempt = &self.record.attempt;
        attempt.stop.as_ref().map_or_else(|| failure(attempt).outcome(self.is_process()), Outcome::from)
    }

    pub(super) fn note_times(&mut self, found: Option<&Inspected>) {
        let attempt = &self.record.attempt;
        // Of one that is gone, what was noted as it started, and when it was seen to be gone.
        let started_at = found.map_or_else(|| attempt.started_at.map(WallTime::timestamp), |found| found.started_at);
        let seen_gone = || Timestamp::now().checked_sub(self.gone_ago()?).ok();
        let finished_at = found.and_then(|found| found.finished_at).or_else(seen_gone).unwrap_or_else(Timestamp::now);
        let run = run_time(started_at.map(|started_at| (started_at, finished_at)), self.running_for());
        self.record.attempt.run_s = run.map(seconds);
        // Of a container that ends at once, the engine may note the end before the start.
        self.record.attempt.finished_at = Some(started_at.map_or(finished_at, |at| at.max(finished_at)).into());
    }

    /// Another boot: whatever the engine says now of the exit code, it did not see the exit.
    async fn report_reboot(&mut self) -> Result<(), Cut> {
        let mut notices = self.notices.clone();
        let drain = async {
            if let Some(job) = self.job()
                && self.engine().await.is_ok()
            {
                self.drain_logs(&job, LONGEST_DRAIN).await;
            }
        };
        tokio::select! {
            () = drain => {}
            () = notices.last_moment() => {}
        }
        match &self.record.attempt.stop {
            Some(_) => Err(Cut::Stopped),
            None => Err(self.rebooted().into()),
        }
    }

    async fn wait_for_exit(&mut self, job: &Job, care: &mut Care) -> Result<Learnt, Failure> {
        let id = self.record.attempt.container.clone().unwrap_or_default();
        let mut pauses = Delays::new(FIRST_SILENCE_PAUSE, LONGEST_SILENCE_PAUSE);
        self.open_log_file(job);
        loop {
            let engine = self.engine_beside(job, care).await?;
            let (waited, found) = match self.wait_with(&engine, job, care, &id).await {
                Ok(waited) => (waited, self.beside(care, job, Some(&engine), engine.inspect(&id)).await),
                Err(error) if error.is_lost() => (Waited::Gone, Err(error)),
                // It may refuse to wait, and yet tell of the end.
                Err(error) => match self.beside(care, job, Some(&engine), engine.inspect(&id)).await {
                    Ok(Found::Container(found)) if found.status == Status::Running => (Waited::Gone, Err(error)),
                    found => (Waited::Gone, found),
                },
            };
            if found.is_ok() {
                self.silence.end();
                pauses = Delays::new(FIRST_SILENCE_PAUSE, LONGEST_SILENCE_PAUSE);
            }
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
                Ok(Found::Container(_)) => self.beside(care, job, Some(&engine), sleep(BOOKS_PAUSE)).await,
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
                    self.engine_silent(&engine, &error, job, care).await;
                    // The engine may refuse at once, for as long as the job runs.
                    let pause = BOOKS_PAUSE + pauses.next().unwrap_or_default();
                    self.beside(care, job, self.engine.clone().as_ref(), sleep(pause)).await;
                }
            }
        }
    }

    /// Waits for the exit and takes care of the job meanwhile.
    async fn wait_with(
        &mut self,
        engine: &Engine,
        job: &Job,
        care: &mut Care,
        id: &str,
    ) -> Result<Waited, EngineError> {
        self.look_after_connecting(engine, job, care, id).await?;
        if self.found_another_run(engine, id).await? {
            return Ok(Waited::Other);
        }
        let is_witness = !self.record.attempt.engine_lost;
        self.open_log_file(job);
        // What cannot be followed is read when the job has ended.
        if !self.record.attempt.logs_from_file
            && self.wants_log_source()
            && self.beside(care, job, Some(engine), engine.can_follow()).await
        {
            self.read_replay(engine, job, id, true);
        }
        self.upload_parts(job);
        let mut checks = every(ENGINE_CHECK_INTERVAL);
        if self.main_process().is_none() {
            // It may have ended before it was seen.
            checks.reset_after(LAST_CHECK_INTERVAL);
        }
        let mut talk = Talk {
            events: engine.events(id),
            exit: Box::pin(engine.wait(id)),
            checks,
            check: None,
            gone: care.gone.clone(),
            is_gone: false,
        };
        loop {
            match self.beside(care, job, Some(engine), talk.next(engine, id)).await {
                Heard::Exit(Ok(code)) => {
                    self.sample_last(care);
                    self.note_exit(is_witness, code);
                    self.look_for_the_engine_s_end(engine, id, &mut talk.events).await;
                    return Ok(Waited::Code(code));
                }
                Heard::Exit(Err(error)) if error.is_not_found() => return Ok(Waited::Gone),
                Heard::Exit(Err(error)) => return Err(error),
                Heard::Event(event) => {
                    let event = event?;
                    self.note_event(&event);
                    if let Event::Die(code) = event {
                        self.note_exit(is_witness, code);
                        self.look_for_the_engine_s_end(engine, id, &mut talk.events).await;
                        return Ok(Waited::Code(code));
                    }
                }
                Heard::Look(found) => {
                    let found = found?;
                    self.silence.end();
                    let is_other = self.runs_again(&found);
                    if let Some(waited) = is_other.then_some(Waited::Other).or_else(|| end_of(&found)) {
                        return Ok(waited);
                    }
                }
            }
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
}

fn memory_facts(attempt: &Attempt, job: &Job) -> String {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "none".to_owned(), |bytes| format!("{bytes} bytes"));
    let limit = match &job.work {
        Work::Container(container) => container.memory,
        Work::Process(_) => None,
    };
    format!("memory limit: {}; peak seen: {}", bytes(limit), bytes(attempt.usage.peak_memory_bytes))
}

/// What is heard of the container from the engine.
enum Heard {
    Exit(Result<i64, EngineError>),
    Event(Result<Event, EngineError>),
    Look(Result<Found, EngineError>),
}

type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// The questions to the engine that are open while the job runs.
struct Talk<'a> {
    exit: Call<'a, i64>,
    events: Events,
    checks: Interval,
    check: Option<Call<'a, Found>>,
    gone: watch::Receiver<Option<Duration>>,
    /// Whether the job's main process is gone, and the engine was asked about it.
    is_gone: bool,
}

impl<'a> Talk<'a> {
    /// May be dropped at any time without losing anything.
    async fn next(&mut self, engine: &'a Engine, id: &'a str) -> Heard {
        loop {
            tokio::select! {
                biased;
                code = &mut self.exit => return Heard::Exit(code),
                event = self.events.next() => return Heard::Event(event),
                _ = when_gone(&mut self.gone), if !self.is_gone => {
                    self.is_gone = true;
                    self.checks = every(LAST_CHECK_INTERVAL);
                    self.check.get_or_insert_with(|| Box::pin(engine.inspect(id)));
                }
                _ = self.checks.tick(), if self.check.is_none() => self.check = Some(Box::pin(engine.inspect(id))),
                found = some(&mut self.check) => {
                    self.check = None;
                    return Heard::Look(found);
                }
            }
        }
    }
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
