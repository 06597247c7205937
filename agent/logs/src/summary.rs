//! The summary of a log in constant memory: how much there was, how it began, how it ended, and the lines that look like
//! the reason. Blocks of output go in as they come.

use serde::{Deserialize, Serialize};

use crate::{
    Stream,
    errors::{Errors, MAX_LINE_BYTES, Window, count_lines},
    screen::{Piece, Screen},
    text::Text,
};

/// What is kept while the job runs, and across restarts of the agent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Summary {
    channels: [Channel; 2],
    /// Lines begun so far, both streams together: the numbers that `docker logs | nl` would show.
    lines: u64,
    ends: Ends,
    errors: Errors,
    /// How much was gone before it could be read.
    lost_bytes: u64,
    /// How many blocks came.
    #[serde(default)]
    blocks: u64,
}

/// One of the two streams.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Channel {
    bytes: u64,
    lines: u64,
    screen: Screen,
    /// The number of the line that is not finished yet.
    open: Option<u64>,
    /// That line, as it may yet be written over; empty once it is too long for that.
    #[serde(with = "crate::base64_bytes")]
    line: Vec<u8>,
    /// Whether its beginning was passed on already.
    is_long: bool,
    /// Which block was the stream's last, and how much was shown by then.
    #[serde(default)]
    last_block: u64,
    #[serde(default)]
    shown_by_then: u64,
}

/// Both ends of what is shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Ends {
    head_budget: usize,
    tail_budget: usize,
    bytes: u64,
    #[serde(with = "crate::base64_bytes")]
    head: Vec<u8>,
    /// The last bytes; trimmed when twice as many as wanted, so that each byte is moved at most once.
    #[serde(with = "crate::base64_bytes")]
    tail: Vec<u8>,
}

impl Ends {
    fn push(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        let room = self.head_budget.saturating_sub(self.head.len());
        self.head.extend_from_slice(&text[..text.len().min(room)]);
        self.tail.extend_from_slice(&text[text.len().saturating_sub(self.tail_budget)..]);
        if self.tail.len() >= 2 * self.tail_budget {
            self.tail.drain(..self.tail.len() - self.tail_budget);
        }
    }

    /// Puts in a text that comes after the first `at` bytes.
    fn insert(&mut self, at: u64, text: &[u8]) {
        let place = |length: usize, from: u64| usize::try_from(from).ok().filter(|from| *from <= length);
        if let Some(at) = place(self.head.len(), at) {
            self.head = [&self.head[..at], text, &self.head[at..]].concat();
            self.head.truncate(self.head_budget);
        }
        let length = self.tail.len();
        if let Some(behind) = place(length, self.bytes - at.min(self.bytes)) {
            let (before, after) = self.tail.split_at(length - behind);
            self.tail = [before, text, after].concat();
        }
        self.bytes += text.len() as u64;
    }
}

impl Summary {
    /// Divides `bytes` among head, error lines and tail. A quarter, a quarter and a half.
    pub fn set_budget(&mut self, bytes: usize) {
        self.ends.head_budget = bytes / 4;
        self.ends.tail_budget = bytes / 2;
        self.errors.set_budget(bytes - self.ends.head_budget - self.ends.tail_budget);
    }

    /// How many bytes of stdout and of stderr have been taken in.
    pub fn bytes_seen(&self) -> (u64, u64) {
        (self.channels[0].bytes, self.channels[1].bytes)
    }

    /// Counts what was gone before it could be read.
    pub fn add_lost(&mut self, bytes: u64) {
        self.lost_bytes += bytes;
    }

    /// How many bytes were gone before they could be read.
    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// Of a stream `raw` bytes came, of which `shown` are pushed: secrets are longer than what stands in their place, or shorter.
    pub fn count_masked(&mut self, stream: Stream, raw: usize, shown: usize) {
        let bytes = &mut self.channels[stream as usize].bytes;
        // May be less than nothing until what is counted here has been pushed.
        *bytes = bytes.wrapping_add(raw as u64).wrapping_sub(shown as u64);
    }

    // Within its caller it would be built for size.
    #[inline(never)]
    pub fn push(&mut self, stream: Stream, block: &[u8]) {
        if block.is_empty() {
            return;
        }
        self.show(stream, block);
        self.blocks += 1;
        let channel = &mut self.channels[stream as usize];
        (channel.last_block, channel.shown_by_then) = (self.blocks, self.ends.bytes);
    }

    #[inline]
    fn show(&mut self, stream: Stream, mut block: &[u8]) {
        let channel = &mut self.channels[stream as usize];
        channel.bytes = channel.bytes.wrapping_add(block.len() as u64);
        if channel.screen.is_plain(block) {
            return self.push_plain(stream, block);
        }
        let mut screen = channel.screen;
        while let Some(piece) = screen.next(&mut block) {
            match piece {
                Piece::Plain(text) => self.push_plain(stream, text),
                Piece::Again => {
                    let channel = &mut self.channels[stream as usize];
                    channel.line.clear();
                    channel.is_long = false;
                }
            }
        }
        self.channels[stream as usize].screen = screen;
    }

