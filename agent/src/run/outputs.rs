//! What a job has left, uploaded after it has ended, however it ended: as far as the VM's time goes, of which the report's share
//! stays.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::{info, warn};

use super::Run;
use crate::{
    files::{Entry, Found, JobFiles, Walk},
    google::storage::{Access, Location, Pool, Storage, StorageError, Traits},
    job::{Job, Output, relative},
    outcome::{Cause, Outcome},
    report::Upload,
};

/// The largest error's text in the report.
const MAX_ERROR_BYTES: usize = 600;

/// Where an output stands.
struct Standing {
    upload: Upload,
    is_done: bool,
    /// How many of its files are not there.
    failed: u64,
    /// What the first of them failed of, and what to do about it.
    error: Option<StorageError>,
    fix: Option<String>,
    /// Of links in it that lead to no file: how many, and the first.
    left_out: (u64, PathBuf),
}

/// Takes note of transfers that have ended.
fn settle(
    ended: impl IntoIterator<Item = (usize, Result<u64, StorageError>)>,
    standings: &mut [Standing],
    under_way: &mut [u64],
    is_listed: &[bool],
) {
    for (ended, result) in ended {
        under_way[ended] -= 1;
        standings[ended].take(result);
        standings[ended].is_done = is_listed[ended] && under_way[ended] == 0;
    }
}

/// Why not all was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutShort {
    VmEnds,
    Cancelled,
}

impl CutShort {
    fn sentence(self) -> &'static str {
        match self {
            Self::VmEnds => "the VM's time ran out before it was all uploaded",
            Self::Cancelled => "the upload was cancelled (job-cancel)",
        }
    }
}

impl Run<'_> {
    /// Where the uploads of large files stand.
    pub(super) fn sessions_dir(&self) -> PathBuf {
        self.journal.dir().join("sessions")
    }

    /// Uploads the outputs. One that is required and cannot be had fails a job that had not failed by itself.
    pub(super) async fn put_outputs(&mut self, job: &Job, outcome: &mut Outcome) -> Vec<Upload> {
        if job.outputs.is_empty() {
            return Vec::new();
        }
        let was_begun = std::mem::replace(&mut self.record.attempt.outputs_begun, true);
        if !was_begun {
            self.save_if_possible();
        }
        let mut standings: Vec<Standing> = job.outputs.iter().map(Standing::new).collect();
        let was_stopped = self.record.attempt.stop.is_some();
        let (mut end, mut stop) = (self.notices.clone(), self.notices.clone());
        // The job has ended, so what is stopped is this: by a VM that ends, in its last moment.
        let cancelled = async {
            if was_stopped || stop.stop().await.reason.vm_time_left().is_some() {
                std::future::pending::<()>().await;
            }
        };
        let cut_short = tokio::select! {
            biased;
            () = self.upload_all(job, was_begun, &mut standings) => None,
            () = end.last_moment() => Some(CutShort::VmEnds),
            () = cancelled => Some(CutShort::Cancelled),
        };
        for (standing, output) in standings.iter_mut().zip(&job.outputs) {
            standing.conclude(output, cut_short, outcome);
        }
        standings.into_iter().map(|standing| standing.upload).collect()
    }

    async fn upload_all(&self, job: &Job, was_begun: bool, standings: &mut [Standing]) {
        let room = match self.job_files(job).await {
            Ok(room) => room,
            Err(error) => {
                for (standing, output) in standings.iter_mut().zip(&job.outputs) {
                    standing.failed(StorageError::file(
                        Path::new(&output.from),
                        io::Error::new(error.kind(), error.to_string()),
                    ));
                    standing.is_done = true;
                }
                return;
            }
        };
        let (storage, sessions) = (self.storage_of(room.workers.clone()), self.sessions_dir());
        let mut pool = Pool::new();
        // What was begun for an output, and whether all of it was.
        let mut under_way = vec![0_u64; standings.len()];
        let mut is_listed = vec![false; standings.len()];
        for (index, output) in job.outputs.iter().enumerate() {
            let to = Location::parse(&output.to);
            let (listed, outcomes) = pool.beside(Files::of(&room, output)).await;
            settle(outcomes, standings, &mut under_way, &is_listed);
            let mut files = match listed {
                Ok(files) => files,
                Err(error) => {
                    standings[index].failed(unreadable(&output.from, error));
                    standings[index].is_done = true;
                    continue;
                }
            };
            loop {
                let (next, outcomes) = pool.beside(files.next()).await;
                settle(outcomes, standings, &mut under_way, &is_listed);
                let (path, file) = match next {
                    Some(Ok(found)) => found,
                    Some(Err((path, error))) => {
                        let path = Path::new(&output.from).join(path);
                        standings[index].failed(StorageError::file(&path, error));
                        continue;
                    }
                    None => break,
                };
                let Some(to) = object_name(&to, output, &path) else {
                    let path = Path::new(&output.from).join(path);
                    let what = format!("{} cannot be an object: its name is not UTF-8", path.display());
                    standings[index].failed(StorageError::Unfit(what));
                    continue;
                };
                let path = if path.as_os_str().is_empty() {
                    (&output.from).into()
                } else {
                    Path::new(&output.from).join(path)
                };
                under_way[index] += 1;
                let (storage, sessions) = (&storage, &sessions);
                let transfer = async move { (index, upload_one(storage, file, &path, &to, was_begun, sessions).await) };
                let ended = pool.add(transfer).await;
                settle(ended, standings, &mut under_way, &is_listed);
            }
            is_listed[index] = true;
            let standing = &mut standings[index];
            standing.is_done = under_way[index] == 0;
            standing.left_out = files.left_out;
            if standing.is_done && standing.failed == 0 && standing.upload.files == 0 {
                standing.was_empty(output);
            }
        }
        while let Some(ended) = pool.next().await {
            settle([ended], standings, &mut under_way, &is_listed);
        }
        for (standing, output) in standings.iter_mut().zip(&job.outputs) {
            if let Some(error) = &standing.error
                && standing.fix.is_none()
            {
                let bucket = Location::parse(&output.to).bucket;
                standing.fix = error.fix(&bucket, Access::Write, &storage.account().await);
            }
        }
    }
}

