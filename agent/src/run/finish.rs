//! From an outcome to a delivered report, or to another attempt; and the tidying up after it.

use std::{io::Write, path::Path, time::Duration};

use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::{ENGINE_PAUSE, Run, known_secrets::Secrets, log_upload::STREAMS};
use crate::{
    cli::Config,
    console::REPORT_MARK,
    delivery::{self, Delivery, End, default_give_up_after},
    files::Entry,
    gate::{Outgoing, printable},
    google::Compute,
    job::{CallbackAuth, Job, OnFinish},
    journal::{Attempt, Phase},
    logs::LogSummary,
    marker::Sent,
    on_finish::carry_out,
    outcome::{Cause, Failure, Fault, Outcome, State},
    report::{Report, Upload},
    retry::Delays,
    runtime::{EngineError, RESULT_FILE},
    threads,
};

/// The largest result a job may leave, in bytes; and what it may take in the report, where numbers can be longer than they were written.
const MAX_RESULT_BYTES: u64 = 16 * 1024;
const MAX_WRITTEN_RESULT_BYTES: usize = 24 * 1024;
/// Before the next attempt, so that one that fails at once does not spin.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long the end waits for the guest attributes.
const GUEST_PATIENCE: Duration = Duration::from_secs(5);
/// How long after its agent died a create may still be under way in the engine.
const UNSEEN_CREATE_PAUSE: Duration = Duration::from_secs(3);
/// How long the report waits for the reader of stdout.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(2);
/// How long tidying up waits for the engine.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(20);

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

    /// The report is out, or given up for good, whatever becomes of the journal.
    pub(super) fn note_settled(&self) {
        // A VM that could not report may be mended, and run the job then.
        if !self.record.preflight.cannot_report
            && let Err(error) = self.marker.set(Sent::Settled)
        {
            warn!("failed to write down that the report is out: {error}");
        }
        self.panics.clear();
    }

    /// Before the report leaves: a journal that is lost after this costs no second report.
    async fn note_begun(&self) {
        if self.record.preflight.cannot_report {
            return;
        }
        if let Err(error) = self.marker.set(Sent::Begun) {
            warn!("failed to write down that the report is being sent: {error}");
            delivery::note_elsewhere(&self.metadata, &self.record.claim).await;
        }
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

    /// Exited → Delivered. `None` if the VM's time ran out first: the next run goes on.
    pub(super) async fn deliver(&mut self) -> Option<End> {
        let Some(report) = self.record.report.clone() else {
            return Some(End::GaveUp("the journal holds no report".into()));
        };
        self.note_begun().await;
        if self.record.delivery.tries == 0 {
            announce(&report).await;
        }
        let job = self.job();
        let auth = job.as_ref().map_or(CallbackAuth::AccessToken, |job| job.callback.auth.clone());
        let url = match self.endpoint(&auth) {
            Ok(Some(url)) => url,
            Ok(None) => return Some(End::NotWanted),
            Err(error) => {
                warn!("the report could not be delivered: {error}");
                return Some(End::GaveUp(error.to_string()));
            }
        };
        let run = Duration::try_from_secs_f64(self.record.attempt.run_s.unwrap_or_default()).unwrap_or_default();
        let give_up_after =
            job.and_then(|job| job.callback.give_up_after).unwrap_or_else(|| default_give_up_after(run));
        let delivery = Delivery { http: &self.http, metadata: &self.metadata, url: &url, auth: &auth, give_up_after };

        let mut progress = self.record.delivery.clone();
        let (journal, record) = (&self.journal, &self.record);
        let save = |progress: &crate::delivery::Progress| {
            let mut record = record.clone();
            record.delivery = progress.clone();
            if let Err(error) = journal.save(&record) {
                warn!("failed to write the delivery's progress down: {error}");
            }
        };
        let mut notices = self.notices.clone();
        let end = tokio::select! {
            end = delivery.deliver(&report, &mut progress, save) => Some(end),
            () = notices.near_vm_end(Duration::from_secs(1)) => {
                warn!("the VM is going down with the report not delivered; the next `vmjob-agent run` carries on");
                None
            }
        };
        self.record.delivery = progress;
        end.map(|end| match end {
            End::GaveUp(why) => End::GaveUp(self.gate.text(&why)),
            end => end,
        })
    }

    pub(super) fn show_state(&self) {
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

    /// The last step: lets the VM go, if the job wants that, whether or not anybody took the report.
    pub(super) async fn finish(&mut self) {
        if let Some(guest) = self.guest.take() {
            guest.finish(GUEST_PATIENCE).await;
        }
        let on_finish = self.job().map_or(OnFinish::None, |job| job.on_finish);
        if self.record.finished || on_finish == OnFinish::None {
            return;
        }
        let Config { compute_endpoint, callback_allow, .. } = self.config;
        let compute = Compute::new(&self.http, &self.metadata, compute_endpoint, callback_allow);
        match carry_out(on_finish, &self.record.vm, &compute).await {
            Ok(()) => {
                self.record.finished = true;
                self.save_if_possible();
            }
            Err(problem) => warn!("{problem}"),
        }
    }

    /// Delivered: removes the parts of a log that is one object by now. First, as the workflow may be deleting the VM.
    pub(super) async fn remove_uploaded_parts(&self) {
        if let Some(job) = self.job()
            && let Some(parts) = self.destination(&job)
        {
            self.remove_log_parts(&parts, &self.record.attempt.logs_composed).await;
        }
    }

    /// Delivered: nothing of the job stays but its record. Doing it twice is harmless. False if a container may have stayed.
    pub(super) async fn clean_up(&mut self) -> bool {
        let is_clean = self.remove_containers().await;
        let dirs = (1..=self.record.attempt.number).flat_map(|attempt| {
            let spool = self.journal.dir().join(format!("spool-{attempt}"));
            [self.result_dir(attempt), self.files_dir(attempt), spool]
        });
        self.remove_dirs(dirs.chain([self.sessions_dir()])).await;
        is_clean
    }

    /// Delivered, with a container left: waits for an engine that can remove it, as long as the configuration says and the VM
    /// stays. After that the next run tries.
    pub(super) async fn clean_up_late(&mut self) {
        info!("waiting for the engine, to remove what is left of the job");
        let mut notices = self.notices.clone();
        let pauses = Delays::new(Duration::from_secs(2), Duration::from_secs(15));
        let removed = async {
            for pause in pauses {
                sleep(pause).await;
                // Without the look for its name, which a half dead engine may not answer.
                let engine = match self.engine.clone() {
                    Some(engine) => Ok(engine),
                    None => self.connect(self.config.engine_patience).await,
                };
                let removed = match (engine, &self.record.attempt.container) {
                    (Ok(engine), Some(id)) => engine.remove(id).await,
                    (Ok(_), None) => Ok(()),
                    (Err(error), _) => Err(error),
                };
                if removed.is_ok() && self.try_to_remove_containers(CLEAN_UP_PATIENCE).await.is_ok() {
                    return;
                }
            }
        };
        let is_clean = tokio::select! {
            removed = timeout(self.config.engine_patience, removed) => removed.is_ok(),
            _ = notices.vm_end() => false,
        };
        if is_clean {
            info!("removed what was left of the job");
            self.unblock_metadata().await;
        } else {
            warn!("the job's container may have been left behind; the next `vmjob-agent run` tries again to remove it");
        }
    }

    /// Removes the containers of all attempts so far, if the engine is there to do it, or comes back soon.
    async fn remove_containers(&mut self) -> bool {
        self.guard = None;
        let removed = timeout(CLEAN_UP_PATIENCE, async {
            if self.carried_on && self.record.attempt.container.is_none() && self.record.attempt.image.is_some() {
                // An agent that died may have asked for a container that is not there yet.
                sleep(UNSEEN_CREATE_PAUSE).await;
            }
            let known = self.record.attempt.container.is_some() || self.record.attempt.number > 1;
            // Podman takes a second to say which version it is, and some when it is busy: a try that is cut off keeps it busier still.
            let patience = if known { CLEAN_UP_PATIENCE } else { Duration::from_secs(1) };
            loop {
                match self.try_to_remove_containers(patience).await {
                    Err(error) if known && error.is_lost() => sleep(ENGINE_PAUSE).await,
                    result => return result,
                }
            }
        });
        match removed.await {
            Ok(Ok(())) => {
                self.unblock_metadata().await;
                return true;
            }
            Ok(Err(error)) => warn!("the job's container may have been left behind: {error}"),
            Err(_) => warn!("the job's container may have been left behind: the engine is too slow, or away"),
        }
        // Where no container is known, there is none, mostly.
        self.record.attempt.container.is_none()
    }

    async fn try_to_remove_containers(&self, patience: Duration) -> Result<(), EngineError> {
        let engine = match &self.engine {
            Some(engine) => engine.clone(),
            None => self.connect(patience).await?,
        };
        // By id: others may have renamed them, or given their names to something else.
        for found in engine.own(&self.record.identity()).await? {
            engine.remove(&found.id).await?;
        }
        Ok(())
    }
}

/// The report as one line on stdout, for the serial console and journald. By a thread, as both may stand still, and then the report is to go
/// out nevertheless.
async fn announce(report: &Outgoing) {
    let line = format!("{REPORT_MARK}{}\n", report.as_str());
    let (done, written) = oneshot::channel();
    threads::spawn(move || {
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()) {
            warn!("failed to write the report to stdout: {error}");
        }
        let _ = done.send(());
    });
    if timeout(ANNOUNCE_PATIENCE, written).await.is_err() {
        warn!("nobody reads stdout: the report is sent before it is there");
    }
}
