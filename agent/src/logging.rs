//! The agent's own log: on stderr, as text or JSON lines, filtered by `RUST_LOG`. What a line says passes the gate.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::filter::Targets;

use crate::{
    clock,
    gate::{Gate, printable},
    threads,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging what `filter` lets pass, as it comes through `gate`.
pub fn init(format: LogFormat, filter: Targets, gate: Gate) {
    let has_colours = io::IsTerminal::is_terminal(&io::stderr());
    let lines = Lines { format, filter, has_colours, gate, stderr: Mutex::new(Stderr(None)) };
    // A second start, which no program makes, would change nothing.
    let _ = tracing::subscriber::set_global_default(lines);
}

/// Makes a line of each event. There are no spans, so a registry of them would be for nothing.
struct Lines {
    format: LogFormat,
    filter: Targets,
    has_colours: bool,
    gate: Gate,
    stderr: Mutex<Stderr>,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.would_enable(metadata.target(), metadata.level())
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let (time, level) = (clock::now(), *event.metadata().level());
        let mut fields = Fields { gate: &self.gate, text: String::new(), values: Map::new() };
        let line = match self.format {
            LogFormat::Text => {
                event.record(&mut fields);
                let (dim, colour, plain) =
                    if self.has_colours { ("\x1b[2m", colour(level), "\x1b[0m") } else { ("", "", "") };
                format!("{dim}{time}{plain} {colour}{level:>5}{plain}{}\n", fields.text)
            }
            LogFormat::Json => {
                fields.values.insert("timestamp".into(), time.into());
                fields.values.insert("level".into(), level.as_str().into());
                event.record(&mut fields);
                format!("{}\n", printable(&Value::Object(fields.values).to_string(), ""))
            }
        };
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).write(line.as_bytes());
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// What an event says: the message, and behind it the other fields with their names.
struct Fields<'a> {
    gate: &'a Gate,
    text: String,
    values: Map<String, Value>,
}

impl Fields<'_> {
    fn add(&mut self, field: &Field, value: &str, quote: &str) {
        let (name, value) = (field.name(), self.gate.text(value));
        let shown = printable(&value, "");
        // Writing to a string cannot fail.
        let _ = match (name, quote) {
            ("message", _) => write!(self.text, " {shown}"),
            (name, "") => write!(self.text, " {name}={shown}"),
            (name, quote) => write!(self.text, " {name}={quote}{}{quote}", shown.replace('"', "\\\"")),
        };
        self.values.insert(name.to_owned(), value.into());
    }

    fn add_plain(&mut self, field: &Field, value: Value) {
        // Writing to a string cannot fail.
        let _ = write!(self.text, " {}={value}", field.name());
        self.values.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"), "");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, "\"");
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add_plain(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add_plain(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add_plain(field, value.into());
    }
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

impl Stderr {
    /// Returns when the line is written, so that none is missing at the end of the process; or soon, where nobody reads.
    fn write(&mut self, line: &[u8]) {
        let Queue { lines, written, waiting, is_stuck } = self.0.get_or_insert_with(Queue::start);
        *waiting += usize::from(lines.try_send(line.to_vec()).is_ok());
        while *waiting > 0 {
            *is_stuck = written.recv_timeout(if *is_stuck { Duration::ZERO } else { PATIENCE }).is_err();
            if *is_stuck {
                break;
            }
            *waiting -= 1;
        }
    }
}
