//! The summary of a log in constant memory: how much there was, how it began, how it ended, and the lines that look like
//! the reason. Pieces of output go in as they come.

use serde::{Deserialize, Serialize};

use super::{
    Stream,
    errors::{ErrorLine, ErrorLines},
};

/// A line's beginning, as far as it is looked at for errors.
const MAX_LINE_BYTES: usize = 512;

/// What is kept while the job runs, and across restarts of the agent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Summary {
    head_budget: usize,
    tail_budget: usize,
    stdout: Channel,
    stderr: Channel,
    #[serde(with = "base64_bytes")]
    head: Vec<u8>,
    /// The last bytes; trimmed when twice as many as wanted, so that each byte is moved at most once.
    #[serde(with = "base64_bytes")]
    tail: Vec<u8>,
    /// Lines begun so far, both streams together: the numbers that `docker logs | nl` would show.
    lines: u64,
    errors: ErrorLines,
}

/// One of the two streams.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Channel {
    bytes: u64,
    lines: u64,
    /// The line that is not finished yet: its number, and as much of it as is looked at.
    open: Option<u64>,
    #[serde(with = "base64_bytes")]
    line: Vec<u8>,
}

impl Summary {
    /// Divides `bytes` among head, error lines and tail. A quarter, a quarter and a half.
    pub(super) fn set_budget(&mut self, bytes: usize) {
        self.head_budget = bytes / 4;
        self.tail_budget = bytes / 2;
        self.errors.set_budget(bytes - self.head_budget - self.tail_budget);
    }

    /// How many bytes of stdout and of stderr have been taken in.
    pub(super) fn bytes_seen(&self) -> (u64, u64) {
        (self.stdout.bytes, self.stderr.bytes)
    }

    pub(super) fn push(&mut self, stream: Stream, piece: &[u8]) {
        let channel = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        channel.bytes += piece.len() as u64;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let number = *channel.open.get_or_insert_with(|| {
                self.lines += 1;
                channel.lines += 1;
                self.lines
            });
            let (content, ends) = match part.strip_suffix(b"\n") {
                Some(content) => (content, true),
                None => (part, false),
            };
            let room = MAX_LINE_BYTES - channel.line.len();
            if ends && channel.line.is_empty() {
                self.errors.look_at(number, &content[..content.len().min(MAX_LINE_BYTES)]);
            } else {
                channel.line.extend_from_slice(&content[..content.len().min(room)]);
                if ends {
                    self.errors.look_at(number, &channel.line);
                }
            }
            if ends {
                channel.line.clear();
                channel.open = None;
            }
        }

        let room = self.head_budget.saturating_sub(self.head.len());
        self.head.extend_from_slice(&piece[..piece.len().min(room)]);
        let kept = &piece[piece.len().saturating_sub(self.tail_budget)..];
        self.tail.extend_from_slice(kept);
        if self.tail.len() >= 2 * self.tail_budget {
            self.tail.drain(..self.tail.len() - self.tail_budget);
        }
    }

    /// The summary of a log that has ended. `lost_some`: part of it was gone before it could be read.
    pub(super) fn finish(mut self, lost_some: bool) -> LogSummary {
        for channel in [&self.stdout, &self.stderr] {
            if let Some(number) = channel.open {
                self.errors.look_at(number, &channel.line);
            }
        }
        LogSummary {
            stdout_bytes: self.stdout.bytes,
            stderr_bytes: self.stderr.bytes,
            stdout_lines: self.stdout.lines,
            stderr_lines: self.stderr.lines,
            head: Text::beginning(&self.head, self.head.len()),
            tail: Text::end(
                &self.tail,
                self.tail_budget,
                self.tail.len() as u64 == self.stdout.bytes + self.stderr.bytes,
            ),
            errors: self.errors.into_lines(),
            omitted_bytes: 0,
            uri: None,
            lost_some,
        }
        .with_omitted()
    }
}

/// The log as the report shows it. `head` and `tail` are its two ends as they came, both streams together; of a short log they
/// overlap. `omitted_bytes` are in neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub stdout_lines: u64,
    pub stderr_lines: u64,
    head: Text,
    tail: Text,
    errors: Vec<ErrorLine>,
    omitted_bytes: u64,
    /// Where the whole of it is.
    pub uri: Option<String>,
    /// Part of the log was rotated away unread: the counts are less than what the job wrote.
    #[serde(skip)]
    pub lost_some: bool,
}

impl LogSummary {
    /// How many bytes the texts take.
    pub fn text_bytes(&self) -> usize {
        let errors: usize = self.errors.iter().map(|error| error.text.len()).sum();
        self.head.text.len() + self.tail.text.len() + errors
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

    fn with_omitted(mut self) -> Self {
        let shown = self.head.raw_bytes + self.tail.raw_bytes;
        self.omitted_bytes = (self.stdout_bytes + self.stderr_bytes).saturating_sub(shown);
        self
    }
}

/// A part of the log as text, and how many of the job's bytes it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Text {
    text: String,
    raw_bytes: u64,
}

