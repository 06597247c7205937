//! Created → Running: starts the job, once, or finds that it was started.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{
    Cut, Run,
    prepare::{CALL_GRACE, LOOK_INTERVAL, STOP_PATIENCE},
};
use crate::{
    clock::{self, SinceBoot, WallTime},
    job::{Job, Work},
    journal::Phase,
    outcome::Failure,
    runtime::{EngineError, Found, Init, Inspected, Status},
    stop::Stop,
};

/// What newer engines note of a start that whoever asked for it did not wait for: an agent that died. It is asked for again. It comes
/// alone, or from containerd as `Canceled: context canceled`.
const GIVEN_UP: &str = "context canceled";

impl Run<'_> {
    /// Created → Running: starts the container, unless it was started already.
    pub(super) async fn start(&mut self) -> Result<(), Cut> {
        let job = self.job_to_run()?;
        if self.record.attempt.stop.is_some() {
            return self.stop_unstarted(&job).await;
        }
        self.fetch_secrets_again(&job).await;
        match self.unless_stopped(Duration::ZERO, async |run| run.engine().await.map(drop)).await {
            Err(Cut::Stopped) => return self.stop_unstarted(&job).await,
            reached => reached?,
        }
        // A start that was begun is seen through, and stopped as a running job.
        match self.unless_stopped(CALL_GRACE, async |run| run.start_container(&job).await).await {
            Err(Cut::Stopped) => self.stop_unstarted(&job).await,
            started => started,
        }
    }

    /// A stop before the start, as far as is known. An agent that died may have asked for the start: so the container is removed,
    /// that nothing can run after the report, or found running.
    async fn stop_unstarted(&mut self, job: &Job) -> Result<(), Cut> {
        let found = timeout(STOP_PATIENCE, self.remove_or_find_started()).await;
        match found.ok().flatten() {
            Some(found) => {
                if self.record.attempt.stop.as_ref().is_some_and(|stop| ended_before(&found, stop)) {
                    info!("the job had ended by itself");
                    self.record.attempt.stop = None;
                }
                self.choose_log_source(job, &found).await?;
                Ok(self.note_start(&found).await?)
            }
            None => Err(Cut::Stopped),
        }
    }

    async fn remove_or_find_started(&mut self) -> Option<Box<Inspected>> {
        let id = self.record.attempt.container.clone()?;
        let engine = self.connect(STOP_PATIENCE).await.ok()?;
        self.engine = Some(engine.clone());
        loop {
            match engine.inspect(&id).await {
                Ok(Found::Container(found)) if found.status != Status::Created => return Some(found),
                Ok(Found::Container(_)) => match engine.remove_stopped(&id).await {
                    // It is being started just now.
                    Err(error) if !error.is_lost() => sleep(LOOK_INTERVAL).await,
                    _ => return None,
                },
                Ok(Found::Nothing) | Err(_) => return None,
            }
        }
    }

    async fn start_container(&mut self, job: &Job) -> Result<(), Failure> {
        let id = self.record.attempt.container.clone().unwrap_or_default();
        let _waiting = self.waits.begin("the engine to start the container");
        let mut tries_left = 3;
        let mut knows_log = false;
        loop {
            let Some(found) = self.look(&id).await? else {
                return Err(Failure::ContainerLost { container: id });
            };
            if !std::mem::replace(&mut knows_log, true) {
                self.choose_log_source(job, &found).await?;
            }
            // An engine whose power was cut, or that was killed, may not have written down that it had started what it was asked to.
            let attempt = &self.record.attempt;
            let may_have_run = attempt.boot_id != self.boot_id && attempt.started.is_some();
            if found.status != Status::Created || may_have_run {
                return self.note_start(&found).await;
            }
            let daemon = self.engine().await?.daemon();
            if self.record.attempt.daemon.is_some() && self.record.attempt.daemon != daemon {
                return Err(Failure::StartUnseen);
            }
            if !found.exit.error.is_empty() && !found.exit.error.ends_with(GIVEN_UP) {
                return Err(Failure::Start(EngineError::Failed(found.exit.error)));
            }
            let secrets = self.secret_env(job)?;
            self.make_result_dir()?;
            self.check_block(job).await?;
            self.block_metadata(job).await?;
            self.record.attempt.boot_id.clone_from(&self.boot_id);
            self.record.attempt.started = SinceBoot::now().ok();
            let engine = self.engine().await?;
            self.record.attempt.daemon = engine.daemon();
            self.save()?;
            match engine.start(&id, &secrets).await {
                // For the next look to confirm.
                Ok(()) if tries_left > 0 => tries_left -= 1,
                Ok(()) => {
                    let problem = "the engine says that it started the container, and that it does not run";
                    return Err(Failure::Start(EngineError::Failed(problem.into())));
                }
                // Whether it has started is for the next look to say.
                Err(error) if error.is_lost() && tries_left > 0 => {
                    tries_left -= 1;
                    warn!("{error}; looking again");
                    self.engine = None;
                    sleep(LOOK_INTERVAL).await;
                }
                // Somebody is removing it.
                Err(error) if error.is_conflict() => return Err(Failure::ContainerLost { container: id }),
                // It may be that, or its network, that is not there.
                Err(error) if error.is_not_found() && self.look(&id).await?.is_none() => {
                    return Err(Failure::ContainerLost { container: id });
                }
                Err(error) => return Err(Failure::Start(error)),
            }
        }
    }

    /// The job has been started. From here on a disk that is full only makes the agent forgetful.
    async fn note_start(&mut self, found: &Inspected) -> Result<(), Failure> {
        if self.record.attempt.boot_id != self.boot_id {
            return Err(self.rebooted());
        }
        let main = self.engine.as_ref().and_then(|engine| engine.main_process(found));
        if let (Some(pid), Some(job)) = (found.pid, self.job())
            && let Work::Container(container) = &job.work
        {
            self.record.attempt.init = Init::of(pid, container.init).await;
        }
        self.tell_made_sources();
        let attempt = &mut self.record.attempt;
        attempt.main_pid = found.pid;
        attempt.actors.note_start(found);
        attempt.main_started = main.map(|main| SinceBoot(main.started()));
        attempt.log_path.clone_from(&found.log_path);
        attempt.stop_signal = Some(found.stop_signal.clone());
        if let Some(started) = started_since_boot(found) {
            attempt.started = Some(SinceBoot(started));
        }
        attempt.started_at = Some(found.started_at.map_or_else(WallTime::now, WallTime::from));
        self.record.phase = Phase::Running;
        self.save_if_possible();
        info!("the job runs");
        Ok(())
    }

    pub(super) fn rebooted(&self) -> Failure {
        Failure::Rebooted { started: self.record.attempt.boot_id.clone(), now: self.boot_id.clone() }
    }

    /// The engine's file where it can be read; else a stream, which has to be there before the job writes its first line.
    async fn choose_log_source(&mut self, job: &Job, found: &Inspected) -> Result<(), Failure> {
        let failure = |source| Failure::Engine { doing: "get at the log", source };
        let is_file = match &job.work {
            Work::Container(container) => container.log_driver == "json-file",
            Work::Process(_) => true,
        };
        self.record.attempt.logs_from_file =
            is_file && self.call(async |engine| engine.has_log_file(&found.id).await, failure).await?;
        if !self.record.attempt.logs_from_file && found.status == Status::Created {
            // Podman prepares the container for that, and says here what Docker says at the start.
            let output = self.call(async |engine| engine.attach(&found.id).await, Failure::Start).await?;
            self.logs = None;
            self.logs(job).read_attached(output);
            self.attached = true;
        }
        Ok(())
    }
}

/// Whether the job had ended when it was to be stopped: by the engine's clock and the agent's, both the VM's.
fn ended_before(found: &Inspected, stop: &Stop) -> bool {
    let ended_at = found.finished_at.filter(|_| found.status == Status::Exited);
    ended_at.is_some_and(|ended_at| clock::parse(&stop.at).is_some_and(|stopped_at| ended_at < stopped_at))
}

/// When the job started, as time since boot; `None` of a job that has ended. The kernel knows when the process was made, and the
/// engine, a moment later, when the job's command took it over; but the engine's clock may have jumped since.
fn started_since_boot(found: &Inspected) -> Option<Duration> {
    let (now, made) = (clock::since_boot().ok()?, clock::process_start(found.pid?)?);
    let age = found.started_at.and_then(|at| Duration::try_from(Timestamp::now().duration_since(at)).ok());
    Some(age.and_then(|age| now.checked_sub(age)).map_or(made, |started| started.max(made)))
}
