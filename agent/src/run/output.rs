//! The job's output in a run: which source is read, from where on, and how far it was read.

use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::Run;
use crate::{
    job::{Job, Work},
    logs::{Checkpoint, LogSummary, Logs, Loss, Lost, Spool},
    outcome::Outcome,
    runtime::{Engine, Replay},
};

/// How long nothing may come of a log that has not ended after the job has, and how long all of its rest may take: an engine under
/// load reads back some megabytes a second.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
pub(super) const LONGEST_DRAIN: Duration = Duration::from_mins(10);
/// The same where the engine does not even say how the job ended.
pub(super) const LAST_DRAIN: Duration = Duration::from_secs(10);

/// How long a restarted agent waits for the engine, to read what it has not read of the log.
const REST_PATIENCE: Duration = Duration::from_secs(3);

impl Run<'_> {
    /// The log reader, on from the last checkpoint.
    pub(super) fn logs(&mut self, job: &Job) -> &mut Logs {
        let spool_dir = self.spool_dir(job);
        let Self { journal, secrets, record, .. } = self;
        self.logs.get_or_insert_with(|| {
            let checkpoint: Checkpoint = journal.load_logs().unwrap_or_default();
            if checkpoint.usage > record.attempt.usage {
                record.attempt.usage = checkpoint.usage;
            }
            let masks = Self::masks(secrets, job, checkpoint.mask_place());
            let spool = spool_dir.map(|dir| Spool::resume(dir, journal.logs_file(), checkpoint.parts()));
            Logs::resume(checkpoint, job.logs.summary_bytes as usize, job.logs.forward, masks, spool)
        })
    }

    /// Whether a source has to be found, for the first time or because the last one broke off.
    pub(super) fn wants_log_source(&self) -> bool {
        self.logs.as_ref().is_none_or(Logs::wants_source)
    }

    /// Reads the engine's file, which needs no engine.
    pub(super) fn open_log_file(&mut self, job: &Job) {
        if self.record.attempt.logs_from_file
            && self.wants_log_source()
            && let Some(path) = self.record.attempt.log_path.clone()
        {
            self.logs(job).read_file(path);
        }
    }

    pub(super) fn read_replay(&mut self, engine: &Engine, job: &Job, id: &str, follow: bool) {
        // A terminal's output has no entries in which a time could be told from text.
        let is_terminal = matches!(&job.work, Work::Container(container) if container.tty);
        let output = engine.replay(id, Replay { follow, with_times: !is_terminal });
        self.logs(job).read_replay(output, !is_terminal);
    }

    /// Takes what is left of the log, for `longest`, or for less where the report needs its own time.
    pub(super) async fn drain_logs(&mut self, job: &Job, longest: Duration) {
        if self.record.attempt.logs_from_file {
            self.open_log_file(job);
        } else if let Some(engine) = self.engine.clone()
            && (!self.attached || self.wants_log_source())
        {
            let id = self.record.attempt.container.clone().unwrap_or_default();
            // Following, the engine keeps back a line without an end, and at times more.
            self.read_replay(&engine, job, &id, false);
        }
        self.drain(job, longest).await;
        self.save_logs();
    }

    async fn drain(&mut self, job: &Job, longest: Duration) {
        let mut notices = self.notices.clone();
        let end = async {
            tokio::select! {
                () = notices.third_of_vm_time() => {}
                () = sleep(longest) => {}
            }
        };
        self.logs(job).drain(DRAIN_PATIENCE, end).await;
    }

    /// For an agent that was restarted after the job's end: what the last one had read may not be on disk.
    pub(super) async fn read_rest_of_logs(&mut self, job: &Job, outcome: &mut Outcome) {
        match self.connect(REST_PATIENCE).await {
            Ok(engine) => {
                self.engine = Some(engine);
                self.drain_logs(job, LONGEST_DRAIN).await;
            }
            Err(error) => {
                let _ = self.logs(job);
                outcome.evidence.push(format!("the end of the log could not be read again after a restart: {error}"));
            }
        }
    }

    /// Whether the log's driver may have dropped something. One that does not wait lets go what has no room in its buffer, and says
    /// nothing: of less output than the buffer holds nothing can be missing. Source: moby `daemon/logger/ring.go`.
    pub(super) fn dropped_by_driver(&self, job: &Job, logs: &LogSummary) -> Lost {
        const LONGEST_MESSAGE_BYTES: u64 = 16 * 1024;
        let Work::Container(container) = &job.work else { return Lost::default() };
        // What was attached did not go through the driver.
        let is_from_driver = self.record.attempt.logs_from_file || !self.attached;
        let written = logs.stdout_bytes + logs.stderr_bytes + LONGEST_MESSAGE_BYTES;
        let is_full = container.dropping_log_buffer().is_some_and(|buffer_bytes| written > buffer_bytes);
        if is_from_driver && is_full { Lost::some(Loss::Dropped) } else { Lost::default() }
    }

    pub(super) fn save_logs(&mut self) {
        let Some(logs) = &mut self.logs else { return };
        logs.cut();
        let mut checkpoint = logs.checkpoint();
        checkpoint.usage = self.record.attempt.usage;
        match self.journal.save_logs(&checkpoint) {
            Ok(()) => logs.commit(),
            Err(error) => warn!("failed to write down how far the log was read: {error}"),
        }
    }
}
