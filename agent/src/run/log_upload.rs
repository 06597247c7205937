//! The whole log in Cloud Storage (`logs.upload`): parts go up while the job runs, by a task of their own, which a slow bucket holds up and
//! nothing else; at the end one object a stream is made of them. What fails here is told in `uploads`, and changes nothing else.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::StatusCode;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::Run;
use crate::{
    job::Job,
    outcome::{Outcome, Upload},
    storage::{Access, Location, Storage, StorageError, Traits},
};

/// Between two looks for parts that are ready.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After a bucket has failed for good, until it is tried again: rights take minutes to spread.
const FAILURE_PAUSE: Duration = Duration::from_secs(30);
/// How long the end of a job waits for a bucket that does not answer.
const END_PATIENCE: Duration = Duration::from_mins(1);
const SECOND_PATIENCE: Duration = Duration::from_secs(5);

pub(super) const STREAMS: [&str; 2] = ["stdout", "stderr"];
/// As the console and `gcloud storage cat` show it: as text.
const TRAITS: Traits<'static> =
    Traits { content_type: Some("text/plain; charset=utf-8"), content_encoding: Some("gzip"), only_new: false };

/// The task that uploads parts, as long as this is there.
pub(super) struct LogUpload(JoinHandle<()>);

impl Drop for LogUpload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where the logs of one attempt go.
struct Destination {
    /// Its directory in the bucket.
    dir: Location,
    /// What the names of its parts begin with: another VM's job of the same name has others.
    parts: Location,
}

