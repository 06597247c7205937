//! The whole log in Cloud Storage (`logs.upload`): parts go up while the job runs, by a task of their own, which a slow bucket holds up and
//! nothing else; at the end one object a stream is made of them, and once the report is out they are removed. What fails here is told in
//! `uploads`, and changes nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::StatusCode;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{
    Run,
    background::Background,
    log_parts::{LogParts, TRAITS},
};
use crate::{
    google::storage::{Access, Location, MAX_SOURCES, Storage, StorageError, Traits},
    job::Job,
    outcome::Outcome,
    plain_file,
    report::Upload,
};

/// Between two looks for parts that are ready.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After a bucket has failed for good, until it is tried again: rights take minutes to spread.
const FAILURE_PAUSE: Duration = Duration::from_secs(30);
/// How long the end of a job waits for a bucket that does not answer.
const END_PATIENCE: Duration = Duration::from_mins(1);
const SECOND_PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits, for each stream, until one object is made of what is in the bucket.
const UNITE_PATIENCE: Duration = Duration::from_mins(2);
/// How long the agent stays to remove what is no longer needed.
const REMOVE_PATIENCE: Duration = Duration::from_secs(30);

pub(super) const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// Where the logs of one attempt go.
pub(super) struct Destination {
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

    pub(super) fn destination(&self, job: &Job) -> Option<Destination> {
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
            self.log_upload = Some(Background::spawn(async move {
                // How many an earlier agent has sent, nobody knows: the first is a reason to look.
                let mut ungathered = MAX_SOURCES - 1;
                loop {
                    let mut sent = send_parts(&storage, &spool, &destination.parts, &sessions, &mut ungathered).await;
                    if sent.is_ok() && ungathered >= MAX_SOURCES {
                        ungathered = 0;
                        for stream in STREAMS {
                            let parts = LogParts { storage: &storage, prefix: &destination.parts, stream };
                            sent = sent.and(parts.gather().await);
                        }
                    }
                    let pause = match sent {
                        Ok(()) => LOOK_INTERVAL,
                        Err(error) => {
                            warn!("the log is not in the bucket yet: {error}");
                            FAILURE_PAUSE
                        }
                    };
                    sleep(pause).await;
                }
            }));
        }
    }

    /// Uploads what is left of the log, and makes one object a stream of it, as far as the VM's time goes.
    pub(super) async fn finish_log_upload(&mut self, job: &Job, outcome: &mut Outcome) -> Vec<Upload> {
        let (Some(spool), Some(destination)) = (self.spool_dir(job), self.destination(job)) else { return Vec::new() };
        self.logs(job).end();
        self.save_logs();
        let logs = self.logs(job);
        let (bytes, kept_bytes, has_lost) = (logs.bytes_seen(), logs.parts().bytes, !logs.lost().is_none());
        // Made again where an agent died meanwhile: whatever it had read is in it.
        self.record.attempt.logs_composed.clear();
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
            let parts = LogParts { storage: &storage, prefix: &destination.parts, stream };
            let finished = tokio::select! {
                biased;
                finished = self.finish_stream(&spool, &parts, &to) => finished,
                () = end.last_moment() => Err(StorageError::Unfit("the VM's time ran out before it was all there".into())),
            };
            let mut upload =
                Upload { from: stream.into(), to: to.to_string(), files: 1, bytes: bytes[index], error: None };
            match finished {
                Err(error) => {
                    let fix = error.fix(&to.bucket, Access::Write, &storage.account().await);
                    let fix = fix.map(|fix| format!("; {fix}")).unwrap_or_default();
                    (upload.files, upload.bytes) = (0, 0);
                    // One stream has waited for the bucket; the other need not do so again.
                    storage = storage.with_patience(SECOND_PATIENCE);
                    let place = destination.dir.join("parts/");
                    upload.error = Some(format!("{error}{fix}; parts that went up before are below {place}"));
                }
                Ok(there) => {
                    self.record.attempt.logs_composed.push(stream.to_owned());
                    let missing = kept_bytes[index].saturating_sub(there);
                    upload.files = u64::from(there > 0);
                    upload.bytes = bytes[index].saturating_sub(missing);
                    let mut gaps = Vec::new();
                    if missing > 0 {
                        gaps.push(format!("{missing} bytes of it had no place on the VM's disk and are missing"));
                    }
                    if has_lost {
                        gaps.push("part of the job's log was gone before it could be read, and is missing".into());
                    }
                    if let Some(why) = &self.record.attempt.withheld {
                        upload.bytes = there;
                        gaps.push(format!("text of it is withheld, as its secrets could not be masked: {why}"));
                    }
                    upload.error = Some(gaps.join("; ")).filter(|gaps| !gaps.is_empty());
                }
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

    /// How many bytes of it are there in the end.
    async fn finish_stream(&self, spool: &Path, parts: &LogParts<'_>, to: &Location) -> Result<u64, StorageError> {
        send_parts(parts.storage, spool, parts.prefix, &self.sessions_dir(), &mut 0).await?;
        let late = |_| StorageError::Unfit(format!("it was not made one object within {} s", UNITE_PATIENCE.as_secs()));
        timeout(UNITE_PATIENCE, parts.unite(to)).await.map_err(late)?
    }

    /// Removes the parts of those streams that are one object by now. What is not done in time stays.
    pub(super) async fn remove_log_parts(&self, destination: &Destination, composed: &[String]) {
        let storage = self.storage().with_patience(END_PATIENCE);
        let removed = async {
            for stream in STREAMS.into_iter().filter(|stream| composed.iter().any(|composed| composed == stream)) {
                LogParts { storage: &storage, prefix: &destination.parts, stream }.remove_all().await?;
            }
            Ok(())
        };
        let late = |_| StorageError::Unfit("it took too long".into());
        if let Err(error) = timeout(REMOVE_PATIENCE, removed).await.map_err(late).flatten() {
            warn!("parts of the log that are no longer needed stay below {}: {error}", destination.dir.join("parts/"));
        }
    }
}

/// Uploads the parts that are ready, oldest first, removes them, and counts them. One that is there already was sent by an agent that died.
async fn send_parts(
    storage: &Storage,
    spool: &Path,
    parts: &Location,
    sessions: &Path,
    sent: &mut usize,
) -> Result<(), StorageError> {
    let entries = fs::read_dir(spool).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut ready: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "gz")).collect();
    ready.sort();
    for path in ready {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (stream, number_and_bytes) = name.split_once('-').unwrap_or_default();
        let to = parts.sibling(&format!("{}{stream}-part-{number_and_bytes}", parts.name));
        // It may have had to make room meanwhile.
        let Ok(file) = plain_file::open(&path) else { continue };
        match storage.upload(file.into(), &path, &to, Traits { only_new: true, ..TRAITS }, Some(sessions)).await {
            Err(error) if !error.is_status(StatusCode::PRECONDITION_FAILED) => return Err(error),
            _ => {}
        }
        let _ = fs::remove_file(path);
        *sent += 1;
    }
    Ok(())
}