    /// Takes text as a terminal would show it. Whole lines are passed on at once; one that is not finished is kept until it is.
    fn push_plain(&mut self, stream: Stream, mut text: &[u8]) {
        let channel = &mut self.channels[stream as usize];
        if let Some(number) = channel.open {
            let end = memchr::memchr(b'\n', text).map(|at| at + 1);
            let (rest, after) = text.split_at(end.unwrap_or(text.len()));
            text = after;
            if channel.is_long {
                self.ends.push(rest);
            } else {
                let room = MAX_LINE_BYTES - channel.line.len();
                channel.line.extend_from_slice(&rest[..rest.len().min(room)]);
                if end.is_some() || rest.len() > room {
                    self.errors.look_at(stream, number, &channel.line);
                    self.ends.push(&channel.line);
                    self.ends.push(&rest[rest.len().min(room)..]);
                    channel.line.clear();
                    channel.is_long = true;
                }
            }
            if end.is_none() {
                return;
            }
            channel.open = None;
            channel.is_long = false;
        }
        let whole = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
        let (lines, rest) = text.split_at(whole);
        if whole > 0 {
            let count = count_lines(lines);
            self.errors.look_at(stream, self.lines + 1, lines);
            self.ends.push(lines);
            self.lines += count;
            channel.lines += count;
        }
        if !rest.is_empty() {
            self.lines += 1;
            channel.lines += 1;
            channel.open = Some(self.lines);
            self.push_plain(stream, rest);
        }
    }

    /// The summary of a log that has ended. `lost_some`: part of it was gone before it could be read.
    pub fn finish(mut self, lost_some: bool) -> LogSummary {
        let [stdout, stderr] = [Stream::Stdout, Stream::Stderr];
        let is_last = |summary: &Self, stream| summary.channels[stream as usize].last_block == summary.blocks;
        let order = if is_last(&self, stdout) { [stderr, stdout] } else { [stdout, stderr] };
        // Where it was begun others may have come since: what was written last is last.
        for stream in order {
            let Channel { open: Some(number), line, shown_by_then, .. } = &mut self.channels[stream as usize] else {
                continue;
            };
            let (mut line, number, at) = (std::mem::take(line), *number, *shown_by_then);
            self.errors.look_at(stream, number, &line);
            if is_last(&self, stream) {
                self.ends.push(&line);
            } else if !line.is_empty() {
                line.push(b'\n');
                self.ends.insert(at, &line);
            }
        }
        let Ends { bytes, head, tail, tail_budget, .. } = self.ends;
        let head = Text::beginning(&head, head.len());
        let tail = Text::end(&tail, tail_budget, tail.len() as u64 == bytes);
        let in_head = count_lines(head.text.as_bytes());
        let in_tail = self.lines.saturating_sub(count_lines(tail.text.as_bytes())) + 2;
        let [stdout, stderr] = self.channels;
        LogSummary {
            stdout_bytes: stdout.bytes,
            stderr_bytes: stderr.bytes,
            stdout_lines: stdout.lines,
            stderr_lines: stderr.lines,
            head,
            tail,
            errors: self.errors.into_windows(in_head, in_tail),
            omitted_bytes: 0,
            uri: None,
            shown_bytes: bytes,
            lost_bytes: self.lost_bytes,
            lost_some: lost_some || self.lost_bytes > 0,
        }
        .with_omitted()
    }
}

/// The log as the report shows it. `head` and `tail` are its two ends, both streams together; of a short log they overlap.
/// `omitted_bytes` are in neither, or were gone before they could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub stdout_lines: u64,
    pub stderr_lines: u64,
    head: Text,
    tail: Text,
    errors: Vec<Window>,
    omitted_bytes: u64,
    /// Where the whole of it is.
    pub uri: Option<String>,
    /// What a terminal would show of the log in the end, so without colours and what was written over.
    #[serde(skip)]
    shown_bytes: u64,
    #[serde(skip)]
    lost_bytes: u64,
    /// Part of the log was gone before it could be read: the counts are less than what the job wrote.
    #[serde(skip)]
    pub lost_some: bool,
}

impl LogSummary {
    /// How many bytes the texts take.
    pub fn text_bytes(&self) -> usize {
        let errors: usize = self.errors.iter().map(|error| error.text.len()).sum();
        self.head.text.len() + self.tail.text.len() + errors
    }

    /// The end of the log, as it is shown.
    pub fn end_text(&self) -> &str {
        &self.tail.text
    }

    /// The same log in at most `budget` bytes of text. The end of the log is the last to go.
    #[must_use]
    pub fn within(&self, budget: usize) -> Self {
        if self.text_bytes() <= budget {
            return self.clone();
        }
        let mut left = budget - budget / 2;
        let errors = self.errors.iter().take_while(|error| {
            let fits = error.text.len() <= left / 2;
            left -= if fits { error.text.len() } else { 0 };
            fits
        });
        let errors = errors.cloned().collect();
        let head = Text::beginning(self.head.text.as_bytes(), left.min(budget / 4));
        let tail = Text::end(self.tail.text.as_bytes(), budget / 2, true);
        Self { head, tail, errors, ..self.clone() }.with_omitted()
    }

    /// The same log with none of its text.
    #[must_use]
    pub fn withheld(self) -> Self {
        let omitted_bytes = self.stdout_bytes + self.stderr_bytes + self.lost_bytes;
        Self { head: Text::default(), tail: Text::default(), errors: Vec::new(), omitted_bytes, ..self }
    }

    /// The same log, each text through `mask`: what was apart when it came may have come together since.
    #[must_use]
    pub fn masked(mut self, mask: impl Fn(&str) -> String) -> Self {
        let errors = self.errors.iter_mut().map(|error| &mut error.text);
        for text in [&mut self.head.text, &mut self.tail.text].into_iter().chain(errors) {
            *text = mask(text);
        }
        self
    }

    fn with_omitted(mut self) -> Self {
        let shown = self.head.raw_bytes + self.tail.raw_bytes;
        self.omitted_bytes = self.shown_bytes.saturating_sub(shown) + self.lost_bytes;
        self
    }
}

#[cfg(test)]
mod tests;
