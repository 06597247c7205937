//! A json-file log as it is read, in helpings of any size: bytes of the file go in, blocks of the job's output come out.

use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::{Loss, Lost, Stream, Take, entry};

/// One read, in bytes: large enough to be cheap, small enough to stay in the processor's cache.
const HELPING_BYTES: usize = 64 * 1024;
/// The engine splits lines at 16 KiB, and JSON escapes make that six times as long at most: what is longer is no entry.
const MAX_ENTRY_BYTES: usize = 1024 * 1024;

/// So much of a helping's end is looked through for the latest time: entries of the two streams may stand in the file in another
/// order than that of their times, a little apart.
const LATEST_BYTES: usize = 1024;

/// So many zeros are found wherever they stand, and fewer where they are not within the text of an entry.
const ZEROS: usize = 128;

/// What was read of the file and is not yet a whole entry, with room for more.
#[derive(Debug, Default)]
pub struct Entries {
    buffer: Vec<u8>,
    filled: usize,
    /// The decoded text of the entries since the last block; kept to be used again.
    text: Vec<u8>,
    /// How many bytes of the file are no entry, and how many of them the line before had.
    damaged_bytes: u64,
    torn_bytes: u64,
    /// How many entries have lost their end, and whether the line before has: how much went after it is unknown.
    torn: u32,
    is_torn: bool,
    /// How many of the job's bytes a full disk refused, as their shim tells.
    refused_bytes: u64,
    progress: Progress,
}

/// How far a log was read, in whatever files: this outlives its reader.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many bytes of the files were whole entries, and how many of the job's they stood for.
    file_bytes: u64,
    text_bytes: u64,
    /// The latest time of an entry that was taken, as the file has it without the `Z`.
    latest: String,
    /// Whether entries that are not later than that are passed over: they were taken before.
    is_passing_over: bool,
}

impl Progress {
    /// The latest time of an entry that was taken, as the log has it; empty where none was.
    pub fn latest(&self) -> &str {
        &self.latest
    }

    /// How many bytes of the job so many of the file stand for, as far as the log tells.
    fn text_bytes_of(&self, file_bytes: u64) -> u64 {
        // Where no entry was whole it may have been one long line.
        let (files, texts) = if self.text_bytes == 0 { (1, 1) } else { (self.file_bytes.max(1), self.text_bytes) };
        let text = u128::from(file_bytes) * u128::from(texts) / u128::from(files);
        u64::try_from(text).unwrap_or(u64::MAX).max(u64::from(file_bytes > 0))
    }
}