impl Run<'_> {
    pub(super) fn spool_dir(&self, job: &Job) -> Option<PathBuf> {
        let dir = self.journal.dir().join(format!("spool-{}", self.record.attempt.number));
        job.logs.upload.is_some().then_some(dir)
    }

    fn destination(&self, job: &Job) -> Option<Destination> {
        let prefix = Location::parse(job.logs.upload.as_ref()?);
        let dir = prefix.join(&format!("{}/{}/", self.record.job_id, self.record.attempt.number));
        let parts = dir.join(&format!("parts/{}-", self.record.claim.get(..12).unwrap_or_default()));
        Some(Destination { dir, parts })
    }

    /// Where the whole log is, for people.
    pub(super) fn log_uri(&self, job: &Job) -> Option<String> {
        self.destination(job).map(|destination| destination.dir.to_string())
    }

    /// Begins to upload parts, unless that is done already.
    pub(super) fn upload_parts(&mut self, job: &Job) {
        if self.log_upload.is_none()
            && let (Some(spool), Some(destination)) = (self.spool_dir(job), self.destination(job))
        {
            let (storage, sessions) = (self.storage(), self.sessions_dir());
            self.log_upload = Some(LogUpload(tokio::spawn(async move {
                loop {
                    let pause = match send_parts(&storage, &spool, &destination.parts, &sessions).await {
                        Ok(()) => LOOK_INTERVAL,
                        Err(error) => {
                            warn!("the log is not in the bucket yet: {error}");
                            FAILURE_PAUSE
                        }
                    };
                    sleep(pause).await;
                }
            })));
        }
    }

    /// Uploads what is left of the log, and makes one object a stream of it, as far as the VM's time goes.
    pub(super) async fn finish_log_upload(&mut self, job: &Job, outcome: &mut Outcome) -> Vec<Upload> {
        let (Some(spool), Some(destination)) = (self.spool_dir(job), self.destination(job)) else { return Vec::new() };
        self.logs(job).end();
        self.save_logs();
        let (bytes, kept_bytes) = (self.logs(job).bytes_seen(), self.logs(job).parts().bytes);
        let mut end = self.notices.clone();
        if let Some(packed) = self.logs(job).end_parts() {
            tokio::select! {
                _ = timeout(END_PATIENCE, packed) => {}
                () = end.last_moment() => {}
            }
        }
        self.log_upload = None;
        let mut storage = self.storage().with_patience(END_PATIENCE);
        let mut uploads = Vec::new();
        for (index, stream) in STREAMS.into_iter().enumerate() {
            if bytes[index] == 0 {
                continue;
            }
            let to = destination.dir.join(&format!("{stream}.log"));
            let finished = tokio::select! {
                biased;
                finished = self.finish_stream(&storage, &spool, &destination.parts, index, kept_bytes[index], &to) => finished,
                () = end.last_moment() => Err(StorageError::Unfit("the VM's time ran out before it was all there".into())),
            };
            let missing = self.record.attempt.logs_missing[index];
            let mut upload =
                Upload { from: stream.into(), to: to.to_string(), files: 1, bytes: bytes[index], error: None };
            if let Err(error) = finished {
                let fix = error.fix(&to.bucket, Access::Write, &storage.account().await);
                let fix = fix.map(|fix| format!("; {fix}")).unwrap_or_default();
                (upload.files, upload.bytes) = (0, 0);
                // One stream has waited for the bucket; the other need not do so again.
                storage = storage.with_patience(SECOND_PATIENCE);
                upload.error = Some(format!("{error}{fix}"));
            } else if missing > 0 {
                upload.bytes = bytes[index].saturating_sub(missing);
                upload.files = u64::from(missing < kept_bytes[index]);
                upload.error = Some(format!("{missing} bytes of it had no place on the VM's disk and are missing"));
            }
            if let Some(problem) = &upload.error {
                warn!("{stream} is not whole at {to}: {problem}");
                outcome.evidence.push(format!("the log of {stream} is not whole at {to}: {problem}"));
            } else {
                info!("the log of {stream} is at {to}");
            }
            uploads.push(upload);
        }
        uploads
    }

    async fn finish_stream(
        &mut self,
        storage: &Storage,
        spool: &Path,
        parts: &Location,
        index: usize,
        kept_bytes: u64,
        to: &Location,
    ) -> Result<(), StorageError> {
        let stream = STREAMS[index];
        send_parts(storage, spool, parts, &self.sessions_dir()).await?;
        let names = async |kind: &str| {
            let prefix = parts.sibling(&format!("{}{stream}-{kind}", parts.name));
            let (mut names, mut page_token) = (Vec::new(), None);
            loop {
                let page = storage.list(&prefix, page_token.as_deref()).await?;
                names.extend(page.items.into_iter().map(|object| object.name));
                page_token = page.next_page_token;
                if page_token.is_none() {
                    return Ok::<_, StorageError>(names);
                }
            }
        };
        // Once it is whole, parts that are still there are only to go: some may be gone already.
        if !self.record.attempt.logs_composed.iter().any(|done| done == stream) {
            let between = format!("{}{stream}-between-", parts.name);
            let names = names("part-").await?;
            // What is there tells what is missing, whoever lost it.
            let there: u64 = names.iter().filter_map(|name| name.rsplit('-').next()?.parse::<u64>().ok()).sum();
            if !names.is_empty() {
                storage.compose(names, &between, to, TRAITS).await?;
            }
            self.record.attempt.logs_missing[index] = kept_bytes.saturating_sub(there);
            self.record.attempt.logs_composed.push(stream.to_owned());
            self.save_if_possible();
        }
        for name in names("").await? {
            storage.delete(&parts.sibling(&name)).await?;
        }
        Ok(())
    }
}

/// Uploads the parts that are ready, oldest first, and removes them. One that is there already was sent by an agent that died.
async fn send_parts(storage: &Storage, spool: &Path, parts: &Location, sessions: &Path) -> Result<(), StorageError> {
    let entries = fs::read_dir(spool).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut ready: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "gz")).collect();
    ready.sort();
    for path in ready {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (stream, number_and_bytes) = name.split_once('-').unwrap_or_default();
        let to = parts.sibling(&format!("{}{stream}-part-{number_and_bytes}", parts.name));
        // It may have had to make room meanwhile.
        let Ok(file) = File::open(&path) else { continue };
        match storage.upload(file, &path, &to, Traits { only_new: true, ..TRAITS }, Some(sessions)).await {
            Err(error) if !error.is_status(StatusCode::PRECONDITION_FAILED) => return Err(error),
            _ => {}
        }
        let _ = fs::remove_file(path);
    }
    Ok(())
}
