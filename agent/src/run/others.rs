//! Somebody else acts on the job's container. The first exit of the job's own run is the job's: a container that was started again is
//! stopped, and stays down until it is removed.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::mpsc::unbounded_channel,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

use super::{
    Run,
    background::{Background, Guard},
};
use crate::{
    clock::{self, WallTime},
    outcome::Failure,
    runtime::{Engine, EngineError, Event, Exit, Found, Inspected, Settings, Status},
};

/// How long a run that is not the job's may take to be gone, once it was killed.
const END_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often an ended container is looked at, beside the engine's events.
const GUARD_INTERVAL: Duration = Duration::from_secs(5);

impl Run<'_> {
    pub(super) fn is_another_run(&self, found: &Inspected) -> bool {
        self.record.attempt.actors.is_another_run(self.record.attempt.main_pid, found)
    }

    /// Whether the container runs again, or is about to, after the job's own run.
    pub(super) fn runs_again(&self, found: &Found) -> bool {
        matches!(found, Found::Container(found) if found.container.is_restarting || self.is_another_run(found))
    }

    /// The first exit is the job's own. The engine was there for it, unless it is not a witness.
    pub(super) fn note_exit(&mut self, is_witness: bool, code: i64) {
        if is_witness {
            self.record.attempt.exit_seen.get_or_insert(code);
        }
    }

    /// Looks what became of the container while nobody watched: whether what runs in it is not the job's own run.
    pub(super) async fn found_another_run(&mut self, engine: &Engine, id: &str) -> Result<bool, EngineError> {
        if !self.carried_on && self.engine_losses == 0 {
            return Ok(false);
        }
        let found = engine.inspect(id).await?;
        if matches!(&found, Found::Container(found) if found.container.is_paused) {
            self.note_actor(&Event::Pause);
        }
        Ok(self.runs_again(&found))
    }

    /// Ends a run that is not the job's. What is known of the job's own, if anybody saw its end: `seen` by this process just now.
    pub(super) async fn end_other_run(
        &mut self,
        engine: &Engine,
        id: &str,
        found: Found,
        seen: Option<i64>,
    ) -> Option<Box<Inspected>> {
        let Found::Container(mut found) = found else { return None };
        // Else the engine's books still have the job's own end.
        let is_another = self.is_another_run(&found);
        let (code, at) = match self.record.attempt.exit_seen.or(seen) {
            Some(code) => (Some(code), Some(Timestamp::now())),
            None if !is_another => (Some(found.exit.code), found.finished_at),
            None => engine.first_exit(id).await.map_or((None, None), |(code, at)| (Some(code), at)),
        };
        let who = found.container.settings.as_ref().map(Settings::who_restarts).unwrap_or_default();
        let how = code.map_or_else(|| "had ended".to_owned(), |code| format!("had ended with exit code {code}"));
        let fact = format!(
            "{who} after the job {how}: that run is not the job's, and was stopped; what it wrote is in the log"
        );
        warn!("{fact}");
        self.note(&fact);
        self.record.attempt.exit_seen = code;
        self.save_if_possible();
        if let Err(error) = keep_down(engine, id).await {
            warn!("failed to stop the container: {error}");
        }
        let code = code?;
        if is_another {
            found.exit = Exit { code, ..Exit::default() };
            found.started_at = self.record.attempt.started_at.map(WallTime::timestamp);
            found.finished_at = at;
        }
        Some(found)
    }

    /// Why there is no exit to report of a container that was started again.
    pub(super) fn restarted_unseen(&self) -> Failure {
        Failure::StartedAgain { engine_lost: self.record.attempt.engine_lost }
    }

    pub(super) fn note_actor(&mut self, event: &Event) {
        let now_s = clock::since_boot().unwrap_or_default().as_secs_f64();
        self.record.attempt.actors.note_event(event, now_s);
    }

    /// Notes what of the container is another than at the start, and what else others have done to it.
    pub(super) fn note_settings(&mut self, found: &Inspected) {
        let now_s = clock::since_boot().unwrap_or_default().as_secs_f64();
        for fact in self.record.attempt.actors.facts(found.container.settings.as_ref(), now_s) {
            info!("{fact}");
            self.note(&fact);
        }
    }

    /// From the job's end on its container is kept from running again.
    pub(super) fn guard_container(&mut self) {
        let (Some(id), Some(Engine::Docker(_))) = (self.record.attempt.container.clone(), &self.engine) else { return };
        if self.guard.is_some() {
            return;
        }
        let Some(engine) = self.engine.clone() else { return };
        // A job of its own that could not be ended is no other run.
        let (actors, own_pid) = (self.record.attempt.actors.clone(), self.record.attempt.main_pid);
        let (sender, facts) = unbounded_channel();
        let task = Background::spawn(async move {
            let mut events = engine.events(&id);
            let mut looks = interval(GUARD_INTERVAL);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let is_alive = tokio::select! {
                    event = events.next() => match event {
                        Ok(event) if event != Event::Start => continue,
                        event => event.is_ok(),
                    },
                    _ = looks.tick() => true,
                };
                if !is_alive {
                    sleep(GUARD_INTERVAL).await;
                    events = engine.events(&id);
                }
                match engine.inspect(&id).await {
                    Ok(Found::Container(found))
                        if found.status == Status::Running && actors.is_another_run(own_pid, &found) =>
                    {
                        let who = found.container.settings.as_ref().map(Settings::who_restarts);
                        let fact = format!("{} after the job had ended, and it was stopped", who.unwrap_or_default());
                        warn!("{fact}");
                        let _ = sender.send(fact);
                        if let Err(error) = keep_down(&engine, &id).await {
                            warn!("failed to stop the container: {error}");
                        }
                    }
                    Ok(Found::Nothing) => return,
                    _ => {}
                }
            }
        });
        self.guard = Some(Guard { _task: task, facts });
    }

    /// Notes what the guard has seen so far.
    pub(super) fn note_guarded(&mut self) {
        let facts: Vec<String> = self
            .guard
            .as_mut()
            .map(|guard| std::iter::from_fn(|| guard.facts.try_recv().ok()).collect())
            .unwrap_or_default();
        for fact in facts {
            self.note(&fact);
        }
    }
}

/// Kills what runs in the container and waits until it is down: a kill also ends a restart policy.
async fn keep_down(engine: &Engine, id: &str) -> Result<(), EngineError> {
    let tries = END_PATIENCE.as_millis() / LOOK_INTERVAL.as_millis();
    for _ in 0..tries {
        match engine.inspect(id).await? {
            Found::Container(found) if found.status == Status::Running => {
                engine.kill(id, "SIGKILL").await?;
            }
            _ => return Ok(()),
        }
        sleep(LOOK_INTERVAL).await;
    }
    Err(EngineError::Failed(format!("it still runs after {} s", END_PATIENCE.as_secs())))
}