impl Entries {
    /// Goes on where another reader of the log was.
    pub fn resume(progress: Progress) -> Self {
        Self { progress, ..Self::default() }
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// From here on the file may have what was taken before: that is passed over by the times in it.
    pub fn pass_over(&mut self) {
        self.progress.is_passing_over = !self.progress.latest.is_empty();
        self.clear();
    }

    /// How many bytes of the file are held that are not yet a whole entry.
    pub fn pending_bytes(&self) -> u64 {
        self.filled as u64
    }

    /// Forgets what is pending.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Room for the next read, which goes on where the pending bytes end.
    pub fn room(&mut self) -> &mut [u8] {
        if self.buffer.len() < self.filled + HELPING_BYTES / 2 {
            self.buffer.resize(self.filled + HELPING_BYTES, 0);
        }
        &mut self.buffer[self.filled..]
    }

    /// Takes in `length` bytes that were read into the room and hands the entries that are whole now to `take`. Returns how many
    /// bytes of the file are done with.
    // Within its caller it would be built for size.
    #[inline(never)]
    pub fn advance(&mut self, length: usize, take: &mut Take) -> u64 {
        let mut text_bytes = 0;
        let mut take = |stream, block: &[u8]| {
            text_bytes += block.len() as u64;
            take(stream, block);
        };
        self.filled += length;
        let read = &self.buffer[..self.filled];
        // An entry has no zeros: the blocks of a file that a power cut kept from the disk do.
        let is_usual = !self.progress.is_passing_over && !read.as_chunks::<ZEROS>().0.iter().any(|bytes| bytes[0] == 0);
        // How many bytes are done with, and how many of them were no entries, or had been taken before.
        let (mut done, mut passed) = (0, 0);
        let mut of = Stream::Stdout;
        while done < read.len() {
            let kept = self.text.len();
            let (stream, length) = if is_usual && let Some(usual) = entry::decode_usual(&read[done..], &mut self.text) {
                usual
            } else {
                self.text.truncate(kept);
                let Some(piece) = entry::piece(&read[done..]) else { break };
                let content = entry::content(piece);
                let mut stream = entry::decode(content, &mut self.text);
                if self.progress.is_passing_over {
                    self.progress.is_passing_over =
                        latest(content).is_none_or(|time| time <= self.progress.latest.as_str());
                    stream = stream.filter(|_| !self.progress.is_passing_over);
                }
                if stream.is_none() {
                    self.text.truncate(kept);
                }
                passed += piece.len() - if stream.is_some() { content.len() } else { 0 };
                if !self.progress.is_passing_over {
                    let is_ended = usize::from(piece.ends_with(b"\n"));
                    let damage = piece.len() - is_ended - if stream.is_some() { content.len() } else { 0 };
                    // A shim whose disk was full writes how much of the job's output that cost, a number on a line of its own. It
                    // covers an entry before it that is torn.
                    let told: Option<u64> = std::str::from_utf8(content).ok().and_then(|line| line.parse().ok());
                    if let Some(refused) = told.filter(|_| stream.is_none()) {
                        self.refused_bytes = self.refused_bytes.saturating_add(refused);
                        self.damaged_bytes = self.damaged_bytes.saturating_sub(self.torn_bytes);
                        self.torn_bytes = 0;
                        self.torn -= u32::from(std::mem::take(&mut self.is_torn));
                    } else {
                        self.damaged_bytes += damage as u64;
                        self.torn_bytes = damage as u64;
                        self.is_torn = stream.is_none() && is_torn(piece);
                        self.torn = self.torn.saturating_add(u32::from(self.is_torn));
                    }
                }
                (stream.unwrap_or(of), piece.len())
            };
            done += length;
            if stream != of {
                if kept > 0 {
                    take(of, &self.text[..kept]);
                    self.text.drain(..kept);
                }
                of = stream;
            }
        }
        if !self.text.is_empty() {
            take(of, &self.text);
            self.text.clear();
        }
        if let Some(latest) = latest(&read[done.saturating_sub(LATEST_BYTES)..done])
            && latest > self.progress.latest.as_str()
        {
            latest.clone_into(&mut self.progress.latest);
        }
        if done == 0 && self.filled > MAX_ENTRY_BYTES {
            self.damaged_bytes += if self.progress.is_passing_over { 0 } else { self.filled as u64 };
            (done, passed) = (self.filled, self.filled);
        }
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
        if self.buffer.len() > 2 * HELPING_BYTES && self.filled < HELPING_BYTES {
            self.buffer.truncate(2 * HELPING_BYTES);
            self.buffer.shrink_to_fit();
        }
        self.progress.file_bytes += (done - passed) as u64;
        self.progress.text_bytes += text_bytes;
        done as u64
    }

    /// What was found to be missing: damaged, or refused by a full disk; and so many bytes of the file more, in that way.
    pub fn lost(&self, file_bytes: u64, how: Loss) -> Lost {
        let mut lost = Lost::bytes(self.refused_bytes, Loss::Refused);
        lost.add(Lost::bytes(self.progress.text_bytes_of(self.damaged_bytes), Loss::Damaged));
        if self.torn > 0 {
            lost.add(Lost::some(Loss::Torn));
        }
        lost.add(Lost::bytes(self.progress.text_bytes_of(file_bytes), how));
        lost
    }

    /// The file has ended: what is pending is never whole.
    pub fn end_file(&mut self) {
        if !self.progress.is_passing_over {
            self.damaged_bytes += self.pending_bytes();
            self.torn_bytes = self.pending_bytes();
            self.is_torn = is_torn(&self.buffer[..self.filled]);
            self.torn = self.torn.saturating_add(u32::from(self.is_torn));
        }
        self.clear();
    }
}

/// Whether a piece that is no entry was one, and was cut off: zeros take up the room of what they are written over.
fn is_torn(piece: &[u8]) -> bool {
    !piece.trim_ascii_end().is_empty() && memchr::memchr(0, piece).is_none()
}

/// The latest time in `entries`, without its `Z`: as text such times have the order of the times.
fn latest(entries: &[u8]) -> Option<&str> {
    times(entries).max()
}

/// The time of the first whole entry.
pub fn first_time(entries: &[u8]) -> Option<&str> {
    times(entries).next()
}

fn times(entries: &[u8]) -> impl Iterator<Item = &str> {
    const TIME: &[u8] = b"\"time\":\"";
    memmem::find_iter(entries, TIME).filter_map(|at| {
        let text = entries[at + TIME.len()..].split(|byte| *byte == b'Z').next()?;
        let is_time =
            text.len() < "2006-01-02T15:04:05.9999999999".len() && text.first().is_some_and(u8::is_ascii_digit);
        str::from_utf8(text).ok().filter(|_| is_time)
    })
}