impl Standing {
    fn new(output: &Output) -> Self {
        let upload = Upload { from: output.source(), to: output.to.clone(), files: 0, bytes: 0, error: None };
        Self { upload, is_done: false, failed: 0, error: None, fix: None, left_out: (0, PathBuf::new()) }
    }

    fn take(&mut self, result: Result<u64, StorageError>) {
        match result {
            Ok(bytes) => {
                self.upload.files += 1;
                self.upload.bytes += bytes;
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: StorageError) {
        warn!("{error}");
        self.failed += 1;
        self.error.get_or_insert(error);
    }

    /// It is a directory, which the agent itself may have made for it, without a file.
    fn was_empty(&mut self, output: &Output) {
        let what = if self.left_out.0 == 0 { "nothing" } else { "only links" };
        self.failed(StorageError::Unfit(match &output.wildcard {
            Some(wildcard) => format!("the job has put {what} there that matches {}", wildcard.text()),
            None => format!("the directory is empty: the job has put {what} there"),
        }));
        let from = &self.upload.from;
        self.fix =
            Some(format!("let the job write to {from}, or set `from` to where it writes, or `required` to false"));
    }

    /// Says what became of it, in its entry and, where that matters, in the outcome.
    fn conclude(&mut self, output: &Output, cut_short: Option<CutShort>, outcome: &mut Outcome) {
        let Upload { from, to, files, bytes, .. } = &self.upload;
        if let (links @ 1.., first) = &self.left_out {
            let mut sentence = format!(
                "{links} links in the output {from} lead to no file and are left out; the first is {}",
                first.display()
            );
            sentence.truncate(sentence.floor_char_boundary(MAX_ERROR_BYTES));
            warn!("{sentence}");
            outcome.evidence.push(sentence);
        }
        let mut problem = self.error.as_ref().map(ToString::to_string);
        if let Some(problem) = &mut problem
            && self.failed > 1
        {
            *problem = format!("{problem}; and {} more", self.failed - 1);
        }
        if !self.is_done {
            problem = problem.or(cut_short.map(|cut_short| cut_short.sentence().to_owned()));
        }
        let Some(mut problem) = problem else {
            info!(from, to, files, bytes, "uploaded an output");
            return;
        };
        problem.truncate(problem.floor_char_boundary(MAX_ERROR_BYTES));
        let sentence = format!("the output {from} is not at {to}: {problem}");
        warn!("{sentence}");
        self.upload.error = Some(problem);
        if output.required && outcome.cause == Cause::None {
            let retryable = match &self.error {
                Some(error) => error.is_transient(),
                None => cut_short == Some(CutShort::VmEnds),
            };
            outcome.cause = Cause::OutputFailed { retryable };
            outcome.evidence.push(std::mem::replace(&mut outcome.message, sentence));
            outcome.fix = self.fix.take();
        } else {
            outcome.evidence.push(sentence);
        }
    }
}

/// The files of an output: itself, or all below it.
struct Files<'a> {
    room: &'a JobFiles,
    single: Option<Arc<File>>,
    walk: Option<Walk>,
    left_out: (u64, PathBuf),
}

impl<'a> Files<'a> {
    async fn of(room: &'a JobFiles, output: &Output) -> io::Result<Self> {
        let mut files = Self { room, single: None, walk: None, left_out: (0, PathBuf::new()) };
        let path = relative(&output.from);
        if let Some(wildcard) = &output.wildcard {
            files.walk = Some(room.walk(&path).await?.only(wildcard.clone()));
            return Ok(files);
        }
        match room.look(&path).await? {
            Entry::File(file) => files.single = Some(file),
            Entry::Directory => files.walk = Some(room.walk(&path).await?),
            Entry::Other => return Err(io::Error::other("it is neither a file nor a directory")),
        }
        Ok(files)
    }

