//! A stack trace and what else belongs to a sign, in a byte budget.

use serde::{Deserialize, Serialize};

use crate::{
    errors::Window,
    text::{CUT, text_of},
};

/// How many lines after a sign may belong to it: a stack trace's last line is the one that counts.
pub(crate) const MAX_TRACE_LINES: u32 = 2000;
/// And how many after the one that says what is wrong.
pub(crate) const MAX_DETAIL_LINES: u32 = 20;

/// A sign and the lines that follow it, as far as they belong to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub(crate) weight: u8,
    pub(crate) window: Window,
    /// Whether the first line that is not indented belongs to it too, and then its details.
    pub(crate) and_one: bool,
    /// What stands before the sign, as a prefix that other lines may have as well.
    #[serde(with = "crate::base64_bytes")]
    pub(crate) prefix: Vec<u8>,
    pub(crate) lines: u32,
    /// Where lines are left out, once there are too many.
    pub(crate) cut_at: Option<usize>,
}

impl Trace {
    /// Whether the line has come that says what is wrong; what follows are its details.
    pub(crate) fn is_told(&self) -> bool {
        !self.and_one && self.lines > MAX_TRACE_LINES - MAX_DETAIL_LINES
    }

    /// Adds a line. Where there is no more room, lines in the middle go: the first and the last tell most.
    pub(crate) fn push(&mut self, content: &[u8], budget: usize, budget_of_details: usize) {
        self.lines += 1;
        let is_told = self.is_told();
        let text = &mut self.window.text;
        text.push('\n');
        text.push_str(&text_of(content));
        if is_told {
            return text.truncate(text.floor_char_boundary(budget_of_details));
        }
        while text.len() > budget {
            let cut_at = *self.cut_at.get_or_insert_with(|| {
                let cut_at = text[..text.floor_char_boundary(budget / 3)].rfind('\n').or_else(|| text.find('\n'));
                let cut_at = cut_at.unwrap_or(text.len());
                text.insert_str(cut_at, CUT);
                cut_at
            });
            let kept_from = cut_at + CUT.len();
            let second = text[kept_from..].char_indices().skip(1).find(|(_, c)| *c == '\n');
            let Some((length, _)) = second else {
                // One line that is too long by itself.
                text.truncate(text.floor_char_boundary(budget));
                // The place may have been cut off with it.
                self.cut_at = self.cut_at.filter(|_| kept_from <= text.len());
                break;
            };
            text.replace_range(kept_from..kept_from + length, "");
        }
    }
}
