//! An attached or replayed output stream, as pieces of the job's bytes.

use std::{future::poll_fn, time::Duration};

use bollard::container::LogOutput;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::coop::has_budget_remaining;
use tracing::warn;
use vmjob_logs::{Loss, Lost, Stream, Take};

use crate::{http::chain, runtime::OutputStream};

/// A job's first output is here before the engine has given it a time, or not much later.
const LATENESS: Duration = Duration::from_millis(50);
/// After so long a silence nothing is on its way from the engine.
const SILENCE: Duration = Duration::from_secs(1);
/// Of a line without an end an engine makes an entry, and gives it a time, once it is so long. Source: moby `daemon/logger/copier.go`.
const LONGEST_ENTRY_BYTES: usize = 16 << 10;

/// When output came, in nanoseconds since 1970: by the engine's clock where it says so, else by the agent's, which is the same VM's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times {
    /// Of what the engine has made an entry of: the beginning of a line has its end's time.
    first: Option<i64>,
    last: Option<i64>,
    /// Whether more up to the last may have been on its way.
    #[serde(default)]
    is_unsure: bool,
}

impl Times {
    fn note(&mut self, at: i64, is_entry: bool) {
        self.first = self.first.or(is_entry.then_some(at));
        self.last = self.last.max(Some(at));
    }
}

/// What of a replay was seen before.
enum Seen {
    /// So many bytes of stdout and of stderr, from the log's beginning.
    Bytes([u64; 2]),
    /// What came up to this time: the engine no longer has the beginning.
    Until(i64),
}

/// A stream, and what of it is to be passed over.
pub(super) struct Attached {
    output: OutputStream,
    /// Whether each piece begins with its time.
    has_times: bool,
    seen: Seen,
    times: Times,
    /// When all that had come was taken.
    idle_at: Option<i64>,
    /// Whether a piece of it has come.
    has_begun: bool,
    /// How much of a line has come without its end, of stdout and of stderr.
    open_bytes: [usize; 2],
    lost: Lost,
}

impl Attached {
    /// What comes from now on.
    pub(super) fn new(output: OutputStream) -> Self {
        Self::replay(output, false, [0, 0], Times::default())
    }

    /// The log from its beginning, or from where the engine has it; `seen_bytes` of it, at these `times`, have come before. With `has_times`
    /// each of its pieces is an entry of the log that begins with its time.
    pub(super) fn replay(output: OutputStream, has_times: bool, seen_bytes: [u64; 2], times: Times) -> Self {
        Self {
            output,
            has_times,
            seen: Seen::Bytes(seen_bytes),
            times,
            idle_at: None,
            has_begun: false,
            open_bytes: [0; 2],
            lost: Lost::default(),
        }
    }

    /// When it came. Without times of its own, what was not taken was given a time after all had been taken that had come.
    pub(super) fn times(&self) -> Times {
        let Times { first, last, .. } = self.times;
        match (last, self.idle_at) {
            (Some(last), Some(idle_at)) if !self.has_times => {
                Times { first, last: Some(last.max(idle_at)), is_unsure: idle_at - last < nanoseconds(SILENCE) }
            }
            _ => self.times,
        }
    }

    /// What the engine no longer had.
    pub(super) fn lost(&self) -> Lost {
        self.lost.clone()
    }

