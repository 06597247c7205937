//! From an attempt's outcome to another attempt, or to the report.

use std::{path::Path, time::Duration};

use serde_json::Value;
use tracing::{error, info, warn};

use super::{Run, known_secrets::Secrets, log_upload::STREAMS};
use crate::{
    files::Entry,
    gate::printable,
    job::Job,
    journal::{Attempt, Phase},
    logs::LogSummary,
    outcome::{Cause, Failure, Fault, Outcome, State},
    report::{Report, Upload},
    runtime::RESULT_FILE,
};

/// The largest result a job may leave, in bytes; and what it may take in the report, where numbers can be longer than they were written.
const MAX_RESULT_BYTES: u64 = 16 * 1024;
const MAX_WRITTEN_RESULT_BYTES: usize = 24 * 1024;
/// Before the next attempt, so that one that fails at once does not spin.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Ends the attempt: begins the next one where the job wants that, else writes down how it ended.
    pub(super) async fn end_attempt(&mut self, mut outcome: Outcome) {
        self.tell_noted(&mut outcome);
        outcome.pass(self.gate);
        let job = self.job();
        if let Some(job) = &job
            && self.wants_retry(job, &outcome)
        {
            return self.next_attempt(job, &outcome).await;
        }

        self.record.attempt.outcome = Some(outcome);
        self.record.phase = Phase::Exited;
        self.save_if_possible();
    }

    /// The attempt has ended, and how is on disk: uploads what it has left, and writes the report.
    pub(super) async fn conclude(&mut self) {
        let Some(mut outcome) = self.record.attempt.outcome.clone() else { return };
        self.guard_container();
        let job = self.job();
        let mut uploads = Vec::new();
        if let Some(job) = &job
            && self.record.attempt.started_at.is_some()
        {
            // First, as files may be called by a secret.
            self.fetch_secrets_again(job).await;
            uploads = self.put_outputs(job, &mut outcome).await;
            self.withhold_names(&mut uploads, &mut outcome);
            if matches!(outcome.cause, Cause::OutputFailed { .. }) && self.wants_retry(job, &outcome) {
                return self.next_attempt(job, &outcome).await;
            }
            if self.logs.is_none() {
                self.read_rest_of_logs(job, &mut outcome).await;
            }
            uploads.extend(self.finish_log_upload(job, &mut outcome).await);
        }
        self.write_report(outcome, &uploads).await;
    }

    /// The agent panics at every start: what is on record is reported, and nothing else of the job is touched.
    pub(super) fn report_panics(&mut self) {
        if self.record.phase == Phase::Delivered || self.record.report.is_some() {
            return;
        }
        let failure = Failure::Panicked { count: self.panics.count(), latest: self.panics.latest() };
        let outcome = Outcome::from(&failure);
        warn!("{}", outcome.message);
        let (logs, uploads) = (LogSummary::default(), Vec::new());
        let report = Report { record: &self.record, outcome: &outcome, logs: &logs, result: None, uploads: &uploads };
        self.record.report = Some(report.pass(self.gate));
        self.record.attempt.outcome = None;
        self.record.phase = Phase::Exited;
        self.save_if_possible();
    }

    async fn write_report(&mut self, mut outcome: Outcome, uploads: &[Upload]) {
        self.note_guarded();
        self.tell_noted(&mut outcome);
        if matches!(outcome.cause.fault(), Some(Fault::Job | Fault::Spec)) {
            outcome.evidence.extend(self.reading.doubts.iter().cloned());
        }
        let result = self.read_result().await.unwrap_or_else(|problem| {
            warn!("{problem}");
            outcome.evidence.push(problem);
            None
        });
        let mut logs = self.logs.take().map_or_else(LogSummary::default, crate::logs::Logs::finish);
        if uploads.iter().any(|upload| STREAMS.contains(&&*upload.from) && upload.files > 0) {
            logs.uri = self.job().and_then(|job| self.log_uri(&job));
        }
        if let Some(job) = self.job() {
            logs.add_lost(self.dropped_by_driver(&job, &logs));
        }
        if !logs.lost().is_none() {
            outcome.evidence.push(format!(
                "part of the log could not be read: the counts are less than what the job wrote ({})",
                logs.lost()
            ));
        }
        outcome.explain_exec_format(logs.end_text(), self.record.attempt.other_platform.as_deref());
        let (logs, result) = self.unless_withheld(&mut outcome, logs, result);
        let (cause, message) = (outcome.cause.name(), &outcome.message);
        match outcome.cause.state() {
            State::Succeeded => info!(cause, "{message}"),
            State::Cancelled => warn!(cause, "{message}"),
            State::Failed => error!(cause, "{message}"),
        }
        let report = Report { record: &self.record, outcome: &outcome, logs: &logs, result, uploads }.pass(self.gate);
        if let Some(guest) = &self.guest {
            guest.set_report(&report);
        }
        self.record.report = Some(report);
        self.record.attempt.outcome = None;
        self.save_if_possible();
    }

    fn wants_retry(&self, job: &Job, outcome: &Outcome) -> bool {
        let stopped = self.record.attempt.stop.as_ref().is_some_and(|_| outcome.cause != Cause::Timeout);
        !stopped
            && !self.silence.job_may_run
            && self.record.attempt.number < job.retry.max_attempts
            && job.retry.covers(outcome.cause.name(), outcome.exit_code)
    }

    async fn next_attempt(&mut self, job: &Job, outcome: &Outcome) {
        if self.record.attempt.started_at.is_some() {
            self.finish_log_upload(job, &mut outcome.clone()).await;
        }
        let number = self.record.attempt.number;
        warn!("attempt {number} of {} ended: {}; trying again", job.retry.max_attempts, outcome.message);
        self.logs = None;
        self.secrets = Secrets::default();
        self.log_upload = None;
        let log_parts =
            self.destination(job).map(|parts| (parts, std::mem::take(&mut self.record.attempt.logs_composed)));
        if let Err(error) = self.journal.clear_logs() {
            warn!("failed to forget attempt {number}: {error}");
        }
        let how = format!("attempt {number}: {}: {}", outcome.cause.name(), outcome.message);
        self.record.earlier_attempts.push(self.gate.mask(&how).into_owned());
        let image_rights = self.record.attempt.image_rights.take();
        let boot_id = self.boot_id.clone();
        self.record.attempt = Attempt {
            number: number + 1,
            previous_cause: Some(outcome.cause.name().to_owned()),
            boot_id,
            image_rights,
            ..Attempt::default()
        };
        self.record.phase = Phase::Claimed;
        // Saved first: an agent that died in between would take the removed container for one that was lost.
        self.save_if_possible();
        if let Some((parts, composed)) = log_parts {
            self.remove_log_parts(&parts, &composed).await;
        }
        self.remove_containers().await;
        self.remove_dirs([self.files_dir(number)]).await;
        tokio::time::sleep(RETRY_PAUSE).await;
    }

    /// What the job left in `JOB_RESULT_FILE`; an error says why it cannot be had. What has that name is the job's doing: a link
    /// does not lead out of the directory, and nothing but a file is opened.
    async fn read_result(&self) -> Result<Option<Value>, String> {
        let (name, shown) = (Path::new(RESULT_FILE), self.result_dir(self.record.attempt.number).join(RESULT_FILE));
        let Some(job) = self.job() else { return Ok(None) };
        let Some(room) =
            self.result_files(&job).await.map_err(|error| format!("failed to open the result: {error}"))?
        else {
            return Ok(None);
        };
        let file = match room.look(name).await {
            Ok(Entry::File(file)) => file,
            Ok(Entry::Directory | Entry::Other) => return Err("the result is no file and was dropped".into()),
            Err(error) => {
                return Err(format!("failed to open the result: {error}; a link has to stay in its directory"));
            }
        };
        let text = room.read_start(file, &shown, MAX_RESULT_BYTES + 1).await;
        let text = text.map_err(|error| format!("failed to read the result: {error}"))?;
        if text.len() as u64 > MAX_RESULT_BYTES {
            return Err(format!("the result is larger than {MAX_RESULT_BYTES} bytes and was dropped"));
        }
        let text = self.gate.mask_numbers(&text);
        let result: Value =
            serde_json::from_slice(&text).map_err(|error| format!("the result is no JSON and was dropped: {error}"))?;
        let written = printable(&result.to_string(), "").len();
        if written > MAX_WRITTEN_RESULT_BYTES {
            return Err(format!("the result takes {written} bytes with its numbers written out, and was dropped"));
        }
        Ok(Some(result))
    }
}
