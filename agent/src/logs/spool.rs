//! The whole log on its way to a bucket: compressed as it comes, in parts on disk, each a gzip member of its own, so that parts put
//! together are the log. Bytes of the two streams go in. A part ends where a checkpoint of the log does, so that a restarted agent
//! goes on without a gap or a repeat: what came after the checkpoint is read again, and its parts begun anew.
//! Source: RFC 1951, RFC 1952.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use serde::{Deserialize, Serialize};

use crate::crc::Crc32;
use vmjob_logs::Stream;

/// Packed bytes of a part, or its age, that end it: a VM that vanishes has lost no more.
const MAX_PART_BYTES: u64 = 8 << 20;
const MAX_PART_AGE: Duration = Duration::from_secs(50);
/// Of a bucket that is slow or away as much is kept on disk; beyond that the oldest parts go.
const MAX_SPOOL_BYTES: u64 = 256 << 20;
/// Fast: it is to keep up with any job.
const LEVEL: i32 = 1;
/// Without zlib's header.
const RAW_WINDOW_BITS: i32 = -15;
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Where a part's file stands: being written; ended, before its checkpoint is on disk; to be uploaded.
const OPEN: &str = "open";
const CUT: &str = "cut";
const READY: &str = "gz";

/// What the checkpoint has of the parts, for stdout and stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Those that have ended.
    ended: [u32; 2],
    /// Bytes of the log that are in none of them.
    pub dropped: [u64; 2],
}

pub(super) struct Spool {
    dir: PathBuf,
    parts: Parts,
    open: [Option<Part>; 2],
}

struct Part {
    path: PathBuf,
    file: File,
    compressor: Box<CompressorOxide>,
    crc: Crc32,
    bytes: u64,
    packed_bytes: u64,
    began: Instant,
}

impl Spool {
    /// Goes on from `parts` in `dir`. What was written after them is forgotten: it will come again.
    pub(super) fn resume(dir: PathBuf, parts: Parts) -> Self {
        let spool = Self { dir, parts, open: [None, None] };
        for (path, name) in spool.files(&[OPEN, CUT, READY]) {
            let is_known = name.number <= parts.ended[name.index] && name.kind != OPEN;
            if !is_known {
                let _ = fs::remove_file(path);
            } else if name.kind == CUT {
                let _ = fs::rename(&path, path.with_extension(READY));
            }
        }
        spool
    }

    /// A disk that takes no more costs the log, never the job.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let index = usize::from(stream == Stream::Stderr);
        if self.open[index].is_none() {
            let path = self.dir.join(format!("{}-{:06}.{OPEN}", NAMES[index], self.parts.ended[index] + 1));
            self.open[index] = Part::begin(path).ok();
        }
        if let Some(part) = &mut self.open[index]
            && part.push(bytes, TDEFLFlush::None).is_err()
        {
            self.parts.dropped[index] += part.bytes;
            let _ = fs::remove_file(&part.path);
            self.open[index] = None;
        } else if self.open[index].is_none() {
            self.parts.dropped[index] += bytes.len() as u64;
        }
    }

    /// Whether the open parts are to end now.
    pub(super) fn is_due(&self) -> bool {
        self.open
            .iter()
            .flatten()
            .any(|part| part.packed_bytes >= MAX_PART_BYTES || part.began.elapsed() >= MAX_PART_AGE)
    }

    /// Ends the open parts: what the next checkpoint stands for is in them and those before.
    pub(super) fn cut(&mut self) {
        for (index, stream) in NAMES.into_iter().enumerate() {
            let Some(part) = self.open[index].take() else { continue };
            let (path, bytes) = (part.path.clone(), part.bytes);
            let number = self.parts.ended[index] + 1;
            let name = format!("{stream}-{number:06}-{bytes}.{CUT}");
            if part.end().and_then(|()| fs::rename(&path, self.dir.join(name))).is_ok() {
                self.parts.ended[index] = number;
            } else {
                let _ = fs::remove_file(&path);
                self.parts.dropped[index] += bytes;
            }
        }
        self.bound();
    }

    pub(super) fn parts(&self) -> Parts {
        self.parts
    }

    /// The checkpoint is on disk: its parts may be uploaded.
    pub(super) fn commit(&self) {
        for (path, _) in self.files(&[CUT]) {
            let _ = fs::rename(&path, path.with_extension(READY));
        }
    }

    /// The newest tell most of a job that failed.
    fn bound(&mut self) {
        let files = self.files(&[CUT, READY]);
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let mut total: u64 = files.iter().map(|(path, _)| size(path)).sum();
        for (path, name) in files {
            if total <= MAX_SPOOL_BYTES {
                return;
            }
            total -= size(&path).min(total);
            if fs::remove_file(&path).is_ok() {
                self.parts.dropped[name.index] += name.bytes;
            }
        }
    }

    /// Oldest first.
    fn files(&self, kinds: &[&str]) -> Vec<(PathBuf, Name)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut files: Vec<(PathBuf, Name)> =
            entries.filter_map(|entry| Some((entry.path(), Name::of(&entry.path(), kinds)?))).collect();
        files.sort_by_key(|(_, name)| name.number);
        files
    }
}