    /// Waits for one piece. An error is the end, with what is wrong if it was no proper one; a proper one says nothing about
    /// the job: a restart of the engine ends the stream too.
    pub(super) async fn next(&mut self, take: &mut Take<'_>) -> Result<(), Option<String>> {
        let Self { output, idle_at, .. } = self;
        let piece = poll_fn(|context| {
            let piece = output.poll_next_unpin(context);
            // A task that has done much is told to wait though there is more.
            if piece.is_pending() && has_budget_remaining() {
                *idle_at = now();
            }
            piece
        });
        let piece = match piece.await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(Some(format!("the log stream broke off: {}", chain(&error)))),
            None => {
                return Err(match self.seen {
                    Seen::Bytes([0, 0]) | Seen::Until(_) => None,
                    Seen::Bytes([stdout, stderr]) => Some(format!(
                        "the engine's log ends {} bytes before what was seen of it: it no longer has all",
                        stdout + stderr
                    )),
                });
            }
        };
        let stream = match &piece {
            LogOutput::StdErr { .. } => Stream::Stderr,
            _ => Stream::Stdout,
        };
        let (at, text) = if self.has_times { split_time(piece.as_ref()) } else { (None, piece.as_ref()) };
        let unseen = self.pass_over(stream, at, text);
        if !unseen.is_empty() {
            take(stream, unseen);
        }
        self.has_begun = true;
        Ok(())
    }

    /// What of a piece was not seen before.
    fn pass_over<'a>(&mut self, stream: Stream, at: Option<i64>, text: &'a [u8]) -> &'a [u8] {
        let Times { first, last, is_unsure } = self.times;
        if let (false, Some(at), Some(first), Some(last)) = (self.has_begun, at, first, last)
            && at - first > nanoseconds(LATENESS)
            // A time that is still to come says that the clock was set back, and nothing of the log.
            && now().is_none_or(|now| at <= now)
        {
            warn!(
                "the engine no longer has the log's beginning: it is read on from what came last, by the times in it"
            );
            self.seen = Seen::Until(last);
            // How much was between is unknown.
            if is_unsure || at > last {
                self.lost.add(Lost::some(Loss::Gone));
            }
        }
        match &mut self.seen {
            Seen::Until(last) if at.is_some_and(|at| at <= *last) => &[],
            Seen::Until(_) => {
                self.note(stream, at, text);
                text
            }
            Seen::Bytes(left) => {
                let left = &mut left[stream as usize];
                let seen = usize::try_from(*left).unwrap_or(usize::MAX).min(text.len());
                *left -= seen as u64;
                let unseen = &text[seen..];
                if !unseen.is_empty() {
                    self.note(stream, at, unseen);
                }
                unseen
            }
        }
    }

    fn note(&mut self, stream: Stream, at: Option<i64>, text: &[u8]) {
        let open_bytes = &mut self.open_bytes[stream as usize];
        *open_bytes = open_bytes.saturating_add(text.len());
        let is_entry = self.has_times || text.contains(&b'\n') || *open_bytes >= LONGEST_ENTRY_BYTES;
        self.times.is_unsure = at.is_none();
        if let Some(at) = at.or_else(now) {
            self.times.note(at, is_entry);
        }
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn now() -> Option<i64> {
    i64::try_from(Timestamp::now().as_nanosecond()).ok()
}

/// An entry's time, which stands before its text. Source: moby `api/server/httputils/write_log_stream.go`, Podman
/// `pkg/api/handlers/compat/containers_logs.go`.
fn split_time(entry: &[u8]) -> (Option<i64>, &[u8]) {
    const LONGEST: usize = "2006-01-02T15:04:05.000000000+00:00 ".len();
    let time = memchr::memchr(b' ', &entry[..entry.len().min(LONGEST)]).and_then(|end| {
        let at: Timestamp = str::from_utf8(&entry[..end]).ok()?.parse().ok()?;
        Some((i64::try_from(at.as_nanosecond()).ok()?, &entry[end + 1..]))
    });
    time.map_or((None, entry), |(at, text)| (Some(at), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of an engine's log, `N` at second N, of those from `oldest` on.
    fn entries(oldest: u32, count: u32) -> OutputStream {
        let entries = (oldest..=count).map(|number| {
            let message = format!("2026-11-24T04:00:{number:02}.000000000Z line {number}\n").into();
            Ok(if number % 2 == 0 { LogOutput::StdErr { message } } else { LogOutput::StdOut { message } })
        });
        Box::pin(futures_util::stream::iter(entries.collect::<Vec<_>>()))
    }

    async fn read(attached: &mut Attached) -> (String, Option<String>) {
        let mut text = Vec::new();
        loop {
            if let Err(end) = attached.next(&mut |_, piece| text.extend_from_slice(piece)).await {
                return (String::from_utf8(text).unwrap(), end);
            }
        }
    }

    fn lines(numbers: std::ops::RangeInclusive<u32>) -> String {
        numbers.fold(String::new(), |lines, number| format!("{lines}line {number}\n"))
    }

    #[tokio::test]
    async fn a_replay_goes_on_where_reading_was_whatever_the_engine_still_has() {
        let mut first = Attached::replay(entries(1, 5), true, [0, 0], Times::default());
        assert_eq!(read(&mut first).await, (lines(1..=5), None));
        let (seen, times) = ([21, 14], first.times());
        for (oldest, read_on, lost) in [(1, 6..=20, false), (3, 6..=20, false), (6, 6..=20, true), (9, 9..=20, true)] {
            let mut again = Attached::replay(entries(oldest, 20), true, seen, times);
            assert_eq!(read(&mut again).await, (lines(read_on), None), "from {oldest} on");
            assert_eq!(!again.lost().is_none(), lost, "from {oldest} on");
        }
        // And the same of that one.
        let mut again = Attached::replay(entries(4, 9), true, seen, times);
        read(&mut again).await;
        let mut third = Attached::replay(entries(7, 12), true, [35, 28], again.times());
        assert_eq!(read(&mut third).await, (lines(10..=12), None));
        assert!(third.lost().is_none());
    }

    /// The engine gives it the time at which its line was whole, or its job had ended.
    #[tokio::test]
    async fn a_line_whose_end_was_not_seen_is_not_taken_for_a_log_without_its_beginning() {
        let message = |text: &str| Ok(LogOutput::StdOut { message: text.to_owned().into() });
        let pieces = |pieces: Vec<&str>| -> OutputStream {
            Box::pin(futures_util::stream::iter(pieces.into_iter().map(message).collect::<Vec<_>>()))
        };
        let mut attached = Attached::new(pieces(vec!["half "]));
        attached.next(&mut |_, _| {}).await.unwrap();
        let times = attached.times();
        tokio::time::sleep(LATENESS * 2).await;
        let line = format!("{} half a line\n", Timestamp::now());
        let mut again = Attached::replay(pieces(vec![&line]), true, [5, 0], times);
        assert_eq!(read(&mut again).await, ("a line\n".into(), None));
        assert!(again.lost().is_none());
    }

    #[tokio::test]
    async fn what_waits_unread_is_not_taken_for_seen() {
        let mut attached = Attached::new(entries(1, 2));
        attached.next(&mut |_, _| {}).await.unwrap();
        let times = attached.times();
        assert!(times.is_unsure);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(attached.times(), times);
    }

    #[tokio::test]
    async fn a_log_that_is_shorter_than_what_was_seen_is_no_proper_end() {
        for has_times in [true, false] {
            let mut short = Attached::replay(entries(1, 2), has_times, [100, 7], Times::default());
            let (text, end) = read(&mut short).await;
            assert!(text.is_empty() || !has_times);
            assert!(end.is_some_and(|problem| problem.contains("no longer has all")));
        }
    }

    #[test]
    fn what_is_no_time_is_text() {
        let at = 1_795_492_800_123_456_789;
        for (entry, found) in [
            ("2026-11-24T04:00:00.123456789Z a b\n", (Some(at), "a b\n")),
            ("2026-11-24T04:00:00.123456789+00:00 \n", (Some(at), "\n")),
            ("2026-11-24T05:00:00.123456789+01:00 x", (Some(at), "x")),
            ("no time at all", (None, "no time at all")),
            ("2026-11-24", (None, "2026-11-24")),
            ("", (None, "")),
        ] {
            assert_eq!(split_time(entry.as_bytes()), (found.0, found.1.as_bytes()), "{entry}");
        }
    }
}
