//! The live view: the job's lines on the agent's stdout, for journald, the serial console or a terminal. Bounded: of a flood some
//! lines are shown and its last ones, and a reader that stands still costs lines of the view, and never the job or the agent.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use vmjob_logs::{Stream, Summary, char_boundary};

use crate::{console::REPORT_MARK, gate::plain_line, mask::Masker, threads};

/// Lines are cut here; readers of 64 KiB lines (journald, script runners) never see more.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// How many lines may wait for the reader of stdout.
const MAX_QUEUED_LINES: usize = 256;
/// How many lines a second are shown for long, and how many at once. journald takes 10,000 in half a minute from one service and
/// then drops whatever comes, the agent's own lines too (`RateLimitBurst=` in `journald.conf(5)`).
const LINES: Allowance = Allowance { a_second: 200.0, at_once: 1000.0 };
/// The same in bytes, as journals and consoles are small.
const BYTES: Allowance = Allowance { a_second: 64.0 * 1024.0, at_once: 512.0 * 1024.0 };
/// How much of the end of what was not shown is kept of each stream, to be shown at the end of the job.
const LAST_BYTES: usize = 2 * 1024;
/// How long the end of a job waits for the reader of stdout.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
const FLUSH_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy)]
struct Allowance {
    a_second: f64,
    at_once: f64,
}

pub(super) struct Forward {
    lines: SyncSender<Vec<u8>>,
    done: Receiver<()>,
    /// Of each stream the line that is not finished, as far as it would be shown, and a byte more.
    open: [Vec<u8>; 2],
    lines_left: f64,
    bytes_left: f64,
    refilled_at: Instant,
    /// Whether lines are hidden until there is room for a second's worth of them.
    is_hiding: bool,
    hidden: u64,
    /// The end of what is hidden, of each stream.
    last: [Vec<u8>; 2],
    /// For secrets that show only once controls are taken out of a line.
    masker: Option<Arc<Masker>>,
}

impl Forward {
    /// Starts the thread that writes: stdout may block, and then only it does.
    pub(super) fn start(masker: Option<Arc<Masker>>) -> Self {
        let (lines, queue) = sync_channel::<Vec<u8>>(MAX_QUEUED_LINES);
        let (finished, done) = sync_channel(1);
        threads::spawn(move || {
            for line in queue {
                let mut stdout = io::stdout().lock();
                if stdout.write_all(&line).and_then(|()| stdout.flush()).is_err() {
                    break;
                }
            }
            let _ = finished.send(());
        });
        Self {
            lines,
            done,
            open: Default::default(),
            lines_left: LINES.at_once,
            bytes_left: BYTES.at_once,
            refilled_at: Instant::now(),
            is_hiding: false,
            hidden: 0,
            last: Default::default(),
            masker,
        }
    }

    /// Shows a block of output, or as much of it as may be shown now.
    pub(super) fn push(&mut self, stream: Stream, mut block: &[u8]) {
        self.refill();
        while let Some(end) = memchr::memchr(b'\n', block) {
            if !self.may_show() {
                break;
            }
            let (line, rest) = block.split_at(end + 1);
            self.extend(stream, line);
            let line = std::mem::take(&mut self.open[stream as usize]);
            self.show(stream, &line);
            block = rest;
        }
        if let Some(end) = memchr::memrchr(b'\n', block) {
            let (lines, rest) = block.split_at(end + 1);
            self.hide(stream, lines);
            block = rest;
        }
        self.extend(stream, block);
    }

    fn extend(&mut self, stream: Stream, mut part: &[u8]) {
        let open = &mut self.open[stream as usize];
        if let Some(at) = memchr::memrchr(b'\r', part)
            && !matches!(&part[at + 1..], b"" | b"\n")
            && (self.masker.is_none() || !goes_right(&part[at + 1..]))
        {
            // Of a progress bar the last state is shown.
            open.clear();
            part = &part[at + 1..];
        }
        let room = (MAX_LINE_BYTES + 1).saturating_sub(open.len());
        open.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let passed_s = (now - self.refilled_at).as_secs_f64();
        self.refilled_at = now;
        self.lines_left = (self.lines_left + passed_s * LINES.a_second).min(LINES.at_once);
        self.bytes_left = (self.bytes_left + passed_s * BYTES.a_second).min(BYTES.at_once);
    }

    fn may_show(&mut self) -> bool {
        let (lines, bytes) = if self.is_hiding { (LINES.a_second, BYTES.a_second) } else { (1.0, 0.0) };
        self.is_hiding = self.lines_left < lines || self.bytes_left < bytes;
        !self.is_hiding
    }

    fn show(&mut self, stream: Stream, line: &[u8]) {
        if self.hidden > 0 && self.lines.try_send(note(self.hidden)).is_ok() {
            self.hidden = 0;
            // What the other stream said last may still have to be shown.
            self.last[stream as usize].clear();
        }
        #[expect(clippy::cast_precision_loss, reason = "a line is short")]
        let bytes = line.len() as f64;
        if self.lines.try_send(self.shown(line)).is_ok() {
            self.lines_left -= 1.0;
            self.bytes_left -= bytes;
        } else {
            self.remember(stream, line);
            self.hidden += 1;
            self.is_hiding = true;
        }
    }