    /// The next one, by its path below the output.
    async fn next(&mut self) -> Option<Result<(PathBuf, Arc<File>), (PathBuf, io::Error)>> {
        if let Some(file) = self.single.take() {
            return Some(Ok((PathBuf::new(), file)));
        }
        match self.room.next(self.walk.take()?).await {
            Ok((walk, Some(Found { path, file }))) => {
                self.walk = Some(walk);
                Some(file.map(|file| (path.clone(), file)).map_err(|error| (path, error)))
            }
            Ok((walk, None)) => {
                self.left_out = walk.left_out;
                None
            }
            // What is there besides is not seen: the file system does not answer.
            Err(error) => Some(Err((PathBuf::new(), error))),
        }
    }
}

/// What a file's object is called; `None` where its name is no text.
fn object_name(to: &Location, output: &Output, path: &Path) -> Option<Location> {
    if !path.as_os_str().is_empty() {
        return Some(to.join(path.to_str()?));
    }
    // A single file goes to the name itself, or behind a prefix under its own.
    let name = Path::new(&output.from).file_name()?.to_str()?;
    Some(if to.is_prefix() { to.join(name) } else { to.clone() })
}

async fn upload_one(
    storage: &Storage,
    file: Arc<File>,
    path: &Path,
    to: &Location,
    was_begun: bool,
    sessions: &Path,
) -> Result<u64, StorageError> {
    // An agent that died may have stored it.
    if was_begun && let Some(bytes) = storage.holds(to, &file, path).await {
        return Ok(bytes);
    }
    storage.upload(file, path, to, Traits::default(), Some(sessions)).await
}

fn unreadable(from: &str, error: io::Error) -> StorageError {
    if error.kind() == io::ErrorKind::NotFound {
        return StorageError::Unfit(format!("there is no {from}: the job has not made it"));
    }
    StorageError::file(Path::new(from), error)
}
