//! Claimed → Created: gets what the job needs, and makes its container. Whatever an agent that died here may have done already
//! is found by the container's name and labels, and taken over.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use tokio::time::{Duration, Instant, sleep};
use tracing::{info, warn};

use super::{Cut, Run};
use crate::{
    job::{Job, Work},
    journal::Phase,
    outcome::Failure,
    runtime::{ContainerNames, Dirs, Found, Inspected, Status},
};

/// How long a name may be taken by a container that cannot be seen yet.
const CREATE_PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks for what is under way in the engine.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a stop before the start waits for the engine to say how things stand.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// How long a stop waits for a create or a start that is under way.
pub(super) const CALL_GRACE: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Claimed → Created: checks the job, gets the image, creates the container.
    pub(super) async fn prepare(&mut self) -> Result<(), Cut> {
        let mut job = Job::clone(&*self.job_to_run()?);
        // Once, and not by each agent and attempt.
        if !self.carried_on && self.record.attempt.number == 1 {
            for ignored in &self.reading.ignored {
                info!("{ignored}");
            }
            for doubt in &self.reading.doubts {
                warn!("{doubt}");
            }
        }
        // By the names first, which takes no engine.
        job.check_block_mounts(&self.config.block_mounts).map_err(Failure::Spec)?;
        let url = self.endpoint(&job.callback.auth)?;
        let preflight = self.begin_preflight(url, &job.callback.auth);
        self.record.attempt.image = job.image().map(str::to_owned);
        if self.takes_over().await? {
            return Ok(());
        }
        // Of an earlier attempt or job, if nothing of it runs any more.
        self.unblock_metadata().await;
        // An agent before this one was told to, and got no further.
        if self.record.attempt.stop.is_some() {
            return Err(Cut::Stopped);
        }
        self.unless_stopped(Duration::ZERO, async |run| {
            let _waiting = run.waits.begin("the look at whether the report can get out");
            run.heed_preflight(preflight).await
        })
        .await?;
        let original = job.clone();
        self.unless_stopped(Duration::ZERO, async |run| run.check_block(&original).await).await?;
        self.unless_stopped(Duration::ZERO, async |run| run.fetch_secrets(&job).await).await?;
        if let Work::Container(container) = &mut job.work {
            self.unless_stopped(Duration::ZERO, async |run| run.get_image(container).await).await?;
            self.unless_stopped(Duration::ZERO, async |run| run.give_gpus(container).await).await?;
        }
        self.unless_stopped(Duration::ZERO, async |run| run.get_inputs(&job).await).await?;
        // Again, as pulling and fetching take their time.
        self.unless_stopped(Duration::ZERO, async |run| run.check_block(&original).await).await?;
        // A create that was begun is seen through: dropped here, it would go on in the engine.
        self.unless_stopped(CALL_GRACE, async |run| run.create(&job).await).await
    }

    /// Whether an earlier run of the agent has made the container of this very attempt: then this run carries on with it, and
    /// a stop is for the next step.
    async fn takes_over(&mut self) -> Result<bool, Cut> {
        let name = self.container_name();
        self.unless_stopped(STOP_PATIENCE, async |run| {
            let found = run.look(&name).await?;
            let mut ours = found.filter(|found| run.is_ours(found));
            if ours.is_none() {
                ours = run.look_for_renamed().await?;
            }
            if let Some(found) = &ours {
                run.take_over(found).await?;
            }
            Ok::<bool, Failure>(ours.is_some())
        })
        .await
    }

    /// The container of this attempt under another name than it was given.
    pub(super) async fn look_for_renamed(&mut self) -> Result<Option<Box<Inspected>>, Failure> {
        let failure = |source| Failure::Engine { doing: "look for the container", source };
        let identity = self.record.identity();
        let number = identity.attempt.to_string();
        let own = self.call(async |engine| engine.own(&identity).await, failure).await?;
        Ok(own.into_iter().find(|found| found.label(ContainerNames::ATTEMPT) == Some(&number)).map(Box::new))
    }

    async fn create(&mut self, job: &Job) -> Result<(), Failure> {
        let name = self.container_name();
        let dirs = Dirs { result: self.make_result_dir()?, files: self.files_dir(self.record.attempt.number) };
        let secrets = self.secret_env(job)?;
        self.record.attempt.boot_id.clone_from(&self.boot_id);
        self.note_missing_sources(job);
        let _waiting = self.waits.begin("the engine to create the container");
        let end = Instant::now() + CREATE_PATIENCE;
        loop {
            let engine = self.engine().await?;
            let error = match engine.create(&name, &self.record.identity(), job, &secrets, &dirs).await {
                Ok(created) => {
                    if let Some(image) = job.image() {
                        info!(name, image, "created the container");
                    } else {
                        info!(name, "prepared the process");
                    }
                    for warning in &created.warnings {
                        warn!("the engine warns: {}", warning.escape_debug());
                        self.note(&format!("the engine warned at the create: {warning}"));
                    }
                    self.note_rights(job, &created.id).await;
                    self.record.attempt.container = Some(created.id);
                    self.record.phase = Phase::Created;
                    return self.save();
                }
                Err(error) if error.is_lost() || error.is_conflict() => error,
                Err(error) => return Err(Failure::Create(error)),
            };
            if error.is_lost() {
                warn!("{error}; looking for the container");
                self.engine = None;
            }
            match self.look(&name).await? {
                Some(found) if self.is_ours(&found) => return self.take_over(&found).await,
                // The remains of an earlier job with this id.
                Some(found) if found.label(ContainerNames::CLAIM).is_some() && found.status != Status::Running => {
                    self.call(async |engine| engine.remove(&found.id).await, Failure::Create).await?;
                }
                // The name is taken by a create that is still under way: perhaps that of an agent that died.
                None if Instant::now() < end => sleep(LOOK_INTERVAL).await,
                // It is somebody's.
                _ => return Err(Failure::Create(error)),
            }
        }
    }

    pub(super) fn container_name(&self) -> String {
        ContainerNames::of(&self.record.job_id, self.record.attempt.number)
    }

    pub(super) fn is_ours(&self, found: &Inspected) -> bool {
        found.label(ContainerNames::CLAIM) == Some(&self.record.claim)
    }

    async fn take_over(&mut self, found: &Inspected) -> Result<(), Failure> {
        info!(id = found.id, "found what was made for this attempt; carrying on with it");
        let image = match self.record.attempt.image.clone() {
            Some(image) => self.call(async |engine| engine.image(&image).await, Failure::Create).await?,
            None => None,
        };
        if found.status == Status::Created
            && let Some(job) = self.job()
        {
            self.note_rights(&job, &found.id).await;
        }
        self.note_image(image);
        let attempt = &mut self.record.attempt;
        attempt.container = Some(found.id.clone());
        if let Some(boot_id) = found.label(ContainerNames::BOOT_ID) {
            boot_id.clone_into(&mut attempt.boot_id);
        }
        self.record.phase = Phase::Created;
        self.save()
    }

    /// The container with this name or id, if there is one.
    pub(super) async fn look(&mut self, container: &str) -> Result<Option<Box<Inspected>>, Failure> {
        let failure = |source| Failure::Engine { doing: "look for the container", source };
        match self.call(async |engine| engine.inspect(container).await, failure).await? {
            Found::Container(found) => Ok(Some(found)),
            Found::Nothing => Ok(None),
        }
    }

    /// The directory that the job sees as the place of `JOB_RESULT_FILE`. Whoever the job runs as may write there.
    pub(super) fn make_result_dir(&self) -> Result<PathBuf, Failure> {
        let dir = self.result_dir(self.record.attempt.number);
        let made = match fs::create_dir(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)),
        };
        // Without a container it gets there by its way through the state directory, in which it sees nothing else.
        let made = made.and_then(|()| {
            if self.is_process() {
                fs::set_permissions(self.journal.dir(), fs::Permissions::from_mode(0o711))
            } else {
                Ok(())
            }
        });
        made.map(|()| dir).map_err(|source| super::error::journal_failure(self.config, source))
    }

    /// For inputs and outputs of a container that lie under none of its mounts.
    pub(super) fn files_dir(&self, attempt: u32) -> PathBuf {
        self.journal.job_dir().join(format!("files-{attempt}"))
    }

    pub(super) fn result_dir(&self, attempt: u32) -> PathBuf {
        self.journal.job_dir().join(format!("result-{attempt}"))
    }
}
