//! The live view: the job's lines on the agent's stdout, for journald, the serial console or a terminal. Bounded: a flood,
//! or a reader that stands still, costs lines of the view and never the job or the agent.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::Stream;
use crate::delivery::REPORT_MARK;

/// Lines are cut here; readers of 64 KiB lines (journald, script runners) never see more.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// How many lines may wait for the reader of stdout.
const MAX_QUEUED_LINES: usize = 256;
/// How many lines a second are shown, with as many in reserve.
const LINES_A_SECOND: u32 = 500;
/// How long the end of a job waits for the reader of stdout.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Forward {
    lines: SyncSender<Vec<u8>>,
    done: Receiver<()>,
    open: [Vec<u8>; 2],
    allowance: f64,
    refilled_at: Instant,
    hidden: u64,
}

impl Forward {
    /// Starts the thread that writes: stdout may block, and then only it does.
    pub(super) fn start() -> Self {
        let (lines, queue) = sync_channel::<Vec<u8>>(MAX_QUEUED_LINES);
        let (finished, done) = sync_channel(1);
        thread::spawn(move || {
            for line in queue {
                let mut stdout = io::stdout().lock();
                if stdout.write_all(&line).and_then(|()| stdout.flush()).is_err() {
                    break;
                }
            }
            let _ = finished.send(());
        });
        let allowance = f64::from(LINES_A_SECOND);
        Self { lines, done, open: Default::default(), allowance, refilled_at: Instant::now(), hidden: 0 }
    }

    pub(super) fn push(&mut self, stream: Stream, piece: &[u8]) {
        let index = usize::from(stream == Stream::Stderr);
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let open = &mut self.open[index];
            let room = MAX_LINE_BYTES.saturating_sub(open.len());
            open.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.show(index);
            }
        }
    }

    fn show(&mut self, index: usize) {
        let mut line = std::mem::take(&mut self.open[index]);
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        if line.starts_with(REPORT_MARK.as_bytes()) {
            // A reader of the console must not take the job's word for the agent's.
            line.insert(0, b' ');
        }
        let now = Instant::now();
        let earned = (now - self.refilled_at).as_secs_f64() * f64::from(LINES_A_SECOND);
        self.allowance = (self.allowance + earned).min(f64::from(LINES_A_SECOND));
        self.refilled_at = now;
        if self.allowance < 1.0 {
            self.hidden += 1;
            return;
        }
        if self.hidden > 0 && self.lines.try_send(note(self.hidden)).is_ok() {
            self.hidden = 0;
        }
        self.allowance -= 1.0;
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.hidden += 1;
        }
    }

    /// Shows unfinished lines and waits, briefly, until all has been written.
    pub(super) fn finish(mut self) {
        for index in 0..self.open.len() {
            if !self.open[index].is_empty() {
                self.show(index);
            }
        }
        if self.hidden > 0 {
            let _ = self.lines.try_send(note(self.hidden));
        }
        drop(self.lines);
        let _ = self.done.recv_timeout(FLUSH_PATIENCE);
    }
}

fn note(hidden: u64) -> Vec<u8> {
    format!("… {hidden} lines of the job are not shown here …\n").into_bytes()
}
