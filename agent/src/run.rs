//! The story of a run: a loop over the persisted phase. Each step does one thing to the world and writes down that it is
//! done; a restart, after a crash or on purpose, is the same loop begun again.

mod attempt;
mod finish;
mod stopping;
mod watch;

use std::time::Duration;

use hyper::Uri;
use tracing::{info, warn};

use crate::{
    claim::{self, Assignment},
    cli::Config,
    clock,
    delivery::{self, End, GuestAttributes},
    http::Http,
    job::{CallbackAuth, Job},
    journal::{Journal, JournalError, Phase, Record},
    logs::Logs,
    metadata::{Metadata, MetadataError},
    outcome::{Failure, Outcome},
    runtime::Engine,
    stop::{Notices, Stop, StopReason},
};

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
    logs: Option<Logs>,
    guest: Option<GuestAttributes>,
}

/// Runs the job of this VM, or goes on with it.
pub async fn run(config: &Config) -> Result<Ended, RunError> {
    let journal = Journal::open(&config.state_dir)?;
    let http = Http::default();
    let metadata = Metadata::new(http.clone(), &config.metadata_host);
    let mut notices = Notices::listen(&metadata)?;
    let mut leaving = notices.clone();

    let work = async {
        let Some((record, unreadable)) = take_on(config, &journal, &metadata, &mut notices).await? else {
            return Ok(Ended::Done);
        };
        let boot_id = clock::boot_id()?;
        let mut run = Run {
            config,
            guest: Some(GuestAttributes::start(&metadata)),
            http,
            metadata,
            notices,
            journal,
            boot_id,
            record,
            unreadable,
            engine: None,
            logs: None,
        };
        run.go().await
    };
    tokio::select! {
        ended = work => ended,
        // Dropping a step in its middle is what a crash would do, so it is safe.
        () = leaving.handover() => Ok(Ended::Done),
    }
}

/// The record to go on with: the journal's where it is about this job, else a new one. `None` if the agent was told to stop
/// before there was a job.
async fn take_on(
    config: &Config,
    journal: &Journal,
    metadata: &Metadata,
    notices: &mut Notices,
) -> Result<Option<(Record, Option<Failure>)>, RunError> {
    let boot_id = clock::boot_id()?;
    let known = journal.load()?;
    // The same boot is the same VM and the same job: nobody needs to be asked.
    if let Some(record) = known.clone()
        && record.phase != Phase::Delivered
        && record.attempt.boot_id == boot_id
    {
        info!(job = record.job_id, phase = ?record.phase, "carrying on");
        return Ok(Some((record, None)));
    }

    let delivered = known.as_ref().is_some_and(|record| record.phase == Phase::Delivered);
    let patience =
        if delivered { config.metadata_patience.min(Duration::from_secs(10)) } else { config.metadata_patience };
    let assignment = tokio::select! {
        assignment = claim::read(metadata, patience) => assignment,
        _ = notices.vm_end() => {
            info!("told to stop before there was a job");
            return Ok(None);
        }
    };
    match (known, assignment) {
        (Some(record), Ok(assignment)) if is_same(&record, &assignment) => {
            info!(job = record.job_id, phase = ?record.phase, "carrying on");
            Ok(Some((record, None)))
        }
        (_, Ok(mut assignment)) => {
            let failure = assignment.failure.take();
            let record = assignment.into_record(&boot_id);
            info!(job = record.job_id, vm = record.vm.name, "took the job on");
            if record.callback_url.is_none() {
                warn!("there is no `callback-url`: the report goes to stdout and the journal only");
            }
            if failure.is_some() {
                // Nothing of it can be run: should the agent die now, the metadata are read again.
                return Ok(Some((record, failure)));
            }
            let saved = journal.clear_logs().and_then(|()| journal.save(&record));
            Ok(Some((record, saved.err().map(|source| journal_failure(config, source)))))
        }
        // Nothing is known of a new job, and the old one is done.
        (Some(record), Err(error)) if delivered => {
            warn!("{error}");
            Ok(Some((record, None)))
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
                Phase::Exited => match self.deliver().await {
                    Some(end) => {
                        self.record.delivery.end = Some(end);
                        self.record.phase = Phase::Delivered;
                        self.save_if_possible();
                        Ok(())
                    }
                    None => return Ok(Ended::Undelivered),
                },
                Phase::Delivered => {
                    self.clean_up().await;
                    self.finish().await;
                    return Ok(match self.record.delivery.end {
                        Some(End::GaveUp(_)) => Ended::Undelivered,
                        _ => Ended::Done,
                    });
                }
            };
            let outcome = match (step, &self.record.attempt.stop) {
                (Ok(()), _) => continue,
                (Err(Cut::Failure(failure)), _) => Outcome::from(&failure),
                (Err(Cut::Stopped), Some(reason)) => Outcome::from(reason),
                (Err(Cut::Stopped), None) => Outcome::from(&Failure::Agent("stopped for no reason".into())),
            };
            self.end_attempt(outcome).await;
        }
    }

    /// The job, checked; what it is in the contract and cannot be done here is an error.
    fn job(&self) -> Result<Job, Failure> {
        let job = claim::parse(&self.record.source)?.job;
        match claim::first_unsupported(&job) {
            Some(error) => Err(error.into()),
            None => Ok(job),
        }
    }

    /// Where the report goes; `None` if it goes nowhere.
    fn endpoint(&self, auth: &CallbackAuth) -> Result<Option<Uri>, String> {
        let Some(url) = &self.record.callback_url else { return Ok(None) };
        delivery::check_endpoint(url, auth, &self.config.callback_allow).map(Some)
    }

    /// The engine, waited for as long as the configuration says.
    async fn engine(&mut self) -> Result<Engine, Failure> {
        if let Some(engine) = &self.engine {
            return Ok(engine.clone());
        }
        let (host, patience) = (&self.config.docker_host, self.config.engine_patience);
        let engine = Engine::connect(host, patience).await.map_err(|source| Failure::EngineUnavailable {
            host: host.clone(),
            waited_s: patience.as_secs(),
            source,
        })?;
        self.engine = Some(engine.clone());
        Ok(engine)
    }

    /// Does `work` unless there is a reason to stop, which is written down then.
    async fn unless_stopped<T, F: Into<Failure>>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, F>,
    ) -> Result<T, Cut> {
        let mut notices = self.notices.clone();
        let reason = tokio::select! {
            biased;
            reason = notices.stop() => reason,
            result = work(self) => return result.map_err(Cut::from),
        };
        self.note_stop(reason)?;
        Err(Cut::Stopped)
    }

    /// Writes the stop down before anything is done about it: a restarted agent has to know whose signal ended the job.
    fn note_stop(&mut self, reason: StopReason) -> Result<(), Failure> {
        if self.record.attempt.stop.is_none() {
            let since_boot_s = clock::since_boot().unwrap_or_default().as_secs_f64();
            self.record.attempt.stop = Some(Stop { reason, at: clock::now(), since_boot_s });
        }
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
