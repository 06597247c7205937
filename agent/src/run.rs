//! The story of a run: a loop over the persisted phase. Each step does one thing to the world and writes down that it is
//! done; a restart, after a crash or on purpose, is the same loop begun again.

mod attempt;
mod blocking;
mod engine_away;
mod finish;
mod gpus;
mod image;
mod inputs;
mod log_parts;
mod log_upload;
mod mounts;
mod noted;
mod others;
mod output;
mod outputs;
mod preflight;
mod run_time;
mod secrets;
mod stopping;
mod unless_stopped;
mod watch;

use std::time::Duration;

use hyper::Uri;
use tracing::{info, warn};

use tokio::time::{Instant, sleep};

use self::secrets::Secrets;
use crate::{
    claim::{self, Assignment},
    cli::Config,
    clock,
    delivery::{self, End, GuestAttributes},
    http::Http,
    job::{CallbackAuth, Job, Work},
    journal::{Journal, JournalError, Phase, Record},
    logs::Logs,
    metadata::{Metadata, MetadataError},
    outcome::{Failure, Outcome},
    runtime::{DockerEngine, Engine, EngineError, Processes},
    service::ServiceManager,
    stop::{Notices, Stop},
    waits::Waits,
};

/// Between two calls to an engine that is away.
const ENGINE_PAUSE: Duration = Duration::from_millis(300);

/// How a run ended, as the process's exit status says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The report is out, or none was wanted; or the job was left running for the next run.
    Done,
    /// The report could not be delivered.
    Undelivered,
}

/// What keeps the agent from running at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("the VM is going down, and the metadata server did not say what the job is")]
    NoTime,
    #[error("failed to read the state of the machine: {0}")]
    Machine(#[from] std::io::Error),
}

/// What ends an attempt: something that failed, or being told to stop.
enum Cut {
    Failure(Failure),
    Stopped,
}

impl<F: Into<Failure>> From<F> for Cut {
    fn from(failure: F) -> Self {
        Self::Failure(failure.into())
    }
}

/// The owner of all state.
struct Run<'a> {
    config: &'a Config,
    http: Http,
    metadata: Metadata,
    notices: Notices,
    journal: Journal,
    boot_id: String,
    record: Record,
    /// Why the job cannot be run, where that was clear on reading it.
    unreadable: Option<Failure>,
    engine: Option<Engine>,
    /// Keeps the container of a job that has ended from running again.
    guard: Option<others::Guard>,
    waits: Waits,
    /// How often this process saw the engine go away.
    engine_losses: u32,
    logs: Option<Logs>,
    secrets: Secrets,
    /// Uploads the log while the job runs.
    log_upload: Option<log_upload::LogUpload>,
    /// Whether the log has been read by a stream that was there before the job started.
    attached: bool,
    /// Whether an earlier run of the agent began what this one carries on.
    carried_on: bool,
    /// Whether the disk did not take the note that the report is out.
    is_forgetful: bool,
    guest: Option<GuestAttributes>,
    service: &'a ServiceManager,
}

/// Runs the job of this VM, or goes on with it.
pub async fn run(config: &Config) -> Result<Ended, RunError> {
    let (journal, unwritable) = Journal::open_somewhere(&config.state_dir, &config.spare_dir)?;
    let cannot_run = unwritable.map(|problem| problem.to_string()).or_else(|| config.cannot_run.clone());
    let http = Http::default();
    let metadata = Metadata::new(http.clone(), &config.metadata_host);
    let mut notices = Notices::listen(&metadata)?;
    let mut leaving = notices.clone();

    let service = ServiceManager::from_env();
    let work = async {
        let Some(TakenOn { record, unreadable, carried_on }) =
            take_on(config, &journal, &metadata, &mut notices, cannot_run).await?
        else {
            return Ok(Ended::Done);
        };
        let boot_id = clock::boot_id()?;
        let mut run = Run {
            config,
            guest: Some(GuestAttributes::start(&metadata)),
            service: &service,
            http,
            metadata,
            notices,
            journal,
            boot_id,
            record,
            unreadable,
            engine: None,
            guard: None,
            waits: Waits::default(),
            engine_losses: 0,
            logs: None,
            secrets: Secrets::default(),
            log_upload: None,
            attached: false,
            carried_on,
            is_forgetful: false,
        };
        run.go().await
    };
    tokio::select! {
        biased;
        ended = work => ended,
        never = service.keep_told() => match never {},
        // Dropping a step in its middle is what a crash would do, so it is safe.
        () = leaving.handover() => Ok(Ended::Done),
    }
}

