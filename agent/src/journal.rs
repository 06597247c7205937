//! The crash-safe record of one job: a restarted agent reads it and takes the next step. One JSON file, replaced as a
//! whole, so that at any moment the disk holds either the old record or the new one.

mod attempt;
mod keep;

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

pub use self::{attempt::Attempt, keep::Keep};
use crate::{
    delivery::Progress,
    durable,
    gate::Outgoing,
    job::{JobContext, item_variable},
    metadata::Vm,
    plain_file,
    runtime::JobIdentity,
};

/// How far the job has come. Each phase names what has been done and is known to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// The job was read and is ours. Nothing of it has run.
    Claimed,
    /// Its container exists. It may have been started, by an agent that died before it could say so.
    Created,
    /// It was started.
    Running,
    /// It ended. Its outputs are uploaded, and then the report is on disk.
    Exited,
    /// The report was delivered, or given up.
    Delivered,
}

impl Phase {
    /// The name in the journal and in the guest attribute `vmjob/state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claimed => "CLAIMED",
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Exited => "EXITED",
            Self::Delivered => "DELIVERED",
        }
    }
}

/// Where the job text came from, and the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    JobSpec(String),
    DockerCommand(String),
    /// There was no text that could be kept: none at all, two, or not UTF-8. The report says which.
    Unreadable,
}

/// What the preflight found; kept in the journal, so that it is looked for once and gets into the report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preflighted {
    pub is_done: bool,
    pub warnings: Vec<String>,
    /// The report can never get out of the VM as it is.
    pub cannot_report: bool,
}

/// The record. Everything that a restarted agent needs, and no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    /// Names this very job on this very VM: a digest of instance, callback and job text.
    pub claim: String,
    pub phase: Phase,
    pub job_id: String,
    pub task_index: u32,
    pub task_count: u32,
    pub source: Source,
    /// What the workflow says of the job beside it.
    #[serde(default)]
    pub context: JobContext,
    pub callback_url: Option<String>,
    pub vm: Vm,
    pub agent_started_at: String,
    /// Whether the report will get out, as was looked before the job began.
    #[serde(default)]
    pub preflight: Preflighted,
    pub attempt: Attempt,
    /// How earlier attempts ended, a line each.
    pub earlier_attempts: Vec<String>,
    /// The report to the byte: on disk before the first POST, and sent as it is at every try.
    pub report: Option<Outgoing>,
    pub delivery: Progress,
    /// For how long what a failed job leaves behind stays; nothing once that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// Whether the VM was told to go, as `on_finish` asks: once, so that a VM that is started again stays.
    #[serde(default)]
    pub finished: bool,
    /// Whom rules of the VM keep from the metadata server; written down before they are made.
    #[serde(default)]
    pub blocked: Option<String>,
    /// The claims of earlier jobs whose containers that may still be for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_claims: Vec<String>,
}

impl Record {
    pub const VERSION: u32 = 1;

    /// What the engine knows the job's current attempt by.
    pub fn identity(&self) -> JobIdentity {
        let Attempt { number, boot_id, image, container, .. } = &self.attempt;
        JobIdentity {
            job_id: self.job_id.clone(),
            claim: self.claim.clone(),
            attempt: *number,
            boot_id: boot_id.clone(),
            variables: self.variables(),
            image: image.clone(),
            container: container.clone(),
        }
    }

    /// What the job is told of itself.
    fn variables(&self) -> Vec<(String, String)> {
        let previous_cause = self.attempt.previous_cause.as_ref().unwrap_or(&self.context.previous_cause);
        let own = [
            ("JOB_ID", self.job_id.clone()),
            ("JOB_ATTEMPT", self.attempt.number.to_string()),
            ("JOB_VM_ATTEMPT", self.context.vm_attempt.to_string()),
            ("JOB_PREVIOUS_CAUSE", previous_cause.clone()),
            ("JOB_TASK_INDEX", self.task_index.to_string()),
            ("JOB_TASK_COUNT", self.task_count.to_string()),
        ];
        let item = self.context.item.iter().map(|(name, value)| (item_variable(name), value.clone()));
        own.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(item).collect()
    }

    /// Without what cannot be: a flipped bit leaves a record well-formed, and no number of it is to end the agent.
    fn plausible(mut self) -> Self {
        let attempt = &mut self.attempt;
        for seconds in [&mut attempt.pull_s, &mut attempt.run_s] {
            // Less than a century.
            *seconds = seconds.filter(|seconds| (0.0..=3.2e9).contains(seconds));
        }
        attempt.number = attempt.number.max(1);
        self.delivery = self.delivery.plausible();
        self
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("failed to open the state directory {dir}: {source}")]
    Open { dir: PathBuf, source: io::Error },
    #[error("{problem}; nor is there room for it elsewhere")]
    Nowhere { problem: String },
    #[error("another vmjob-agent is using the state directory {dir}")]
    InUse { dir: PathBuf },
    #[error("failed to read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the record {path} is of version {version}, and this vmjob-agent knows version {known}: run the one that wrote it, or \
         remove the file",
        known = Record::VERSION
    )]
    Version { path: PathBuf, version: u64 },
}

