//! From a claimed job to a running container: pull, create, start. Whatever an agent that died here may have done already
//! is found by the container's name and labels, and taken over.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use jiff::Timestamp;
use tokio::time::{Duration, Instant, sleep, timeout};
use tracing::{info, warn};

use super::{Cut, Run};
use crate::{
    clock::{self, SinceBoot, WallTime},
    job::{Job, Work},
    journal::Phase,
    outcome::Failure,
    runtime::{ContainerNames, Dirs, EngineError, Found, Init, Inspected, Status},
    stop::Stop,
};

/// How long a name may be taken by a container that cannot be seen yet.
const CREATE_PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks for what is under way in the engine.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a stop before the start waits for the engine to say how things stand.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// What newer engines note of a start that whoever asked for it did not wait for: an agent that died. It is asked for again. It comes
/// alone, or from containerd as `Canceled: context canceled`.
const GIVEN_UP: &str = "context canceled";
/// How long a stop waits for a create or a start that is under way.
const CALL_GRACE: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Claimed → Created: checks the job, gets the image, creates the container.
    pub(super) async fn prepare(&mut self) -> Result<(), Cut> {
        let mut job = Job::clone(&*self.reading.to_run()?);
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
    async fn look_for_renamed(&mut self) -> Result<Option<Box<Inspected>>, Failure> {
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

    fn container_name(&self) -> String {
        ContainerNames::of(&self.record.job_id, self.record.attempt.number)
    }

    fn is_ours(&self, found: &Inspected) -> bool {
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
    fn make_result_dir(&self) -> Result<PathBuf, Failure> {
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

    /// Created → Running: starts the container, unless it was started already.
    pub(super) async fn start(&mut self) -> Result<(), Cut> {
        let job = self.reading.to_run()?;
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
                Ok(()) => {}
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

/// Seconds to the millisecond, as the report gives them.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