    /// A line as it is written: whole, plain, and never like one of the agent's own.
    fn shown(&self, line: &[u8]) -> Vec<u8> {
        // What comes next tells whether a character would be torn.
        let line = &line[..char_boundary(line, MAX_LINE_BYTES)];
        let mut plain = match &self.masker {
            Some(masker) => masked_row(masker, line),
            None => plain_line(line),
        };
        plain.truncate(plain.floor_char_boundary(MAX_LINE_BYTES));
        if plain.starts_with(REPORT_MARK) {
            // A reader of the console must not take the job's word for the agent's.
            plain.insert(0, ' ');
        }
        plain.push('\n');
        plain.into_bytes()
    }

    /// Counts whole lines, and remembers the last.
    fn hide(&mut self, stream: Stream, lines: &[u8]) {
        self.hidden += count_lines(lines);
        let begun = std::mem::take(&mut self.open[stream as usize]);
        self.remember(stream, &begun);
        self.remember(stream, lines);
    }

    fn remember(&mut self, stream: Stream, lines: &[u8]) {
        let last = &mut self.last[stream as usize];
        last.extend_from_slice(&lines[lines.len().saturating_sub(LAST_BYTES)..]);
        if last.len() > LAST_BYTES {
            last.drain(..last.len() - LAST_BYTES);
        }
    }

    /// Shows the last lines and unfinished ones, and waits, briefly, until all has been written.
    pub(super) fn finish(mut self) {
        let end = Instant::now() + FLUSH_PATIENCE;
        let last: Vec<Vec<u8>> = self.last.iter().map(|last| whole_lines(last)).collect();
        let shown_now: u64 = last.iter().map(|last| count_lines(last)).sum();
        if self.hidden > shown_now {
            self.send_until(end, note(self.hidden - shown_now));
        }
        for (last, open) in last.iter().zip(std::mem::take(&mut self.open)) {
            for line in
                last.split_inclusive(|byte| *byte == b'\n').chain(Some(&open[..])).filter(|line| !line.is_empty())
            {
                self.send_until(end, self.shown(line));
            }
        }
        drop(self.lines);
        let _ = self.done.recv_timeout(end.saturating_duration_since(Instant::now()));
    }

    /// Waits for room in the queue.
    fn send_until(&self, end: Instant, mut line: Vec<u8>) {
        while let Err(TrySendError::Full(back)) = self.lines.try_send(line)
            && Instant::now() < end
        {
            line = back;
            thread::sleep(FLUSH_PAUSE);
        }
    }
}

/// Whether the cursor goes right first: what stands there stays.
fn goes_right(line: &[u8]) -> bool {
    let Some(sequence) = line.strip_prefix(b"\x1b[") else { return false };
    let last = sequence.iter().find(|byte| !byte.is_ascii_digit());
    matches!(last, Some(b'C' | b'G' | b'a' | b'`'))
}

/// A line as a terminal shows it, masked: the parts of a secret may be nothing in themselves. One that goes on in the rows above is
/// not shown, as what it makes of them is not known here.
fn masked_row(masker: &Masker, line: &[u8]) -> String {
    let moves = |lasts: &[u8]| {
        memchr::memchr_iter(0x1b, line).any(|at| {
            let sequence = &line[at + 1..];
            let body = sequence.strip_prefix(b"[");
            let last = body.unwrap_or(sequence).iter().find(|byte| !matches!(byte, b'0'..=b'9' | b';'));
            last.is_some_and(|last| lasts.contains(last) && (body.is_some() || b"M78".contains(last)))
        })
    };
    if moves(b"AFHfdM") || (moves(b"8u") && !moves(b"7s")) {
        return "… a line that goes on in those above is not shown here, as the job has secrets …".to_owned();
    }
    if memchr::memchr3(0x1b, b'\r', 0x08, line.strip_suffix(b"\r\n").unwrap_or(line)).is_none() {
        return masker.mask(&plain_line(line));
    }
    let mut row = Summary::default();
    row.set_budget(4 * MAX_LINE_BYTES);
    row.push(Stream::Stdout, line);
    masker.mask(&plain_line(row.finish().end_text().as_bytes()))
}

/// The whole lines of `last`, which begins in the middle of one if it is full.
fn whole_lines(last: &[u8]) -> Vec<u8> {
    let is_cut = last.len() == LAST_BYTES;
    let start = if is_cut { memchr::memchr(b'\n', last).map_or(0, |at| at + 1) } else { 0 };
    last[start..].to_vec()
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

fn note(hidden: u64) -> Vec<u8> {
    format!("… {hidden} lines of the job are not shown here; its log has them …\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_between_characters_however_it_comes() {
        for (begin, block_bytes) in [("", 20_000), ("x", 20_000), ("xx", 1000), ("x", 1), ("xx", MAX_LINE_BYTES)] {
            let text = format!("{begin}{}", "€".repeat(5000));
            let mut forward = Forward::start(None);
            for block in text.as_bytes().chunks(block_bytes) {
                forward.push(Stream::Stdout, block);
            }
            let line = std::mem::take(&mut forward.open[0]);
            let line = forward.shown(&line);
            let line = std::str::from_utf8(&line).unwrap();
            assert!((MAX_LINE_BYTES - 2..=MAX_LINE_BYTES + 1).contains(&line.len()), "{}", line.len());
            assert!(text.starts_with(line.trim_end()) && line.ends_with('\n'));
        }
    }
}
