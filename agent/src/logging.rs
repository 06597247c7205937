//! The agent's own log: on stderr, as text or JSON lines, filtered by `RUST_LOG`.

use std::{
    io::{self, Write},
    sync::{
        Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{cli::LogFormat, threads};

/// Starts logging what `filter` lets pass.
pub fn init(format: LogFormat, filter: Targets) {
    let to_stderr = fmt::layer().with_writer(Mutex::new(Stderr(None))).with_target(false);
    let layer = match format {
        LogFormat::Text => to_stderr.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        LogFormat::Json => to_stderr.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}

/// How long a line waits for the reader of stderr, and how many wait after that.
const PATIENCE: Duration = Duration::from_secs(1);
const MAX_QUEUED_LINES: usize = 64;

/// Stderr, written to by a thread, which begins with the first line: a journal that stands still costs lines, and never the report.
struct Stderr(Option<Queue>);

struct Queue {
    lines: SyncSender<Vec<u8>>,
    /// For each line once it is written.
    written: Receiver<()>,
    waiting: usize,
    is_stuck: bool,
}

impl Queue {
    fn start() -> Self {
        let (lines, queue) = sync_channel::<Vec<u8>>(MAX_QUEUED_LINES);
        let (done, written) = sync_channel(2 * MAX_QUEUED_LINES);
        threads::spawn(move || {
            for line in queue {
                let _ = io::stderr().write_all(&line);
                let _ = done.try_send(());
            }
        });
        Self { lines, written, waiting: 0, is_stuck: false }
    }
}

impl Write for Stderr {
    /// Returns when the line is written, so that none is missing at the end of the process; or soon, where nobody reads.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Queue { lines, written, waiting, is_stuck } = self.0.get_or_insert_with(Queue::start);
        *waiting += usize::from(lines.try_send(line.to_vec()).is_ok());
        while *waiting > 0 {
            *is_stuck = written.recv_timeout(if *is_stuck { Duration::ZERO } else { PATIENCE }).is_err();
            if *is_stuck {
                break;
            }
            *waiting -= 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
