//! The job's log: from the engine's file, or from an attached stream, to the summary in the report and the live view.
//! Pieces of output come in; counts, head, tail and error lines come out, in memory that does not grow.

mod forward;
mod json_file;
mod pack;
mod part_file;
mod rotated;
mod spool;
mod stream;

use std::{path::PathBuf, pin::pin, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::sleep};
use tracing::warn;
pub use vmjob_logs::{LogSummary, Loss, Lost};
use vmjob_logs::{Progress, RowMask, Stream, Summary};

pub use self::spool::{Parts, Spool};
use self::{
    forward::Forward,
    json_file::{JsonFile, Place},
    stream::{Attached, Times},
};
use crate::{
    mask::{MaskPlace, Masks},
    runtime::{OutputStream, Usage},
};

/// Where all output goes, in blocks as they were read, whatever its source.
struct Intake {
    outlets: Outlets,
    /// What hides the job's secrets, if it has any.
    masks: Option<Masks>,
}

impl Intake {
    fn take(&mut self, stream: Stream, block: &[u8]) {
        let Self { outlets, masks } = self;
        let Some(masks) = masks else { return outlets.push(stream, block) };
        let text = masks.push(stream as usize, block);
        outlets.summary.count_masked(stream, block.len(), text.len());
        outlets.push(stream, text);
    }

    /// Takes what the masks have held back.
    fn end(&mut self) {
        let Self { outlets, masks: Some(masks) } = self else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let text = masks.finish(stream as usize);
            outlets.summary.count_masked(stream, 0, text.len());
            outlets.push(stream, text);
        }
    }
}

/// What becomes of it.
struct Outlets {
    summary: Summary,
    /// Keeps it for a bucket.
    spool: Option<Spool>,
    forward: Option<Forward>,
}

impl Outlets {
    fn push(&mut self, stream: Stream, text: &[u8]) {
        self.summary.push(stream, text);
        if let Some(spool) = &mut self.spool {
            spool.push(stream, text);
        }
        if let Some(forward) = &mut self.forward {
            forward.push(stream, text);
        }
    }
}

fn lost_file(error: &std::io::Error) -> String {
    format!("failed to read the engine's log file: {error}")
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
    #[serde(default)]
    progress: Progress,
    #[serde(default)]
    masks: MaskPlace,
    #[serde(default)]
    parts: Parts,
    /// When it came, where there is no place.
    #[serde(default)]
    times: Times,
    /// What the job had used by then: of one that ends while no agent is there nothing more can be measured.
    #[serde(default)]
    pub usage: Usage,
}

impl Checkpoint {
    /// How far the masking has come.
    pub fn mask_place(&self) -> MaskPlace {
        self.masks.clone()
    }

    /// What has come of the parts for a bucket.
    pub fn parts(&self) -> Parts {
        self.parts
    }
}

/// The log being read.
pub struct Logs {
    source: Source,
    /// Where the engine's file is to be read on from.
    place: Option<Place>,
    progress: Progress,
    times: Times,
    intake: Intake,
    /// Whether a source broke off.
    broke_off: bool,
}

impl Logs {
    /// Goes on from `checkpoint`, which may be empty, without a source yet. `forward` repeats the output on stdout. Whatever is shown
    /// or kept goes through `masks`; in `spool` it is kept for a bucket.
    pub fn resume(
        checkpoint: Checkpoint,
        summary_bytes: usize,
        forward: bool,
        masks: Option<Masks>,
        spool: Option<Spool>,
    ) -> Self {
        let Checkpoint { mut summary, place, progress, times, .. } = checkpoint;
        summary.set_budget(summary_bytes);
        let masker = masks.as_ref().and_then(Masks::masker);
        summary.mask_rows(masker.clone().map(|masker| RowMask::new(move |line| masker.mask(line))));
        let forward = forward && masks.as_ref().is_none_or(Masks::shows_text);
        let intake =
            Intake { outlets: Outlets { summary, spool, forward: forward.then(|| Forward::start(masker)) }, masks };
        Self { source: Source::Missing, place, progress, times, intake, broke_off: false }
    }

    /// Reads the engine's json-file at `path`, on from the checkpoint's place or from its beginning.
    pub fn read_file(&mut self, path: PathBuf) {
        match JsonFile::follow(path, self.place, self.progress.clone()) {
            Ok(file) => self.source = Source::File(Box::new(file)),
            Err(error) => self.give_up(&format!("failed to follow the engine's log file: {error}")),
        }
    }

    /// Reads an attached stream from its beginning.
    pub fn read_attached(&mut self, output: OutputStream) {
        self.source = Source::Attached(Attached::new(output));
    }

