//! The job's log: from the engine's file, or from an attached stream, to the summary in the report and the live view.
//! Pieces of output come in; counts, head, tail and error lines come out, in memory that does not grow.

mod entry;
mod errors;
mod forward;
mod json_file;
mod stream;
mod summary;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tracing::warn;

pub use self::{entry::decode as decode_entry, stream::OutputStream, summary::LogSummary};
use self::{
    forward::Forward,
    json_file::{JsonFile, Place},
    stream::Attached,
    summary::Summary,
};

/// Hands pieces of output to the summary and the live view.
fn into(summary: &mut Summary, mut forward: Option<&mut Forward>) -> impl FnMut(Stream, &[u8]) {
    move |stream, piece| {
        summary.push(stream, piece);
        if let Some(forward) = &mut forward {
            forward.push(stream, piece);
        }
    }
}

fn lost_file(error: &std::io::Error) -> String {
    format!("failed to read the engine's log file: {error}")
}

/// Which of the job's two streams a piece of output came from. A TTY has only one: stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Where the log is read.
enum Source {
    File(Box<JsonFile>),
    Attached(Attached),
    /// Nowhere yet, or no more: what has come so far is not all.
    Missing,
    /// It has ended: what has come is all there will be.
    Ended,
}

/// What a restarted agent goes on from: the summary and the place in the log it stands for, saved as one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    summary: Summary,
    place: Option<Place>,
}

/// The log being read.
pub struct Logs {
    source: Source,
    /// Where the engine's file is to be read on from.
    place: Option<Place>,
    summary: Summary,
    forward: Option<Forward>,
    /// Whether a source broke off.
    broke_off: bool,
}

impl Logs {
    /// Goes on from `checkpoint`, which may be empty, without a source yet. `forward` repeats the output on stdout.
    pub fn resume(checkpoint: Checkpoint, summary_bytes: usize, forward: bool) -> Self {
        let Checkpoint { mut summary, place } = checkpoint;
        summary.set_budget(summary_bytes);
        Self { source: Source::Missing, place, summary, forward: forward.then(Forward::start), broke_off: false }
    }

    /// Reads the engine's json-file at `path`, on from the checkpoint's place or from its beginning.
    pub fn read_file(&mut self, path: PathBuf) {
        match JsonFile::follow(path, self.place) {
            Ok(file) => self.source = Source::File(Box::new(file)),
            Err(error) => self.give_up(&format!("failed to follow the engine's log file: {error}")),
        }
    }

    /// Reads an attached stream from its beginning.
    pub fn read_attached(&mut self, output: OutputStream) {
        self.source = Source::Attached(Attached::new(output, 0, 0));
    }

    /// Reads a replay of the whole log and takes only what has not been seen.
    pub fn read_replay(&mut self, output: OutputStream) {
        let (stdout, stderr) = self.summary.bytes_seen();
        self.source = Source::Attached(Attached::new(output, stdout, stderr));
    }

    /// Whether a source has to be found, for the first time or because the last one broke off.
    pub fn wants_source(&self) -> bool {
        matches!(self.source, Source::Missing)
    }

    /// Waits for output and takes one helping of it. May be dropped at any time without losing any. Never returns once
    /// the source has ended.
    pub async fn pump(&mut self) {
        let Self { source, summary, forward, .. } = self;
        let mut take = into(summary, forward.as_mut());
        let taken = match source {
            Source::File(file) => file.next(&mut take).await.map_err(|error| Some(lost_file(&error))),
            Source::Attached(attached) => attached.next(&mut take).await,
            Source::Missing | Source::Ended => std::future::pending().await,
        };
        drop(take);
        self.after(taken);
    }

    /// Takes what is left after the job has ended, for at most `patience`.
    pub async fn drain(&mut self, patience: Duration) {
        let drained = tokio::time::timeout(patience, async {
            let Self { source, summary, forward, .. } = &mut *self;
            if let Source::File(file) = source {
                let taken = file.rest(&mut into(summary, forward.as_mut())).await;
                return self.after(taken.map_err(|error| Some(lost_file(&error))));
            }
            while matches!(self.source, Source::Attached(_)) {
                self.pump().await;
            }
        });
        if drained.await.is_err() {
            self.give_up(&format!("the log did not end within {} s of the job", patience.as_secs()));
        }
    }

    fn after(&mut self, taken: Result<(), Option<String>>) {
        match taken {
            Ok(()) => {}
            Err(None) => self.source = Source::Ended,
            Err(Some(problem)) => self.give_up(&problem),
        }
    }

    pub fn checkpoint(&self) -> Checkpoint {
        let place = match &self.source {
            Source::File(file) => Some(file.place()),
            _ => self.place,
        };
        Checkpoint { summary: self.summary.clone(), place }
    }

    /// The summary for the report. Flushes the live view.
    pub fn finish(self) -> LogSummary {
        if let Some(forward) = self.forward {
            forward.finish();
        }
        let lost_some = match &self.source {
            Source::File(file) => file.has_gap(),
            Source::Missing => self.broke_off,
            Source::Attached(_) | Source::Ended => false,
        };
        self.summary.finish(lost_some)
    }

    fn give_up(&mut self, problem: &str) {
        warn!("{problem}; unless it can be read again the report will hold the log up to here");
        self.place = self.checkpoint().place;
        self.source = Source::Missing;
        self.broke_off = true;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The summary of a log with just this on stdout, at the largest budget a job may ask for.
    pub(crate) fn summary_of(log: &[u8]) -> LogSummary {
        let mut summary = Summary::default();
        summary.set_budget(40_960);
        summary.push(Stream::Stdout, log);
        summary.finish(false)
    }
}
