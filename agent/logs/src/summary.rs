//! The summary of a log in constant memory: how much there was, how it began, how it ended, and the lines that look like
//! the reason. Blocks of output go in as they come.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    LogSummary, Lost, Stream,
    ends::Ends,
    errors::{Errors, MAX_LINE_BYTES, count_lines},
    rows::{Row, Rows},
    screen::{Move, Piece, Screen},
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
    /// What was gone before it could be read.
    #[serde(default)]
    lost: Lost,
    /// How many blocks came.
    #[serde(default)]
    blocks: u64,
    /// Masks rows. The checkpoint leaves it out; a restarted agent sets it again.
    #[serde(skip)]
    row_mask: Option<RowMask>,
}

/// Hides what must not be shown in a line that a terminal's cursor has put together: it may come in parts that are nothing in themselves.
#[derive(Clone)]
pub struct RowMask(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl RowMask {
    pub fn new(mask: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(mask))
    }
}

impl fmt::Debug for RowMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowMask")
    }
}

/// One of the two streams.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Channel {
    bytes: u64,
    lines: u64,
    #[serde(default)]
    terminal: Screen,
    /// The last rows, while the cursor moves in them. Without them a line that is whole is passed on at once.
    #[serde(default)]
    rows: Option<Box<Rows>>,
    /// The number of the line that is not finished yet.
    open: Option<u64>,
    /// That line, as it may yet be written over; empty once it is too long for that, or in the rows.
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

impl Summary {
    /// Divides `bytes` among head, error lines and tail. A quarter, a quarter and a half.
    pub fn set_budget(&mut self, bytes: usize) {
        self.ends.head_budget = bytes / 4;
        self.ends.tail_budget = bytes / 2;
        self.errors.set_budget(bytes - self.ends.head_budget - self.ends.tail_budget);
    }

    /// From now on rows are masked as they are passed on.
    pub fn mask_rows(&mut self, mask: Option<RowMask>) {
        self.row_mask = mask;
    }

    /// As it may be kept on disk: rows that are not passed on yet are masked too, but for what may be the beginning of a secret.
    #[must_use]
    pub fn for_disk(&self) -> Self {
        let mut summary = self.clone();
        for row in summary.channels.iter_mut().flat_map(|channel| &mut channel.rows).flat_map(|rows| rows.rows_mut()) {
            // What comes behind tells the masker that nothing is cut off.
            let text = [&row.text, &b"\n"[..]].concat();
            let masked = self.masked(text.clone());
            if masked != text {
                row.text = masked.strip_suffix(b"\n").unwrap_or(&masked).to_vec();
            }
        }
        summary
    }

    /// How many bytes of stdout and of stderr have been taken in.
    pub fn bytes_seen(&self) -> (u64, u64) {
        (self.channels[0].bytes, self.channels[1].bytes)
    }

