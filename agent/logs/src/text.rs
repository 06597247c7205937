//! The two ends of a log as text: bytes go in, whole characters come out.

use serde::Serialize;

/// A part of the log as text, and how many of the job's bytes it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) raw_bytes: u64,
}

impl Text {
    /// At most `budget` bytes from the beginning, without a character that was cut at the end.
    pub(crate) fn beginning(bytes: &[u8], budget: usize) -> Self {
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
    pub(crate) fn end(bytes: &[u8], budget: usize, whole: bool) -> Self {
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
