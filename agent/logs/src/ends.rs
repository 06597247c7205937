//! Both ends of a text of any length.

use serde::{Deserialize, Serialize};

/// Both ends of what is shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ends {
    pub(crate) head_budget: usize,
    pub(crate) tail_budget: usize,
    pub(crate) bytes: u64,
    #[serde(with = "crate::base64_bytes")]
    pub(crate) head: Vec<u8>,
    /// The last bytes; trimmed when twice as many as wanted, so that each byte is moved at most once.
    #[serde(with = "crate::base64_bytes")]
    pub(crate) tail: Vec<u8>,
}

impl Ends {
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        let room = self.head_budget.saturating_sub(self.head.len());
        self.head.extend_from_slice(&text[..text.len().min(room)]);
        self.tail.extend_from_slice(&text[text.len().saturating_sub(self.tail_budget)..]);
        if self.tail.len() >= 2 * self.tail_budget {
            self.tail.drain(..self.tail.len() - self.tail_budget);
        }
    }

    /// Inserts a line after the first `at` bytes, behind the rest of the line that ends there.
    pub(crate) fn insert(&mut self, at: u64, line: &[u8]) {
        let place = |length: usize, from: u64| usize::try_from(from).ok().filter(|from| *from <= length);
        let splice = |text: &mut Vec<u8>, at: usize| {
            let is_begin = at == 0 || text[at - 1] == b'\n';
            let begin = if is_begin { Some(at) } else { memchr::memchr(b'\n', &text[at..]).map(|end| at + end + 1) };
            text.splice(begin.unwrap_or(at)..begin.unwrap_or(at), line.iter().copied());
        };
        if let Some(at) = place(self.head.len(), at) {
            splice(&mut self.head, at);
            self.head.truncate(self.head_budget);
        }
        if let Some(behind) = place(self.tail.len(), self.bytes - at.min(self.bytes)) {
            let at = self.tail.len() - behind;
            splice(&mut self.tail, at);
        }
        self.bytes += line.len() as u64;
    }

    /// Takes back lines from the end, `most` at most, as far as they came after the first `since` bytes and none is longer than
    /// `longest`.
    pub(crate) fn take_back(&mut self, since: u64, most: usize, longest: usize) -> Vec<Vec<u8>> {
        let room = usize::try_from(self.bytes.saturating_sub(since)).unwrap_or(usize::MAX).min(self.tail.len());
        let from = self.tail.len() - room;
        // Whether the first of it is a line's beginning.
        let is_begin = if from == 0 { room as u64 == self.bytes } else { self.tail[..from].ends_with(b"\n") };
        let mut lines = Vec::new();
        while lines.len() < most
            && let Some(whole) = self.tail[from..].strip_suffix(b"\n")
        {
            let newline = memchr::memrchr(b'\n', whole).map(|at| from + at + 1);
            let Some(start) = newline.or(is_begin.then_some(from)) else { break };
            if self.tail.len() - start > longest {
                break;
            }
            lines.push(self.tail.split_off(start));
        }
        lines.reverse();
        self.bytes -= lines.iter().map(|line| line.len() as u64).sum::<u64>();
        self.head.truncate(usize::try_from(self.bytes).unwrap_or(usize::MAX));
        lines
    }
}
