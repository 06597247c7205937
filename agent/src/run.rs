//! The story of a run: a loop over the persisted phase. Each step does one thing to the world and writes down that it is
//! done; a restart, after a crash or on purpose, is the same loop begun again.

mod background;
mod blocking;
mod bound;
mod care;
mod clean_up;
mod conclude;
mod deliver;
mod engine_away;
mod error;
mod gpus;
mod image;
mod inputs;
mod job_files;
mod keep;
mod known_secrets;
mod log_parts;
mod log_upload;
mod mounts;
mod noted;
mod others;
mod output;
mod outputs;
mod preflight;
mod prepare;
mod run_time;
mod secrets;
mod silence;
mod start;
mod step;
mod stopping;
mod take_on;
mod unless_stopped;
mod watch;

use std::{sync::Arc, time::Duration};

use hyper::Uri;
use tracing::warn;

use tokio::time::{Instant, sleep};

pub use self::error::RunError;
use self::{
    background::{Background, Guard},
    error::journal_failure,
    known_secrets::Secrets,
    silence::Silence,
    step::{Step, next_step},
    take_on::{TakenOn, take_on},
};
use crate::{
    claim::Reading,
    cli::Config,
    clock,
    delivery::{self, End, GuestAttributes},
    files::ThreadCount,
    gate::Gate,
    google::{EndpointError, check_endpoint},
    http::Http,
    job::{CallbackAuth, Job, RESULT_DIR, Work},
    journal::{Journal, Phase, Record},
    logs::Logs,
    marker::Marker,
    metadata::Metadata,
    outcome::{Failure, Outcome},
    panics::Panics,
    runtime::{DockerEngine, Engine, EngineError, Processes, job_env},
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
    gate: &'a Gate,
    http: Http,
    metadata: Metadata,
    notices: Notices,
    journal: Journal,
    boot_id: String,
    record: Record,
    reading: Reading,
    engine: Option<Engine>,
    /// Keeps the container of a job that has ended from running again.
    guard: Option<Guard>,
    waits: Waits,
    /// How often this process saw the engine go away.
    engine_losses: u32,
    /// What the engine leaves unanswered about the running job.
    silence: Silence,
    logs: Option<Logs>,
    secrets: Secrets,
    /// Uploads the log while the job runs.
    log_upload: Option<Background>,
    /// Whether the log has been read by a stream that was there before the job started.
    attached: bool,
    /// Whether an earlier run of the agent began what this one carries on.
    carried_on: bool,
    /// Whether the disk did not take the note that the report is out.
    is_forgetful: bool,
    /// Outlives the journal: whether the report has left the VM.
    marker: Marker,
    /// How often earlier runs ended in a panic.
    panics: Panics,
    guest: Option<GuestAttributes>,
    service: &'a ServiceManager,
    /// The threads that touch the job's files.
    file_threads: ThreadCount,
}