    /// Reads a replay of the log, as far as the engine still has it, and takes only what has not been seen. `has_times`: whether each
    /// entry begins with its time.
    pub fn read_replay(&mut self, output: OutputStream, has_times: bool) {
        self.leave_source();
        self.source = Source::Attached(Attached::replay(output, has_times, self.bytes_seen(), self.times));
    }

    /// What is known of the log no longer depends on where it was read.
    fn leave_source(&mut self) {
        let Checkpoint { summary, place, progress, times, .. } = self.checkpoint();
        (self.intake.outlets.summary, self.place, self.times) = (summary, place, times);
        self.progress = progress;
        self.source = Source::Missing;
    }

    /// Whether a source has to be found, for the first time or because the last one broke off.
    pub fn wants_source(&self) -> bool {
        matches!(self.source, Source::Missing)
    }

    /// Waits for output and takes one helping of it. May be dropped at any time without losing any. Never returns once
    /// the source has ended.
    pub async fn pump(&mut self) {
        let Self { source, intake, .. } = self;
        let mut take = |stream, block: &[u8]| intake.take(stream, block);
        let taken = match source {
            Source::File(file) => file.next(&mut take).await.map_err(|error| Some(lost_file(&error))),
            Source::Attached(attached) => attached.next(&mut take).await,
            Source::Missing | Source::Ended => std::future::pending().await,
        };
        self.after(taken);
    }