/// A job to run, or to go on with.
struct TakenOn {
    record: Record,
    /// Why it cannot be run, where that was clear on reading it.
    unreadable: Option<Failure>,
    carried_on: bool,
}

impl TakenOn {
    fn carry_on(record: Record) -> Self {
        info!(job = record.job_id, phase = ?record.phase, "carrying on");
        Self { record, unreadable: None, carried_on: true }
    }
}

/// The record to go on with: the journal's where it is about this job, else a new one. `None` if the agent was told to stop
/// while there was no job.
async fn take_on(
    config: &Config,
    journal: &Journal,
    metadata: &Metadata,
    notices: &mut Notices,
    cannot_run: Option<String>,
) -> Result<Option<TakenOn>, RunError> {
    let boot_id = clock::boot_id()?;
    let is_mendable = |record: &Record| record.phase == Phase::Delivered && record.preflight.cannot_report;
    // A VM that could not report may have been mended while it was off: nothing of its job has run.
    let known = journal.load()?.filter(|record| !is_mendable(record) || record.attempt.boot_id == boot_id);
    // The same boot is the same VM and the same job: nobody needs to be asked.
    if let Some(record) = known.clone()
        && record.phase != Phase::Delivered
        && record.attempt.boot_id == boot_id
    {
        return Ok(Some(TakenOn::carry_on(record)));
    }

    let delivered = known.as_ref().is_some_and(|record| record.phase == Phase::Delivered);
    let patience =
        if delivered { config.metadata_patience.min(Duration::from_secs(10)) } else { config.metadata_patience };
    let mut no_time = notices.clone();
    let assignment = tokio::select! {
        assignment = claim::read(metadata, patience, notices) => assignment,
        () = no_time.last_moment() => return Err(RunError::NoTime),
    };
    match (known, assignment) {
        (Some(record), Ok(Some(assignment))) if is_same(&record, &assignment) => Ok(Some(TakenOn::carry_on(record))),
        (known, Ok(Some(mut assignment))) => {
            let unreadable = assignment.failure.take().or(cannot_run.map(Failure::Agent));
            let mut record = assignment.into_record(&boot_id);
            // What an earlier job could not have undone is this one's to undo.
            record.blocked = known.and_then(|known| known.blocked);
            info!(job = record.job_id, vm = record.vm.name, "took the job on");
            if record.callback_url.is_none() {
                warn!("there is no `callback-url`: the report goes to stdout and the journal only");
            }
            if unreadable.is_some() {
                // Nothing of it can be run: should the agent die now, the metadata are read again.
                return Ok(Some(TakenOn { record, unreadable, carried_on: false }));
            }
            let saved = journal.reserve().and_then(|()| journal.clear_logs()).and_then(|()| journal.save(&record));
            let unreadable = saved.err().map(|source| journal_failure(config, source));
            Ok(Some(TakenOn { record, unreadable, carried_on: false }))
        }
        (_, Ok(None)) => {
            info!("told to stop while there was no job");
            Ok(None)
        }
        // Nothing is known of a new job, and the old one is done.
        (Some(record), Err(error)) if delivered => {
            warn!("{error}");
            Ok(Some(TakenOn::carry_on(record)))
        }
        (_, Err(error)) => Err(error.into()),
    }
}

/// A job that is under way on this VM stays the job, even if the attributes were changed meanwhile. A disk image made of a
/// VM at work carries its journal to other VMs: there it means nothing.
fn is_same(record: &Record, assignment: &Assignment) -> bool {
    if record.claim == assignment.claim {
        return true;
    }
    let under_way = record.phase != Phase::Delivered && record.vm.id == assignment.instance_id();
    if under_way {
        warn!("the job's attributes were changed; the job that is under way comes first");
    }
    under_way
}

fn journal_failure(config: &Config, source: std::io::Error) -> Failure {
    Failure::Journal { dir: config.state_dir.display().to_string(), source }
}

