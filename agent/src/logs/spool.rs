//! The whole log on its way to a bucket: parts on disk, as the job wrote them, which [`super::pack`] compresses. Bytes of the two streams
//! go in, and cost the reader a write. A part ends where a checkpoint of the log does, so that a restarted agent goes on without a gap
//! or a repeat: what came after the checkpoint is read again, and its parts begun anew.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::warn;
use vmjob_logs::Stream;

use super::{
    pack::{Packer, is_whole},
    part_file::{Kind, Name, files},
};
use crate::durable;

/// What ends a part: its bytes, or its age. A VM that vanishes has lost no more than a minute, with what it takes to look for the end of
/// a part, to compress it and to upload it.
const MAX_PART_BYTES: u64 = 32 << 20;
const MAX_PART_AGE: Duration = Duration::from_secs(45);
/// So much is kept on disk for a bucket that is slow or away, or until it is compressed, with one part that is being written and one that
/// is being compressed; beyond that the oldest parts go.
const MAX_BYTES: u64 = 256 << 20;

/// What the checkpoint has of the parts, for stdout and stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The number of the last that ended. The streams share them, as they tell which are the oldest.
    ended: u32,
    /// Bytes of the log that came, whether or not there was a place for them.
    pub bytes: [u64; 2],
}

/// The parts in one directory.
pub struct Spool {
    dir: PathBuf,
    parts: Parts,
    open: [Option<Part>; 2],
    packer: Option<Packer>,
    /// Of parts that have ended.
    max_bytes: u64,
    has_lost: bool,
}

struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
    began: Instant,
}

impl Spool {
    /// Goes on from `parts` in `dir`. What was written after them is forgotten: it will come again. The checkpoints are in `checkpoint`.
    pub fn resume(dir: PathBuf, checkpoint: PathBuf, parts: Parts) -> Self {
        for (path, name) in files(&dir, &[Kind::Open, Kind::Cut, Kind::Ready, Kind::Packing, Kind::Packed]) {
            let is_known = name.number <= parts.ended && name.kind != Kind::Open;
            if !is_known || (name.kind == Kind::Packed && !is_whole(&path, name.bytes)) {
                let _ = fs::remove_file(path);
            } else if matches!(name.kind, Kind::Cut | Kind::Packing) {
                let _ = name.turn(&path, Kind::Ready);
            }
        }
        let packer = Some(Packer::start(dir.clone(), checkpoint));
        Self { dir, parts, open: [None, None], packer, max_bytes: MAX_BYTES - 2 * MAX_PART_BYTES, has_lost: false }
    }

    /// A disk that takes no more costs the log, never the job.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let index = usize::from(stream == Stream::Stderr);
        self.parts.bytes[index] += bytes.len() as u64;
        if let Err(error) = self.write(index, bytes) {
            if let Some(part) = self.open[index].take() {
                let _ = fs::remove_file(part.path);
            }
            self.lost_some(&error.to_string());
        }
    }

    fn write(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let part = match &mut self.open[index] {
            Some(part) => part,
            none => none.insert(Part::begin(&self.dir, index, self.parts.ended + 1)?),
        };
        part.bytes += bytes.len() as u64;
        part.file.write_all(bytes)
    }

    /// Whether the open parts are to end now.
    pub(super) fn is_due(&self) -> bool {
        self.open.iter().flatten().any(|part| part.bytes >= MAX_PART_BYTES || part.began.elapsed() >= MAX_PART_AGE)
    }

    /// Ends the open parts: what the next checkpoint stands for is in them and those before.
    pub(super) fn cut(&mut self) {
        let number = self.parts.ended + 1;
        for index in [0, 1] {
            let Some(Part { path, bytes, .. }) = self.open[index].take() else { continue };
            match (Name { index, number, bytes, kind: Kind::Open }).turn(&path, Kind::Cut) {
                Ok(_) => self.parts.ended = number,
                Err(error) => self.lost_some(&error.to_string()),
            }
        }
        self.bound();
    }

    pub(super) fn parts(&self) -> Parts {
        self.parts
    }

    /// The checkpoint is in its file: its parts are ready.
    pub(super) fn commit(&self) {
        for (path, name) in files(&self.dir, &[Kind::Cut]) {
            let _ = name.turn(&path, Kind::Ready);
        }
        if let Some(packer) = &self.packer {
            packer.wake();
        }
    }

    /// Nothing more will come. What is returned ends when all parts are packed that can be; `None` if it was returned before.
    pub(super) fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        self.packer.take().and_then(Packer::end)
    }

    /// The newest tell most of a job that failed. Nothing is counted here: what is missing in the end is what is not in the bucket.
    fn bound(&mut self) {
        let files = files(&self.dir, &[Kind::Cut, Kind::Ready, Kind::Packing, Kind::Packed]);
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let mut total: u64 = files.iter().map(|(path, _)| size(path)).sum();
        for (path, name) in files {
            if total <= self.max_bytes {
                return;
            }
            let bytes = size(&path);
            if name.kind != Kind::Packing && fs::remove_file(&path).is_ok() {
                total -= bytes.min(total);
                self.lost_some("as much as may be kept on disk waits for the bucket, or to be compressed");
            }
        }
    }

    fn lost_some(&mut self, why: &str) {
        if !std::mem::replace(&mut self.has_lost, true) {
            warn!("the log in the bucket will not be whole: {why}");
        }
    }
}

