//! An engine that goes away under a job, or as it ends: whose end was it, and what are the books worth of the one that comes back?

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Run, care::Care};
use crate::{
    job::Job,
    outcome::{Failure, GUESS_AT_ITS_END},
    runtime::{Engine, EngineError, Events, Exit, Found, Inspected, Status},
};

/// How long the engine's events may lag behind the end of the job.
const EVENTS_PAUSE: Duration = Duration::from_millis(1);
/// How soon after it has ended its containers an engine that goes down is gone, or else one that stays has answered.
const ENGINE_END_PATIENCE: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// The exit in the engine's books. A daemon that is started writes down a guess where its predecessor did not see the end: at
    /// a time after its own start, unless it has been followed by yet another.
    pub(super) async fn true_exit(&self, engine: &Engine, id: &str, found: &Inspected) -> Exit {
        let attempt = &self.record.attempt;
        let mut exit = found.exit.clone();
        if !attempt.engine_lost {
            return exit;
        }
        match (attempt.exit_seen, &attempt.daemon, engine.daemon()) {
            (Some(code), ..) => exit.code = code,
            (None, Some(old), Some(now)) => {
                let is_older = || found.finished_at.is_some_and(|at| now.started_after(at));
                let is_sure = exit.code != GUESS_AT_ITS_END && self.engine_losses == 1 && is_older();
                exit.is_unseen = *old != now && !is_sure;
            }
            _ => exit.is_unseen = !engine.saw_end(id).await,
        }
        exit
    }

    /// The engine, waited for while the job is taken care of. A job that is seen to run on is not cut, and one that is
    /// to end has its bound; else the engine is waited for as long as the configuration says.
    pub(super) async fn engine_beside(&mut self, job: &Job, care: &mut Care) -> Result<Engine, Failure> {
        loop {
            if let Some(engine) = &self.engine {
                return Ok(engine.clone());
            }
            let (host, patience) = (self.config.docker_host.clone(), self.config.engine_patience);
            // The bound may pass before the first answer, as where the agent was started under a hung engine.
            let is_first = self.silence.begin();
            let connecting = self.connecting(patience);
            match self.beside(care, job, None, connecting).await {
                Ok(engine) => {
                    if is_first {
                        self.silence.end();
                    }
                    self.engine = Some(engine);
                }
                Err(source) if self.main_process().is_some() || self.record.attempt.stop.is_some() => {
                    self.silence.note("the engine stays away; the job is waited for without it", &source);
                }
                Err(source) => {
                    let waited_s = patience.as_secs();
                    return Err(Failure::EngineUnavailable { host, waited_s, source });
                }
            }
        }
    }

    /// The engine did not answer about the job's container: it went away, unless it answers otherwise.
    pub(super) async fn engine_silent(&mut self, engine: &Engine, error: &EngineError, job: &Job, care: &mut Care) {
        let is_late = matches!(error, EngineError::Late { .. });
        let answers = !error.is_lost() || (is_late && self.beside(care, job, Some(engine), engine.answers()).await);
        if answers {
            self.silence.note("the engine answers, but not about the job's container", error);
        } else {
            self.silence.note("lost the engine while the job ran", error);
            self.engine_lost();
        }
    }

    /// The connection broke: the next step connects anew.
    pub(super) fn engine_lost(&mut self) {
        self.engine = None;
        self.engine_losses += 1;
        self.record.attempt.engine_lost = true;
        self.record.attempt.exit_seen.take_if(|code| *code == GUESS_AT_ITS_END);
        self.save_if_possible();
        if !self.record.attempt.logs_from_file {
            // A stream ends with the engine, and its end says nothing: it is replayed.
            self.save_logs();
            self.logs = None;
            self.attached = false;
        }
    }

    /// A signal that is not ours may be the engine's, which stops its containers as it goes down: then its stream of events
    /// ends soon.
    pub(super) async fn look_for_the_engine_s_end(&mut self, engine: &Engine, id: &str, events: &mut Events) {
        let look = async {
            while let Ok(event) = events.next().await {
                self.note_event(&event);
            }
        };
        // What has happened by now is there at once.
        let is_gone = timeout(EVENTS_PAUSE, look).await.is_ok();
        let attempt = &self.record.attempt;
        if attempt.stop.is_some() || attempt.engine_lost || (attempt.signalled.is_none() && !is_gone) {
            return;
        }
        let until_gone = async { while events.next().await.is_ok() {} };
        let is_gone = is_gone
            || tokio::select! {
                () = until_gone => true,
                // An engine that goes down takes no more calls; at best the next one answers this.
                answer = engine.inspect(id) => answer.is_err(),
                () = sleep(ENGINE_END_PATIENCE) => true,
            };
        if is_gone {
            self.engine_lost();
        }
    }

    /// A job that runs on after the engine was away has not been taken down by it, and a daemon that is still the same process took
    /// down none. A daemon that was started anew while no agent was there has been away.
    pub(super) async fn look_after_connecting(
        &mut self,
        engine: &Engine,
        job: &Job,
        care: &mut Care,
        id: &str,
    ) -> Result<(), EngineError> {
        let daemon = engine.daemon();
        let is_known = self.record.attempt.daemon.is_some();
        let is_another = is_known && daemon != self.record.attempt.daemon;
        if !is_another && !self.record.attempt.engine_lost {
            return Ok(());
        }
        let found = self.beside(care, job, Some(engine), engine.inspect(id)).await?;
        let runs_on = matches!(found, Found::Container(found) if found.status == Status::Running);
        self.silence.end();
        if runs_on {
            info!("the engine is back, and the job runs on");
            self.record.attempt.daemon = daemon;
        }
        self.record.attempt.engine_lost = !runs_on && (is_another || !is_known);
        self.save_if_possible();
        Ok(())
    }
}