/// The state directory, locked for one agent.
pub struct Journal {
    dir: PathBuf,
    /// The state directory that `dir` stands in for, where it does.
    replaced: Option<PathBuf>,
    _lock: File,
}

const RECORD: &str = "journal.json";
/// Room that is kept for the journal, and given to it when the disk is full.
const RESERVE: &str = "reserve";
const RESERVE_BYTES: usize = 256 * 1024;
const LOGS: &str = "logs.json";

impl Journal {
    /// Opens the state directory, made where it is missing, and locks it.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let open = || -> io::Result<(PathBuf, File)> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let dir = dir.canonicalize()?;
            let lock = plain_file::open_with(File::options().create(true).append(true).mode(0o600), &dir.join("lock"))?;
            Ok((dir, lock))
        };
        let (dir, lock) = open().map_err(|source| JournalError::Open { dir: dir.to_owned(), source })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, replaced: None, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse { dir }),
            Err(TryLockError::Error(source)) => Err(JournalError::Open { dir, source }),
        }
    }

    /// Opens `dir`; where nothing can be written there, as on a file system that was mounted read-only after an error, `spare`, with
    /// the record that `dir` has. What is there is forgotten with the next boot, so no new job may be run: why not comes along.
    pub fn open_somewhere(dir: &Path, spare: &Path) -> Result<(Self, Option<JournalError>), JournalError> {
        // A record that is another version's, or that the disk does not give, is neither read for what it is not, nor written over.
        let opened = Self::open(dir).and_then(|journal| read(dir).map(|_| journal));
        let problem = match opened {
            Ok(journal) => return Ok((journal, None)),
            Err(problem @ JournalError::InUse { .. }) => return Err(problem),
            Err(problem) => problem,
        };
        let mut journal = Self::open(spare).map_err(|_| JournalError::Nowhere { problem: problem.to_string() })?;
        warn!("{problem}; using {} instead", spare.display());
        journal.replaced = dir.canonicalize().ok();
        if matches!(problem, JournalError::Open { .. }) && !spare.join(RECORD).exists() {
            // There is none, or none that can be had.
            let copied = plain_file::read(&dir.join(RECORD));
            let _ = copied.and_then(|record| durable::replace(&spare.join(RECORD), &record, 0o600));
        }
        Ok((journal, Some(problem)))
    }

    /// Where the record is written.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where what belongs to a job is: its files, its result, its process. It may be readable only.
    pub fn job_dir(&self) -> &Path {
        self.replaced.as_ref().unwrap_or(&self.dir)
    }

    /// The record, if there is one. One that cannot be read is put aside: the container's labels are the second witness.
    pub fn load(&self) -> Result<Option<Record>, JournalError> {
        let path = self.dir.join(RECORD);
        match read(&self.dir)? {
            Some(Ok(record)) => Ok(Some(record.plausible())),
            Some(Err(error)) => {
                let aside = path.with_extension("json.unreadable");
                warn!("the journal {} is unreadable ({error}); it is kept as {}", path.display(), aside.display());
                fs::rename(&path, aside).map_err(|source| JournalError::Read { path, source })?;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Keeps room for the records to come, so that a job that fills the disk can still be accounted for.
    pub fn reserve(&self) -> io::Result<()> {
        durable::reserve(&self.dir.join(RESERVE), RESERVE_BYTES)
    }

    pub fn save(&self, record: &Record) -> io::Result<()> {
        let content = serde_json::to_vec_pretty(record)?;
        durable::replace_by(&self.dir.join(RESERVE), &self.dir.join(RECORD), &content, 0o600)
    }

    /// Where [`Journal::save_logs`] writes.
    pub fn logs_file(&self) -> PathBuf {
        self.dir.join(LOGS)
    }

    /// What is known of the logs so far. Not synced: after a power cut the log itself is read again.
    pub fn save_logs(&self, logs: &impl Serialize) -> io::Result<()> {
        let temporary = self.dir.join("logs.json.new");
        // Whoever the job runs as may reach the directory, and is not to read this.
        durable::create(&temporary, &serde_json::to_vec(logs)?, 0o600)?;
        fs::rename(temporary, self.logs_file())
    }

    /// `None` where there is nothing, or nothing readable, to go on from.
    pub fn load_logs<T: for<'de> Deserialize<'de>>(&self) -> Option<T> {
        serde_json::from_slice(&plain_file::read(&self.logs_file()).ok()?).ok()
    }

    /// Forgets the logs so far, for another attempt or another job.
    pub fn clear_logs(&self) -> io::Result<()> {
        match fs::remove_file(self.logs_file()).or_else(|_| fs::remove_dir(self.logs_file())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Reads the record without the lock, for `status`: `None` if there is none, an inner error if it cannot be parsed.
pub fn read(dir: &Path) -> Result<Option<serde_json::Result<Record>>, JournalError> {
    let path = dir.join(RECORD);
    match plain_file::read(&path) {
        Ok(text) => {
            let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            match record["version"].as_u64() {
                Some(version) if version != u64::from(Record::VERSION) => Err(JournalError::Version { path, version }),
                _ => Ok(Some(serde_json::from_slice(&text))),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JournalError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests;