impl Text {
    /// At most `budget` bytes from the beginning, without a character that was cut at the end.
    fn beginning(bytes: &[u8], budget: usize) -> Self {
        let bytes = &bytes[..bytes.len().min(budget)];
        let whole = match bytes.utf8_chunks().last() {
            // Up to three bytes at the very end may be the beginning of a character; others are simply invalid.
            Some(chunk) if is_cut_character(chunk.invalid()) => bytes.len() - chunk.invalid().len(),
            _ => bytes.len(),
        };
        Self::of(&bytes[..whole])
    }

    /// At most `budget` bytes from the end, without the rest of a character that was cut at the beginning. `whole`: the
    /// bytes begin where the log, or a character, does.
    fn end(bytes: &[u8], budget: usize, whole: bool) -> Self {
        let start = bytes.len().saturating_sub(budget);
        let is_continuation = |byte: &&u8| (0x80..0xc0).contains(*byte);
        let cut = bytes[start..].iter().take(3).take_while(is_continuation).count();
        Self::of(&bytes[if start > 0 || !whole { start + cut } else { 0 }..])
    }

    fn of(bytes: &[u8]) -> Self {
        Self { text: String::from_utf8_lossy(bytes).into_owned(), raw_bytes: bytes.len() as u64 }
    }
}

/// Whether these bytes, which stand at the end of a text, are the beginning of a character.
fn is_cut_character(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(0xc2..0xe0) => bytes.len() < 2,
        Some(0xe0..0xf0) => bytes.len() < 3,
        Some(0xf0..0xf5) => bytes.len() < 4,
        _ => false,
    }
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Bytes that need not be UTF-8, in JSON.
mod base64_bytes {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary_of(budget: usize, pieces: &[(Stream, &[u8])]) -> LogSummary {
        let mut summary = Summary::default();
        summary.set_budget(budget);
        for (stream, piece) in pieces {
            summary.push(*stream, piece);
        }
        summary.finish(false)
    }

    #[test]
    fn streams_are_counted_apart_and_shown_together() {
        let summary = summary_of(
            4096,
            &[(Stream::Stdout, b"one\ntw"), (Stream::Stderr, b"oops\n"), (Stream::Stdout, b"o\nlast")],
        );
        assert_eq!((summary.stdout_bytes, summary.stdout_lines), (12, 3));
        assert_eq!((summary.stderr_bytes, summary.stderr_lines), (5, 1));
        assert_eq!(summary.tail.text, "one\ntwoops\no\nlast");
        assert_eq!((summary.head.text.as_str(), summary.omitted_bytes), (summary.tail.text.as_str(), 0));
    }

    #[test]
    fn a_long_log_keeps_both_ends_and_counts_the_rest() {
        let mut summary = Summary::default();
        summary.set_budget(400);
        for number in 0..10_000 {
            summary.push(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        assert!(summary.tail.len() < 400);
        let summary = summary.finish(false);
        assert!(summary.head.text.starts_with("line 0\n") && summary.tail.text.ends_with("line 9999\n"));
        assert_eq!((summary.head.text.len(), summary.tail.text.len()), (100, 200));
        assert_eq!(summary.omitted_bytes, summary.stdout_bytes - 300);
    }

    #[test]
    fn characters_are_never_cut() {
        for budget in 4..60 {
            let summary = summary_of(budget, &[(Stream::Stdout, "aé€😀".repeat(20).as_bytes())]);
            for text in [&summary.head.text, &summary.tail.text] {
                assert!(!text.contains('\u{fffd}'), "{budget}: {text}");
            }
            assert!(summary.head.text.starts_with('a') || budget < 8, "{budget}");
        }
        let summary = summary_of(400, &[(Stream::Stdout, b"\x80bad\xff")]);
        assert_eq!(summary.tail.text, "\u{fffd}bad\u{fffd}");
        assert_eq!(summary.head.text, "\u{fffd}bad\u{fffd}");
    }

    #[test]
    fn a_summary_survives_a_restart_at_any_byte() {
        let log = "first\nerror: \u{e9} broke\n\nlast without newline".as_bytes();
        let whole = summary_of(4096, &[(Stream::Stderr, log)]);
        for cut in 0..=log.len() {
            let mut summary = Summary::default();
            summary.set_budget(4096);
            summary.push(Stream::Stderr, &log[..cut]);
            let saved = serde_json::to_string(&summary).unwrap();
            let mut summary: Summary = serde_json::from_str(&saved).unwrap();
            summary.push(Stream::Stderr, &log[cut..]);
            assert_eq!(summary.finish(false), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_smaller_summary_still_ends_with_the_last_line() {
        let long = "x".repeat(3000) + "\nerror: no such file\n" + &"y".repeat(3000) + "\nthe end";
        let summary = summary_of(2000, &[(Stream::Stdout, long.as_bytes())]);
        for budget in [2000, 999, 100, 20] {
            let small = summary.within(budget);
            assert!(small.text_bytes() <= budget, "{budget}");
            assert!(small.tail.text.ends_with("the end"), "{budget}");
            let total = small.head.raw_bytes + small.tail.raw_bytes + small.omitted_bytes;
            assert_eq!(total, summary.stdout_bytes);
        }
        assert_eq!(summary.within(0).text_bytes(), 0);
    }
}
