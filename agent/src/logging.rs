//! The agent's own log: on stderr, as text or JSON lines, filtered by `RUST_LOG`.

use std::{
    io::{self, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::LogFormat;

/// Starts logging what `filter` lets pass.
pub fn init(format: LogFormat, filter: Targets) {
    let stderr = OnceLock::new();
    let to_stderr = fmt::layer().with_writer(move || stderr.get_or_init(Stderr::start).clone()).with_target(false);
    let layer = match format {
        LogFormat::Text => to_stderr.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        LogFormat::Json => to_stderr.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}

/// How long a line waits for the reader of stderr, and how many wait after that.
const PATIENCE: Duration = Duration::from_secs(1);
const MAX_QUEUED_LINES: usize = 64;

/// Stderr, written to by a thread: a journal that stands still costs lines, and never the report.
#[derive(Clone)]
struct Stderr {
    lines: SyncSender<(Vec<u8>, SyncSender<()>)>,
    is_stuck: Arc<AtomicBool>,
}

impl Stderr {
    fn start() -> Self {
        let (lines, queue) = sync_channel::<(Vec<u8>, SyncSender<()>)>(MAX_QUEUED_LINES);
        let is_stuck = Arc::new(AtomicBool::new(false));
        let goes_on = Arc::clone(&is_stuck);
        thread::spawn(move || {
            for (line, written) in queue {
                let _ = io::stderr().write_all(&line);
                goes_on.store(false, Ordering::Relaxed);
                let _ = written.try_send(());
            }
        });
        Self { lines, is_stuck }
    }
}

impl Write for Stderr {
    /// Returns when the line is written, so that none is missing at the end of the process; or soon, where nobody reads.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (written, wait) = sync_channel(1);
        let is_queued = self.lines.try_send((line.to_vec(), written)).is_ok();
        if is_queued && !self.is_stuck.load(Ordering::Relaxed) && wait.recv_timeout(PATIENCE).is_err() {
            self.is_stuck.store(true, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