/// Runs the job of this VM, or goes on with it.
pub async fn run(config: &Config, gate: &Gate) -> Result<Ended, RunError> {
    let panics = Panics::watch(&config.state_dir, &config.spare_dir);
    // Of no job: it was not even found out which it is.
    hopeful(&panics.of(""))?;
    let (journal, unwritable) = Journal::open_somewhere(&config.state_dir, &config.spare_dir)?;
    let cannot_run = unwritable.map(|problem| problem.to_string()).or_else(|| config.cannot_run.clone());
    let http = Http::new(gate.clone());
    let metadata = Metadata::new(http.clone(), &config.metadata_host);
    let mut notices = Notices::listen(&metadata)?;
    let mut leaving = notices.clone();

    let service = ServiceManager::from_env();
    let work = async {
        let Some(TakenOn { record, reading, carried_on, marker }) =
            Box::pin(take_on(config, &journal, &metadata, &mut notices, cannot_run, &panics)).await?
        else {
            return Ok(Ended::Done);
        };
        let panics = panics.keep(&record.claim);
        hopeful(&panics)?;
        let boot_id = clock::boot_id()?;
        let mut run = Run {
            config,
            gate,
            guest: Some(GuestAttributes::start(&metadata)),
            service: &service,
            http,
            metadata,
            notices,
            journal,
            boot_id,
            record,
            reading,
            engine: None,
            guard: None,
            waits: Waits::default(),
            engine_losses: 0,
            silence: Silence::default(),
            logs: None,
            secrets: Secrets::default(),
            log_upload: None,
            attached: false,
            carried_on,
            is_forgetful: false,
            marker,
            panics,
            file_threads: ThreadCount::default(),
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

/// An error if the agent has panicked so often that it is not to try again.
fn hopeful(panics: &Panics) -> Result<(), RunError> {
    if panics.is_hopeless() {
        return Err(RunError::Hopeless { count: panics.count(), file: panics.file() });
    }
    Ok(())
}

impl Run<'_> {
    async fn go(&mut self) -> Result<Ended, RunError> {
        if self.record.phase == Phase::Delivered && self.record.report.is_none() {
            // It was settled on being taken on.
            self.save_if_possible();
        }
        if self.panics.only_report() {
            self.report_panics();
        }
        loop {
            self.show_state();
            let taken = match next_step(&self.record) {
                Step::Prepare => self.prepare().await,
                Step::Start => self.start().await,
                Step::Watch => self.watch().await,
                Step::Conclude => {
                    self.conclude().await;
                    Ok(())
                }
                Step::Deliver => match self.deliver().await {
                    Some(end) => {
                        self.note_delivered(end);
                        Ok(())
                    }
                    None => return Ok(Ended::Undelivered),
                },
                Step::CleanUp => return Ok(self.leave().await),
            };
            if let Err(cut) = taken {
                let outcome = self.outcome_of(&cut);
                self.end_attempt(outcome).await;
            }
        }
    }

    fn show_state(&self) {
        if let Some(guest) = &self.guest {
            guest.set_state(self.state());
        }
        self.service.status(&format!("job {}: {}", self.record.job_id, self.state()));
    }

    /// The phase; or that the VM is ending, from the notice until the report is out: the VM may be gone before that.
    fn state(&self) -> &'static str {
        let asked = self.notices.asked();
        let stop = self.record.attempt.stop.as_ref().or(asked.as_ref());
        match stop.map(|stop| stop.reason) {
            Some(reason) if reason.vm_time_left().is_some() && self.record.phase != Phase::Delivered => {
                reason.cause().name()
            }
            _ => self.record.phase.name(),
        }
    }

    /// How an attempt ended that was cut short.
    fn outcome_of(&self, cut: &Cut) -> Outcome {
        match (cut, &self.record.attempt.stop) {
            (Cut::Failure(failure), _) => failure.outcome(self.is_process()),
            (Cut::Stopped, Some(reason)) => Outcome::from(reason),
            (Cut::Stopped, None) => Outcome::from(&Failure::Agent("stopped for no reason".into())),
        }
    }

    fn note_delivered(&mut self, end: End) {
        self.record.delivery.end = Some(end);
        self.record.phase = Phase::Delivered;
        self.begin_keeping();
        self.is_forgetful = self.save().map_err(|failure| warn!("{failure}")).is_err();
        self.note_settled();
    }

    /// Removes what is left of the job, and lets the VM go.
    async fn leave(&mut self) -> Ended {
        // The next run would take a container that is gone for one that was lost; and what panics at every start may be this.
        let may_clean_up = !self.is_forgetful && !self.panics.only_report();
        if may_clean_up {
            self.remove_uploaded_parts().await;
        }
        self.keep().await;
        let is_clean = !may_clean_up || self.clean_up().await;
        self.finish().await;
        if !is_clean {
            self.clean_up_late().await;
        }
        match self.record.delivery.end {
            Some(End::GaveUp(_)) => Ended::Undelivered,
            _ => Ended::Done,
        }
    }

    fn is_process(&self) -> bool {
        self.job().is_some_and(|job| matches!(job.work, Work::Process(_)))
    }

    /// The job, where its text is one.
    fn job(&self) -> Option<Arc<Job>> {
        // An attempt whose names cannot be filled has ended by that: it is tidied up with the names as written.
        self.reading.job.clone().map(|job| self.filled(&job).unwrap_or(job))
    }

    /// The job, to be run; an error says, once, why it is not to be.
    fn job_to_run(&mut self) -> Result<Arc<Job>, Failure> {
        let job = self.reading.to_run()?;
        self.filled(&job)
    }

    /// With the values of this attempt's variables in its names.
    fn filled(&self, job: &Arc<Job>) -> Result<Arc<Job>, Failure> {
        if !job.has_variables() {
            return Ok(Arc::clone(job));
        }
        let mut filled = Job::clone(job);
        filled.fill(&self.variables(job)).map_err(Failure::Spec)?;
        Ok(Arc::new(filled))
    }

    /// What the job is told of itself.
    fn variables(&self, job: &Job) -> Vec<(String, String)> {
        let dir = match job.work {
            Work::Container(_) => RESULT_DIR.into(),
            Work::Process(_) => self.result_dir(self.record.attempt.number),
        };
        job_env(&self.record.identity(), &dir)
    }

    /// Where the report goes; `None` if it goes nowhere.
    fn endpoint(&self, auth: &CallbackAuth) -> Result<Option<Uri>, EndpointError> {
        let Some(url) = &self.record.callback_url else { return Ok(None) };
        check_endpoint(delivery::CALLBACK_URL, url, auth, &self.config.callback_allow).map(Some)
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
        self.connecting(patience).await
    }

    /// The same, without borrowing what the loop changes meanwhile.
    fn connecting(&self, patience: Duration) -> impl Future<Output = Result<Engine, EngineError>> + Send + use<> {
        let is_process = self.is_process();
        let (dir, host) = (self.journal.job_dir().to_owned(), self.config.docker_host.clone());
        let waits = self.waits.clone();
        async move {
            if is_process {
                return Ok(Engine::Processes(Processes::below(&dir)));
            }
            Ok(Engine::Docker(DockerEngine::connect(&host, patience, &waits).await?))
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
        self.show_state();
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