const NAMES: [&str; 2] = ["stdout", "stderr"];

/// `STREAM-NUMBER-BYTES.KIND`
struct Name {
    index: usize,
    number: u32,
    bytes: u64,
    kind: String,
}

impl Name {
    fn of(path: &Path, kinds: &[&str]) -> Option<Self> {
        let kind = path.extension()?.to_str()?.to_owned();
        let mut words = path.file_stem()?.to_str()?.split('-');
        let stream = words.next()?;
        let index = NAMES.iter().position(|name| *name == stream)?;
        let number = words.next()?.parse().ok()?;
        let bytes = words.next().map_or(Some(0), |bytes| bytes.parse().ok())?;
        kinds.contains(&&*kind).then_some(Self { index, number, bytes, kind })
    }
}

impl Part {
    fn begin(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(Path::new("/")))?;
        let mut file = File::create(&path)?;
        file.write_all(&GZIP_HEADER)?;
        let compressor = CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, RAW_WINDOW_BITS, 0));
        let began = Instant::now();
        Ok(Self {
            path,
            file,
            compressor: Box::new(compressor),
            crc: Crc32::default(),
            bytes: 0,
            packed_bytes: 0,
            began,
        })
    }

    fn push(&mut self, bytes: &[u8], flush: TDEFLFlush) -> io::Result<()> {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        let (file, packed_bytes) = (&mut self.file, &mut self.packed_bytes);
        let mut written = Ok(());
        let (status, _) = compress_to_output(&mut self.compressor, bytes, flush, |packed| {
            *packed_bytes += packed.len() as u64;
            written = file.write_all(packed);
            written.is_ok()
        });
        written?;
        match status {
            TDEFLStatus::Okay | TDEFLStatus::Done => Ok(()),
            _ => Err(io::Error::other("the log cannot be compressed")),
        }
    }

    fn end(mut self) -> io::Result<()> {
        self.push(&[], TDEFLFlush::Finish)?;
        self.file.write_all(&self.crc.value().to_le_bytes())?;
        // Modulo 2³², as gzip wants it.
        let [a, b, c, d, ..] = self.bytes.to_le_bytes();
        self.file.write_all(&[a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn unpacked(dir: &Path, stream: &str) -> Vec<u8> {
        let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| {
            path.to_string_lossy().contains(stream) && path.extension().is_some_and(|kind| kind == READY)
        });
        if paths.is_empty() {
            return Vec::new();
        }
        paths.sort();
        let output = Command::new("gzip").arg("-dc").args(paths).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn parts_are_the_log_whatever_was_begun_anew() {
        let dir = std::env::temp_dir().join(format!("vmjob-spool-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut spool = Spool::resume(dir.clone(), Parts::default());
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
                spool = Spool::resume(dir.clone(), kept);
                if !is_known {
                    // It reads again from the checkpoint on.
                    let from = unpacked(&dir, "stdout").len();
                    let errs = unpacked(&dir, "stderr").len();
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
        assert!(unpacked(&dir, "stdout") == text);
        assert_eq!(unpacked(&dir, "stderr"), b"err\n".repeat(text.len().div_ceil(10_000)));
        assert_eq!(spool.parts().dropped, [0, 0]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