impl Run<'_> {
    async fn go(&mut self) -> Result<Ended, RunError> {
        loop {
            self.show_state();
            let step = match self.record.phase {
                Phase::Claimed => self.prepare().await,
                Phase::Created => self.start().await,
                Phase::Running => self.watch().await,
                Phase::Exited if self.record.attempt.outcome.is_some() => {
                    self.conclude().await;
                    continue;
                }
                Phase::Exited => match self.deliver().await {
                    Some(end) => {
                        self.record.delivery.end = Some(end);
                        self.record.phase = Phase::Delivered;
                        self.is_forgetful = self.save().map_err(|failure| warn!("{failure}")).is_err();
                        Ok(())
                    }
                    None => return Ok(Ended::Undelivered),
                },
                Phase::Delivered => {
                    // The next run would take a container that is gone for one that was lost.
                    if !self.is_forgetful {
                        self.clean_up().await;
                    }
                    self.finish().await;
                    return Ok(match self.record.delivery.end {
                        Some(End::GaveUp(_)) => Ended::Undelivered,
                        _ => Ended::Done,
                    });
                }
            };
            let outcome = match (step, &self.record.attempt.stop) {
                (Ok(()), _) => continue,
                (Err(Cut::Failure(failure)), _) => failure.outcome(self.is_process()),
                (Err(Cut::Stopped), Some(reason)) => Outcome::from(reason),
                (Err(Cut::Stopped), None) => Outcome::from(&Failure::Agent("stopped for no reason".into())),
            };
            self.end_attempt(outcome).await;
        }
    }

    fn is_process(&self) -> bool {
        matches!(self.job(), Ok(Job { work: Work::Process(_), .. }))
    }

    /// The job, checked.
    fn job(&self) -> Result<Job, Failure> {
        Ok(claim::parse(&self.record.source)?.job)
    }

    /// Where the report goes; `None` if it goes nowhere.
    fn endpoint(&self, auth: &CallbackAuth) -> Result<Option<Uri>, String> {
        let Some(url) = &self.record.callback_url else { return Ok(None) };
        delivery::check_endpoint(delivery::CALLBACK_URL, url, auth, &self.config.callback_allow).map(Some)
    }

    /// The engine, waited for as long as the configuration says.
    async fn engine(&mut self) -> Result<Engine, Failure> {
        if let Some(engine) = &self.engine {
            return Ok(engine.clone());
        }
        let (host, patience) = (&self.config.docker_host, self.config.engine_patience);
        let began = Instant::now();
        let _waiting = self.waits.begin(format!("the Docker daemon at {host}"));
        let engine = self.connect(patience).await.map_err(|source| Failure::EngineUnavailable {
            host: host.clone(),
            waited_s: began.elapsed().as_secs(),
            source,
        })?;
        self.engine = Some(engine.clone());
        Ok(engine)
    }

    /// What runs jobs of this kind; the Docker engine where there is no telling.
    async fn connect(&self, patience: Duration) -> Result<Engine, EngineError> {
        match self.job() {
            Ok(Job { work: Work::Process(_), .. }) => Ok(Engine::Processes(Processes::below(self.journal.dir()))),
            _ => Ok(Engine::Docker(DockerEngine::connect(&self.config.docker_host, patience, &self.waits).await?)),
        }
    }

    /// Makes a call to the engine. One that is away for a moment is waited for; `failure` says what any other error means.
    async fn call<T>(
        &mut self,
        call: impl AsyncFn(&Engine) -> Result<T, EngineError>,
        failure: impl FnOnce(EngineError) -> Failure,
    ) -> Result<T, Failure> {
        let end = Instant::now() + self.config.engine_patience;
        loop {
            let engine = self.engine().await?;
            match call(&engine).await {
                Err(error) if error.is_lost() && Instant::now() < end => {
                    self.lose_engine(&error).await;
                }
                result => return result.map_err(failure),
            }
        }
    }

    /// Apart from the above, which is compiled for each kind of call.
    async fn lose_engine(&mut self, error: &EngineError) {
        warn!("{error}; trying again");
        self.waits.failed(error);
        self.engine = None;
        sleep(ENGINE_PAUSE).await;
    }

    /// Writes the stop down before anything is done about it: a restarted agent has to know whose signal ended the job.
    fn note_stop(&mut self, stop: Stop) -> Result<(), Failure> {
        self.record.attempt.stop.get_or_insert(stop);
        self.save()
    }

    fn save(&self) -> Result<(), Failure> {
        self.journal.save(&self.record).map_err(|source| journal_failure(self.config, source))
    }

    /// For steps that have happened anyway: a full disk must not keep the report from getting out.
    fn save_if_possible(&self) {
        if let Err(failure) = self.save() {
            warn!("{failure}; carrying on without");
        }
    }
}
