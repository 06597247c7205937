//! How long a row may have become.

use serde::{Deserialize, Serialize};

use super::REPLACEMENT;
use crate::{errors::MAX_LINE_BYTES, width::is_simple};

/// An upper bound of a row's length that does not depend on where blocks end, as the length itself would.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Extent {
    /// Of the row before.
    before: usize,
    /// Where the text would end if each byte took a column.
    end: usize,
    /// What bytes add that may be invalid, and be replaced.
    replaced: usize,
}

impl Extent {
    pub(super) fn of(row: &[u8], column: usize) -> Self {
        let end = if is_simple(row) { column } else { row.len() };
        Self { before: row.len(), end, replaced: 0 }
    }

    pub(super) fn bytes(self) -> usize {
        self.before.max(self.end) + self.replaced
    }

    /// Adds text up to the byte that makes the row too long, and returns how much of it.
    pub(super) fn add(&mut self, text: &[u8]) -> usize {
        let all = Self { end: self.end + text.len(), ..*self };
        if text.is_ascii() && all.bytes() <= MAX_LINE_BYTES {
            *self = all;
            return text.len();
        }
        for (at, byte) in text.iter().enumerate() {
            self.end += 1;
            self.replaced += if byte.is_ascii() { 0 } else { REPLACEMENT.len() - 1 };
            if self.bytes() > MAX_LINE_BYTES {
                return at + 1;
            }
        }
        text.len()
    }
}