impl Part {
    fn begin(dir: &Path, index: usize, number: u32) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join(Name { index, number, bytes: 0, kind: Kind::Open }.to_string());
        Ok(Self { file: durable::create(&path, b"", 0o600)?, path, bytes: 0, began: Instant::now() })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A directory with a spool's parts, and a file that stands for the checkpoint's.
    struct Stage(PathBuf);

    impl Stage {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("vmjob-spool-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("checkpoint"), "").unwrap();
            Self(dir)
        }

        fn parts(&self) -> PathBuf {
            self.0.join("parts")
        }

        fn resume(&self, parts: Parts) -> Spool {
            Spool::resume(self.parts(), self.0.join("checkpoint"), parts)
        }

        /// What a bucket would have.
        fn unpacked(&self, stream: &str) -> Vec<u8> {
            let mut paths: Vec<_> = files(&self.parts(), &[Kind::Packed]).into_iter().map(|(path, _)| path).collect();
            paths.retain(|path| path.to_string_lossy().contains(stream));
            if paths.is_empty() {
                return Vec::new();
            }
            let output = Command::new("gzip").arg("-dc").args(paths).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        }
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn end(spool: &mut Spool) {
        spool.end().unwrap().blocking_recv().unwrap();
    }

    #[test]
    fn parts_are_the_log_whatever_was_begun_anew() {
        let stage = Stage::new("anew");
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut spool = stage.resume(Parts::default());
        let mut kept = spool.parts();
        for (number, piece) in text.chunks(10_000).enumerate() {
            spool.push(Stream::Stdout, piece);
            spool.push(Stream::Stderr, b"err\n");
            if number % 7 == 3 {
                // An agent that died after the cut, and before or after the checkpoint was on disk.
                let is_known = number % 2 == 0;
                spool.cut();
                if is_known {
                    kept = spool.parts();
                }
                end(&mut spool);
                spool = stage.resume(kept);
                if !is_known {
                    // It reads again from the checkpoint on.
                    let [from, errs] = kept.bytes.map(|bytes| usize::try_from(bytes).unwrap());
                    spool.push(Stream::Stdout, &text[from..(number + 1) * 10_000]);
                    spool.push(Stream::Stderr, &b"err\n".repeat(number + 1)[errs..]);
                }
            } else if number % 7 == 5 {
                spool.cut();
                kept = spool.parts();
                spool.commit();
            }
        }
        spool.cut();
        spool.commit();
        end(&mut spool);
        assert!(stage.unpacked("stdout") == text);
        assert_eq!(stage.unpacked("stderr"), b"err\n".repeat(text.len().div_ceil(10_000)));
        assert_eq!(spool.parts().bytes, [1_200_000, 480]);
        assert!(files(&stage.parts(), &[Kind::Open, Kind::Cut, Kind::Ready, Kind::Packing]).is_empty());
    }

    #[test]
    fn beyond_its_bound_the_oldest_go_and_the_names_of_the_others_tell_what_is_there() {
        let stage = Stage::new("bound");
        let mut spool = stage.resume(Parts::default());
        spool.max_bytes = 100_000;
        for number in 0..50_u8 {
            // Without a checkpoint nothing is packed: as if that took longer than all of it.
            let (stream, piece) = if number % 25 == 24 {
                (Stream::Stderr, vec![number; 1_000])
            } else {
                (Stream::Stdout, vec![number; 10_000])
            };
            spool.push(stream, &piece);
            spool.cut();
            let files = files(&stage.parts(), &[Kind::Cut]);
            let total: u64 = files.iter().map(|(path, _)| path.metadata().unwrap().len()).sum();
            assert!(total <= spool.max_bytes, "{total} bytes are kept");
        }
        assert!(spool.has_lost);
        spool.commit();
        end(&mut spool);
        // A late word on stderr is not older than all of stdout.
        let newest: Vec<u8> = (40..49).flat_map(|number| vec![number; 10_000]).collect();
        assert!(stage.unpacked("stdout") == newest && stage.unpacked("stderr") == [49; 1_000]);
        let there: u64 = files(&stage.parts(), &[Kind::Packed]).iter().map(|(_, name)| name.bytes).sum();
        assert_eq!((there, spool.parts().bytes), (91_000, [480_000, 2_000]));
    }

    #[test]
    fn what_a_power_cut_has_shortened_spoils_nothing_else() {
        let stage = Stage::new("power");
        let mut spool = stage.resume(Parts::default());
        let put = |spool: &mut Spool, text: &str| {
            spool.push(Stream::Stdout, text.as_bytes());
            spool.cut();
        };
        put(&mut spool, "one\n");
        put(&mut spool, "two\n");
        spool.commit();
        end(&mut spool);
        let mut spool = stage.resume(spool.parts());
        put(&mut spool, "three\n");
        put(&mut spool, "four\n");
        end(&mut spool);
        for (stem, bytes) in [("stdout-000001-4.gz", 9), ("stdout-000003-6.cut", 3)] {
            File::options().write(true).open(stage.parts().join(stem)).unwrap().set_len(bytes).unwrap();
        }
        let mut spool = stage.resume(spool.parts());
        end(&mut spool);
        assert_eq!(String::from_utf8(stage.unpacked("stdout")).unwrap(), "two\nthrfour\n");
        let there: u64 = files(&stage.parts(), &[Kind::Packed]).iter().map(|(_, name)| name.bytes).sum();
        assert_eq!((there, spool.parts().bytes), (12, [19, 0]));
    }
}