    /// Counts what was gone before it could be read.
    pub fn add_lost(&mut self, lost: Lost) {
        self.lost.add(lost);
    }

    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    /// All that was gone before it could be read.
    pub fn set_lost(&mut self, lost: Lost) {
        self.lost = lost;
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
    fn show(&mut self, stream: Stream, block: &[u8]) {
        let channel = &mut self.channels[stream as usize];
        channel.bytes = channel.bytes.wrapping_add(block.len() as u64);
        if channel.rows.is_none() && channel.terminal.is_plain(block) {
            return self.push_plain(stream, block);
        }
        self.show_slowly(stream, block);
    }

    #[inline(never)]
    fn show_slowly(&mut self, stream: Stream, mut block: &[u8]) {
        let channel = &mut self.channels[stream as usize];
        let mut terminal = std::mem::take(&mut channel.terminal);
        if channel.rows.is_none() {
            let mut text = Vec::with_capacity(block.len());
            block = &block[terminal.take_coloured(block, &mut text)..];
            self.push_plain(stream, &text);
        }
        while let Some(piece) = terminal.next(&mut block) {
            match piece {
                Piece::Text(text) => self.write(stream, text),
                // Only a mask has to see the whole row.
                Piece::Move(Move::Nothing) if self.row_mask.is_none() => {}
                Piece::Move(moved) => self.move_cursor(stream, moved),
            }
        }
        self.channels[stream as usize].terminal = terminal;
    }

    /// Writes text at the cursor, if there is one.
    fn write(&mut self, stream: Stream, mut text: &[u8]) {
        while !text.is_empty() {
            let channel = &mut self.channels[stream as usize];
            let Some(rows) = &mut channel.rows else { return self.push_plain(stream, text) };
            let number = *channel.open.get_or_insert_with(|| {
                self.lines += 1;
                channel.lines += 1;
                self.lines
            });
            let end = memchr::memchr(b'\n', text);
            let line = &text[..end.unwrap_or(text.len())];
            let is_returned = end.is_some() && line.ends_with(b"\r");
            let line = &line[..line.len() - usize::from(is_returned)];
            let written = rows.write(line, number, self.ends.bytes);
            let mut gone = None;
            if rows.is_long() {
                self.leave_long_row(stream);
                text = &text[written..];
                continue;
            }
            if written < line.len() {
                text = &text[written..];
                continue;
            }
            if end.is_some() {
                gone = rows.feed(if is_returned { "\r\n" } else { "\n" });
                channel.open = None;
            }
            let is_quiet = rows.is_quiet();
            text = &text[end.map_or(text.len(), |end| end + 1)..];
            self.keep(stream, gone);
            if is_quiet {
                self.leave_rows(stream);
            }
        }
    }

    /// Moves a stream's cursor, in rows that are kept from then on.
    fn move_cursor(&mut self, stream: Stream, moved: Move) {
        let channel = &mut self.channels[stream as usize];
        let rows = channel.rows.get_or_insert_with(|| {
            let text = std::mem::take(&mut channel.line);
            let row =
                Row { text, number: channel.open.unwrap_or(self.lines + 1), at: self.ends.bytes, ..Row::default() };
            Box::new(Rows::begin(row))
        });
        let missing = rows.missing(moved);
        if std::mem::take(&mut channel.is_long) {
            // What was passed on of the line stays.
            self.ends.push(b"\n");
        }
        if missing > 0 {
            let back = self.take_back(stream, missing);
            if let Some(rows) = &mut self.channels[stream as usize].rows {
                rows.put_back(back);
            }
        }
        let rows = self.channels[stream as usize].rows.as_mut();
        let gone = rows.map(|rows| rows.apply(moved)).unwrap_or_default();
        self.keep(stream, gone);
    }

    /// Takes back the stream's last lines, as far as nothing of the other stream came between or since.
    fn take_back(&mut self, stream: Stream, most: usize) -> Vec<Row> {
        let since = self.channels[1 - stream as usize].shown_by_then;
        let lines = self.ends.take_back(since, most, MAX_LINE_BYTES);
        let (at, count) = (self.ends.bytes, lines.len() as u64);
        let row = |(line, text): (u64, Vec<u8>)| {
            let number = (self.lines + 1).saturating_sub(count - line).max(1);
            let end = if text.ends_with(b"\r\n") { "\r\n" } else { "\n" };
            let text = text[..text.len() - end.len()].to_vec();
            Row { text, number, at, end: end.into(), is_known: true, ..Row::default() }
        };
        (0..).zip(lines).map(row).collect()
    }

    /// A line that is too long to be written over is passed on as it comes, and the rows before it.
    fn leave_long_row(&mut self, stream: Stream) {
        let channel = &mut self.channels[stream as usize];
        let mut rows = channel.rows.take().map(|rows| rows.into_rows()).unwrap_or_default();
        channel.is_long = true;
        let last = rows.pop().unwrap_or_default();
        self.keep(stream, rows);
        let text = self.masked(last.text);
        self.errors.look_at(stream, last.number, &text, &self.ends.tail);
        self.ends.push(&text);
    }

    /// What is an ordinary log again is treated as one.
    fn leave_rows(&mut self, stream: Stream) {
        let rows = self.channels[stream as usize].rows.take();
        self.keep(stream, rows.map(|rows| rows.into_rows()).unwrap_or_default());
    }

    /// Passes on rows that cannot change any more: each where it was written last, which may be before lines of the other stream.
    fn keep(&mut self, stream: Stream, rows: impl IntoIterator<Item = Row>) {
        let mut at = 0;
        for row in rows {
            let end = if row.end.is_empty() { "\n" } else { &row.end };
            let line = self.masked([row.shown(), end.as_bytes()].concat());
            if !row.is_known {
                self.errors.look_at(stream, row.number, &line, &self.ends.tail);
            }
            at = row.at.max(at);
            at = self.insert(stream, at, &line);
        }
    }

    fn masked(&self, line: Vec<u8>) -> Vec<u8> {
        match &self.row_mask {
            Some(RowMask(mask)) => mask(&String::from_utf8_lossy(&line)).into_bytes(),
            None => line,
        }
    }

    /// Puts in a line of a stream that comes after the first `at` bytes; returns where it ends.
    fn insert(&mut self, stream: Stream, at: u64, line: &[u8]) -> u64 {
        if self.channels[1 - stream as usize].shown_by_then <= at {
            self.ends.push(line);
            return self.ends.bytes;
        }
        let length = line.len() as u64;
        self.ends.insert(at, line);
        for channel in &mut self.channels {
            let rows = channel.rows.iter_mut().flat_map(|rows| rows.rows_mut()).map(|row| &mut row.at);
            for place in rows.chain([&mut channel.shown_by_then]).filter(|place| **place > at) {
                *place += length;
            }
        }
        at + length
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
                    self.errors.look_at(stream, number, &channel.line, &self.ends.tail);
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
            self.errors.look_at(stream, self.lines + 1, lines, &self.ends.tail);
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

    /// The summary of a log that has ended.
    pub fn finish(mut self) -> LogSummary {
        let [stdout, stderr] = [Stream::Stdout, Stream::Stderr];
        let is_last = |summary: &Self, stream| summary.channels[stream as usize].last_block == summary.blocks;
        let order = if is_last(&self, stdout) { [stderr, stdout] } else { [stdout, stderr] };
        // Where it was begun others may have come since: what was written last is last.
        for stream in order {
            let channel = &mut self.channels[stream as usize];
            let at = channel.shown_by_then;
            let mut rows = channel.rows.take().map(|rows| rows.into_rows()).unwrap_or_default();
            if let Some(number) = channel.open
                && !channel.line.is_empty()
            {
                rows.push(Row { text: std::mem::take(&mut channel.line), number, at, ..Row::default() });
            }
            let last = rows.pop_if(|_| is_last(&self, stream));
            self.keep(stream, rows);
            if let Some(last) = last {
                let line = self.masked([last.shown(), last.end.as_bytes()].concat());
                if !last.is_known {
                    self.errors.look_at(stream, last.number, &line, &self.ends.tail);
                }
                self.ends.push(&line);
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
            lost: self.lost,
            uri: None,
            shown_bytes: bytes,
        }
        .with_omitted()
    }
}

#[cfg(test)]
mod tests;