    /// Takes what is left after the job has ended: as long as no two pieces of it are `patience` apart, and until `end`.
    pub async fn drain(&mut self, patience: Duration, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            let problem = tokio::select! {
                biased;
                () = &mut end => "the job's log is too long for the time that is left".to_owned(),
                more = self.more() => if more { continue } else { return },
                () = sleep(patience) => {
                    format!("the job's log did not end, and nothing came of it for {:.1} s", patience.as_secs_f64())
                }
            };
            return self.give_up(&problem);
        }
    }

    /// Takes some of what is left; false when that was all.
    async fn more(&mut self) -> bool {
        let Self { source, intake, .. } = self;
        let mut take = |stream, block: &[u8]| intake.take(stream, block);
        let taken = match source {
            Source::File(file) => match file.more(&mut take).await {
                Ok(more) => return more,
                Err(error) => Err(Some(lost_file(&error))),
            },
            Source::Attached(attached) => attached.next(&mut take).await,
            Source::Missing | Source::Ended => return false,
        };
        self.after(taken);
        matches!(self.source, Source::Attached(_))
    }

    fn after(&mut self, taken: Result<(), Option<String>>) {
        match taken {
            Ok(()) => {}
            Err(None) => {
                self.leave_source();
                self.source = Source::Ended;
            }
            Err(Some(problem)) => self.give_up(&problem),
        }
    }

    pub fn checkpoint(&self) -> Checkpoint {
        let (place, times) = match &self.source {
            Source::File(file) => (Some(file.place()), self.times),
            Source::Attached(attached) => (self.place, attached.times()),
            Source::Missing | Source::Ended => (self.place, self.times),
        };
        let progress = if let Source::File(file) = &self.source { file.progress() } else { &self.progress }.clone();
        let mut summary = self.intake.outlets.summary.for_disk();
        summary.add_lost(self.source_lost());
        let masks = self.intake.masks.as_ref().map(Masks::place).unwrap_or_default();
        Checkpoint { summary, place, progress, masks, parts: self.parts(), times, usage: Usage::default() }
    }

    /// Nothing more will come: what was held back is taken.
    pub fn end(&mut self) {
        self.intake.end();
        if let Source::File(file) = &mut self.source {
            file.end();
        }
    }

    /// Whether a checkpoint is wanted now, for the parts' sake.
    pub fn is_checkpoint_due(&self) -> bool {
        self.intake.outlets.spool.as_ref().is_some_and(Spool::is_due)
    }

    /// Before a checkpoint is taken: the parts end where it does.
    pub fn cut(&mut self) {
        if let Some(spool) = &mut self.intake.outlets.spool {
            spool.cut();
        }
    }

    /// The checkpoint is on disk.
    pub fn commit(&self) {
        if let Some(spool) = &self.intake.outlets.spool {
            spool.commit();
        }
    }

    /// The next agent goes on from here: what this one has taken is shown first.
    pub fn hand_over(&mut self) {
        if let Some(forward) = self.intake.outlets.forward.take() {
            forward.finish();
        }
    }

    /// The log has been read: shows the rest of it. To be called after the last checkpoint.
    pub fn end_view(&mut self) {
        self.end();
        self.hand_over();
    }

    /// Of stdout and of stderr, so far.
    pub fn bytes_seen(&self) -> [u64; 2] {
        self.intake.outlets.summary.bytes_seen().into()
    }

    /// Nothing more will come: what is returned ends when all parts are packed that can be.
    pub fn end_parts(&mut self) -> Option<oneshot::Receiver<()>> {
        self.intake.outlets.spool.as_mut().and_then(Spool::end)
    }

    pub fn parts(&self) -> Parts {
        self.intake.outlets.spool.as_ref().map(Spool::parts).unwrap_or_default()
    }

    /// What was gone before it could be read, as far as is known by now.
    pub fn lost(&self) -> Lost {
        let mut lost = self.intake.outlets.summary.lost().clone();
        lost.add(self.source_lost());
        // The end of what was read is not the end of the log.
        if matches!(self.source, Source::Missing) && self.broke_off {
            lost.add(Lost::some(Loss::Unread));
        }
        lost
    }

    /// What was gone before this reader came to it.
    fn source_lost(&self) -> Lost {
        match &self.source {
            Source::File(file) => file.lost(),
            Source::Attached(attached) => attached.lost(),
            Source::Missing | Source::Ended => Lost::default(),
        }
    }

    /// The summary for the report. Flushes the live view.
    pub fn finish(mut self) -> LogSummary {
        self.end();
        let lost = self.lost();
        let Outlets { mut summary, forward, .. } = self.intake.outlets;
        if let Some(forward) = forward {
            forward.finish();
        }
        summary.set_lost(lost);
        summary.finish()
    }

    fn give_up(&mut self, problem: &str) {
        warn!("{problem}; unless it can be read again the report will hold the log up to here");
        self.leave_source();
        self.broke_off = true;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use bollard::container::LogOutput;

    use super::*;
    use crate::mask::Masker;

    /// The summary of a log with just this on stdout, at the largest budget a job may ask for.
    pub(crate) fn summary_of(log: &[u8]) -> LogSummary {
        let mut summary = Summary::default();
        summary.set_budget(40_960);
        summary.push(Stream::Stdout, log);
        summary.finish()
    }

    #[tokio::test]
    async fn the_end_of_a_log_is_waited_for_as_long_as_it_comes() {
        const PAUSE: Duration = Duration::from_millis(20);
        const PATIENCE: Duration = Duration::from_millis(100);
        // How many pieces come, a pause between any two, and what then: the end, or nothing. How many pauses there are for all.
        let cases = [(20, true, 1000, false), (3, false, 1000, true), (1000, true, 10, true)];
        for (pieces, ends, pauses, lost_some) in cases {
            let piece = move |number: u64| async move {
                match number {
                    0 => {}
                    number if number == pieces && !ends => std::future::pending().await,
                    _ => sleep(PAUSE).await,
                }
                (number < pieces).then(|| (Ok(LogOutput::StdOut { message: "piece\n".into() }), number + 1))
            };
            let mut logs = Logs::resume(Checkpoint::default(), 4096, false, None, None);
            logs.read_attached(Box::pin(futures_util::stream::unfold(0, piece)));
            logs.drain(PATIENCE, sleep(PAUSE * pauses)).await;
            let summary = logs.finish();
            assert_eq!(summary.lost().count().is_none(), lost_some, "{pieces} pieces");
            assert!(summary.stdout_lines == pieces || (pieces > 20 && summary.stdout_lines < pieces), "{summary:?}");
        }
    }

    #[test]
    fn a_masked_log_is_counted_as_the_job_wrote_it_across_restarts() {
        let masker = Arc::new(Masker::new(["a secret", "two\nlines of it", "long ".repeat(100).as_str()]));
        let log = format!("1 a secret\n2 two\nlines of it\n{}\n5 a sec", "long ".repeat(100));
        for size in [1, 3, 7, 1000] {
            let mut checkpoint = Checkpoint::default();
            for piece in log.as_bytes().chunks(size) {
                let masks = Masks::new(Some(masker.clone()), checkpoint.mask_place());
                let mut logs = Logs::resume(checkpoint, 4096, false, Some(masks), None);
                logs.intake.take(Stream::Stdout, piece);
                let saved = serde_json::to_string(&logs.checkpoint()).unwrap();
                checkpoint = serde_json::from_str(&saved).unwrap();
            }
            let masks = Masks::new(Some(masker.clone()), checkpoint.mask_place());
            let summary = Logs::resume(checkpoint, 4096, false, Some(masks), None).finish();
            assert_eq!((summary.stdout_bytes, summary.stdout_lines), (log.len() as u64, 5), "pieces of {size}");
            let shown = serde_json::to_value(&summary).unwrap();
            assert_eq!((&shown["tail"], &shown["omitted_bytes"]), (&"1 ***\n2 ***\n***\n***\n5 ***".into(), &0.into()));
        }
    }
}
