//! A json-file log as it is read, in helpings of any size: bytes of the file go in, blocks of the job's output come out.

use crate::{Stream, Take, entry};

/// One read, in bytes: large enough to be cheap, small enough to stay in the processor's cache.
const HELPING_BYTES: usize = 64 * 1024;
/// The engine splits lines at 16 KiB, and JSON escapes make that six times as long at most: what is longer is no entry.
const MAX_ENTRY_BYTES: usize = 1024 * 1024;

/// What was read of the file and is not yet a whole entry, with room for more.
#[derive(Debug, Default)]
pub struct Entries {
    buffer: Vec<u8>,
    filled: usize,
    /// The decoded text of the entries since the last block; kept to be used again.
    text: Vec<u8>,
    /// How many bytes of entries are missing: passed over as they were no entry, or never written.
    skipped_bytes: u64,
    /// How many bytes of the file are done with, and how many of the job's they stood for.
    file_bytes: u64,
    text_bytes: u64,
}

impl Entries {
    /// How many bytes of the file are held that are not yet a whole entry.
    pub fn pending_bytes(&self) -> u64 {
        self.filled as u64
    }

    /// Forgets what is pending.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// How many bytes of the job so many of the file stand for, as far as this file tells.
    pub fn text_bytes_of(&self, file_bytes: u64) -> u64 {
        let text = u128::from(file_bytes) * u128::from(self.text_bytes) / u128::from(self.file_bytes.max(1));
        u64::try_from(text).unwrap_or(u64::MAX)
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
        let text_bytes = &mut self.text_bytes;
        let mut take = |stream, block: &[u8]| {
            *text_bytes += block.len() as u64;
            take(stream, block);
        };
        self.filled += length;
        let read = &self.buffer[..self.filled];
        let mut done = 0;
        let mut of = Stream::Stdout;
        while done < read.len() {
            let kept = self.text.len();
            let (stream, length) = if let Some(usual) = entry::decode_usual(&read[done..], &mut self.text) {
                usual
            } else {
                self.text.truncate(kept);
                let Some(length) = memchr::memchr(b'\n', &read[done..]) else { break };
                let stream = entry::decode(&read[done..done + length], &mut self.text);
                if stream.is_none() {
                    self.text.truncate(kept);
                    // A shim whose disk was full writes how much that cost, a number on a line of its own.
                    let told = std::str::from_utf8(&read[done..done + length]).ok().and_then(|line| line.parse().ok());
                    self.skipped_bytes = self.skipped_bytes.saturating_add(told.unwrap_or(length as u64));
                }
                (stream.unwrap_or(of), length + 1)
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
        if done == 0 && self.filled > MAX_ENTRY_BYTES {
            self.skipped_bytes += self.filled as u64;
            done = self.filled;
        }
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
        if self.buffer.len() > 2 * HELPING_BYTES && self.filled < HELPING_BYTES {
            self.buffer.truncate(2 * HELPING_BYTES);
            self.buffer.shrink_to_fit();
        }
        self.file_bytes += done as u64;
        done as u64
    }

    /// How many bytes of entries were found to be missing since this was last asked.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped_bytes)
    }
}
