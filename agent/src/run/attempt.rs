//! From a claimed job to a running container: pull, create, start. Whatever an agent that died here may have done already
//! is found by the container's name and labels, and taken over.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use tokio::time::{Duration, Instant, sleep};
use tracing::{info, warn};

use super::{Cut, Run, claim};
use crate::{
    clock,
    job::{Container, Job, Pull, Work},
    journal::Phase,
    outcome::Failure,
    runtime::{ContainerNames, Engine, EngineError, Found, Inspected, Status, container_config, pull},
};

impl Run<'_> {
    /// Claimed → Created: checks the job, gets the image, creates the container.
    pub(super) async fn prepare(&mut self) -> Result<(), Cut> {
        if let Some(failure) = self.unreadable.take() {
            return Err(failure.into());
        }
        for warning in claim::parse(&self.record.source)?.warnings {
            warn!("{warning}");
        }
        let job = self.job()?;
        self.endpoint(&job.callback.auth).map_err(Failure::Callback)?;
        let Work::Container(container) = &job.work else {
            return Err(Failure::Agent("only containers can be run".into()).into());
        };
        self.record.attempt.image = Some(container.image.clone());
        self.unless_stopped(async |run| run.create(&job, container).await).await
    }

    async fn create(&mut self, job: &Job, container: &Container) -> Result<(), Failure> {
        let engine = self.engine().await?;
        let name = ContainerNames::of(&self.record, self.record.attempt.number).name;
        match inspect(&engine, &name).await? {
            Found::Container(found) if found.label(ContainerNames::CLAIM) == Some(&self.record.claim) => {
                return self.take_over(&found);
            }
            // The remains of an earlier job with this id. One that still runs is somebody's.
            Found::Container(found)
                if found.label(ContainerNames::CLAIM).is_some() && found.status != Status::Running =>
            {
                engine.remove(&name).await.map_err(Failure::Create)?;
            }
            _ => {}
        }

        self.get_image(&engine, container).await?;
        let result_dir = self.make_result_dir()?;
        let config = container_config(&self.record, job, container, &result_dir);
        self.record.attempt.boot_id.clone_from(&self.boot_id);
        let id = match engine.create(&name, config).await {
            // The answer was lost, or the engine was slow: is it there?
            Err(error) if error.is_lost() => match inspect(&engine, &name).await? {
                Found::Container(found) => found.id,
                Found::Nothing => return Err(Failure::Create(error)),
            },
            created => created.map_err(Failure::Create)?,
        };
        info!(container = name, image = container.image, "created the container");
        self.record.attempt.container = Some(id);
        self.record.phase = Phase::Created;
        self.save()
    }

    /// A container that an earlier run of the agent made for this very attempt.
    fn take_over(&mut self, found: &Inspected) -> Result<(), Failure> {
        info!("found the container of this attempt; carrying on with it");
        let attempt = &mut self.record.attempt;
        attempt.container = Some(found.id.clone());
        if let Some(boot_id) = found.label(ContainerNames::BOOT_ID) {
            boot_id.clone_into(&mut attempt.boot_id);
        }
        self.record.phase = Phase::Created;
        self.save()
    }

    async fn get_image(&mut self, engine: &Engine, container: &Container) -> Result<(), Failure> {
        let image = &container.image;
        let failed = |source| Failure::Pull { image: image.clone(), source };
        let mut present = engine.image(image).await.map_err(failed)?;
        let wanted = match container.pull {
            Pull::Always => true,
            Pull::Missing => present.is_none(),
            Pull::Never if present.is_none() => return Err(Failure::ImageMissing { image: image.clone() }),
            Pull::Never => false,
        };
        if wanted {
            info!(image, "pulling the image");
            self.record.attempt.pull_started_at = Some(clock::now());
            let began = Instant::now();
            let pulled = pull(engine, &self.metadata, image).await;
            self.record.attempt.pull_s = Some(seconds(began.elapsed()));
            pulled?;
            info!(image, "pulled the image in {:.1} s", began.elapsed().as_secs_f32());
            present = engine.image(image).await.map_err(failed)?;
        }
        self.record.attempt.image_digest = present.flatten();
        Ok(())
    }

    /// The directory that the job sees as the place of `JOB_RESULT_FILE`. Whoever the job runs as may write there.
    fn make_result_dir(&self) -> Result<PathBuf, Failure> {
        let dir = self.result_dir(self.record.attempt.number);
        let made = match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir(&dir).and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))),
        };
        made.map(|()| dir).map_err(|source| super::journal_failure(self.config, source))
    }

    pub(super) fn result_dir(&self, attempt: u32) -> PathBuf {
        self.journal.dir().join(format!("result-{attempt}"))
    }

    /// Created → Running: starts the container, unless it was started already.
    pub(super) async fn start(&mut self) -> Result<(), Cut> {
        let job = self.job()?;
        let result = self.unless_stopped(async |run| run.start_container(&job).await).await;
        if matches!(result, Err(Cut::Stopped)) && self.was_started().await {
            // The start was under way as the stop came: it is for `watch` to stop it.
            self.record.phase = Phase::Running;
            self.save()?;
            return Ok(());
        }
        result
    }

    async fn was_started(&self) -> bool {
        let (Some(engine), Some(container)) = (&self.engine, &self.record.attempt.container) else { return false };
        match engine.inspect(container).await {
            Ok(Found::Container(found)) => found.status != Status::Created,
            Ok(Found::Nothing) => false,
            // Not known: look again while watching.
            Err(_) => true,
        }
    }

    async fn start_container(&mut self, job: &Job) -> Result<(), Failure> {
        let id = self.record.attempt.container.clone().unwrap_or_default();
        let engine = self.engine().await?;
        let mut tries_left = 3;
        let found = loop {
            let Found::Container(found) = inspect(&engine, &id).await? else {
                return Err(Failure::ContainerLost { container: id });
            };
            if found.status != Status::Created {
                break found;
            }
            if !found.exit.error.is_empty() {
                return Err(Failure::Start(EngineError::Failed(found.exit.error)));
            }
            self.record.attempt.boot_id.clone_from(&self.boot_id);
            self.choose_log_source(&engine, job, &id).await?;
            self.save()?;
            match engine.start(&id).await {
                Ok(()) => {}
                // Whether it has started is for the next look to say.
                Err(error) if error.is_lost() && tries_left > 0 => {
                    tries_left -= 1;
                    warn!("{error}; looking again");
                    sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(Failure::Start(error)),
            }
        };
        let attempt = &mut self.record.attempt;
        if attempt.boot_id != self.boot_id {
            return Err(self.rebooted());
        }
        let now_s = clock::since_boot().map(|since| since.as_secs_f64()).unwrap_or_default();
        let age_s = found.started_at.map_or(0.0, |at| jiff::Timestamp::now().duration_since(at).as_secs_f64());
        attempt.main_pid = found.pid;
        attempt.started_since_boot_s = Some((now_s - age_s.max(0.0)).max(0.0));
        attempt.started_at = Some(found.started_at.map_or_else(clock::now, clock::rfc3339));
        self.record.phase = Phase::Running;
        self.save()?;
        info!("the job runs");
        Ok(())
    }

    pub(super) fn rebooted(&self) -> Failure {
        Failure::Rebooted { started: self.record.attempt.boot_id.clone(), now: self.boot_id.clone() }
    }

    /// The engine's file where it can be read; else a stream, which has to be there before the job writes its first line.
    async fn choose_log_source(&mut self, engine: &Engine, job: &Job, id: &str) -> Result<(), Failure> {
        let Work::Container(container) = &job.work else { return Ok(()) };
        self.record.attempt.logs_from_file = container.log_driver == "json-file"
            && match engine.root_dir().await.map_err(Failure::Start)? {
                Some(root) => fs::read_dir(root.join("containers").join(id)).is_ok(),
                None => false,
            };
        if !self.record.attempt.logs_from_file {
            let output = engine.attach(id).await.map_err(Failure::Start)?;
            self.logs(job).read_attached(output);
        }
        Ok(())
    }
}

async fn inspect(engine: &Engine, container: &str) -> Result<Found, Failure> {
    engine.inspect(container).await.map_err(|source| Failure::Engine { doing: "look for the container", source })
}

/// Seconds to the millisecond, as the report gives them.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
