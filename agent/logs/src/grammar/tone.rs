//! What makes a line with a sign count less: its level, or what else it says.

use super::{
    shape::{Line, contains},
    words::{CALM, CHATTER, FAILED, HARMLESS_BEGINNINGS, HARMLESS_ENDS, NONE_FAILED},
};

/// What a line is that counts less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    Plain,
    /// Its level is that of a warning.
    Warning,
    /// It says that all is well in spite of it: `retrying`, `skipped`.
    Calm,
    /// A level such as INFO, a test that passed, a line of code.
    Harmless,
}

impl Line<'_> {
    pub(super) fn tone(&self) -> Tone {
        let trimmed = self.low.trim_ascii_start();
        let begins = |starts: &[&str]| starts.iter().any(|start| trimmed.starts_with(start.as_bytes()));
        let has_failed = || FAILED.found_in(self.low) != 0 && NONE_FAILED.found_in(self.low) == 0;
        let has_passed = || {
            memchr::memchr_iter(b' ', self.low).filter(|at| self.low[*at..].starts_with(b" passed")).any(|at| {
                let behind = &self.low[at + " passed".len()..];
                self.low[..at].last().is_some_and(u8::is_ascii_digit) || behind.is_empty() || behind.starts_with(b"  ")
            })
        };
        let is_upper_failed = contains(self.raw, b" FAILED");
        if begins(HARMLESS_BEGINNINGS)
            || self.is_chatter() && !is_upper_failed
            || has_passed() && !has_failed()
            || HARMLESS_ENDS.iter().any(|end| trimmed.ends_with(end.as_bytes()))
        {
            return Tone::Harmless;
        }
        let is_table =
            memchr::memchr_iter(b'|', self.low).filter(|at| *at > 0 && self.low[at - 1..].starts_with(b" | ")).count()
                > 1
                || memchr::memchr_iter(b'\t', self.low).count() > 2;
        if is_table {
            return Tone::Calm;
        }
        if self.is_compiler_warning() || self.is_of_boot() || CALM.found_in(self.low) != 0 {
            return Tone::Calm;
        }
        if self.is_warning() {
            return Tone::Warning;
        }
        Tone::Plain
    }

    /// Whether its level is that of a warning.
    fn is_warning(&self) -> bool {
        let head = &self.low[..self.low.len().min(120)];
        head.split(|byte| b" \t".contains(byte)).take(8).any(|token| {
            let word = token.iter().position(u8::is_ascii_alphabetic).map_or(&token[..0], |at| &token[at..]);
            [&b"warning:"[..], b"warn:", b"warning]", b"warn]", b"warn", b"w:"].contains(&word)
                || word.ends_with(b"warning:")
        })
    }

    /// `file.c:12:5: warning: …`, and the notes beside it.
    fn is_compiler_warning(&self) -> bool {
        memchr::memchr_iter(b':', self.low).skip(1).any(|at| {
            self.low[..at].last().is_some_and(u8::is_ascii_digit)
                && [&b": warning: "[..], b": note: "].iter().any(|level| self.low[at..].starts_with(level))
        })
    }

    /// `[    0.002103] …`: of a kernel's drivers those say so too that have nothing to do.
    fn is_of_boot(&self) -> bool {
        let Some(stamp) = self.low.strip_prefix(b"[") else { return false };
        let stamp = &stamp[..stamp.iter().position(|byte| *byte == b']').unwrap_or(0)];
        let mut parts = stamp.trim_ascii_start().split(|byte| *byte == b'.');
        let is_number =
            |part: Option<&[u8]>| part.is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
        let seconds = parts.next();
        seconds.is_some_and(|seconds| seconds.len() < 3)
            && is_number(seconds)
            && is_number(parts.next())
            && parts.next().is_none()
    }

    /// Whether its level is INFO or lower.
    pub(super) fn is_chatter(&self) -> bool {
        const LEVELS: [&[u8]; 11] =
            [b"INFO", b"DEBUG", b"TRACE", b"NOTICE", b"VERBOSE", b"DBG", b"INF", b"FINE", b"Info", b"Debug", b"LOG"];
        let head = &self.raw[..self.raw.len().min(120)];
        let is_level = |token: &[u8]| {
            let bare = token.iter().position(u8::is_ascii_alphabetic).map_or(&token[..0], |at| &token[at..]);
            let length = bare.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let (word, behind) = bare.split_at(length);
            let is_marked = behind.first().is_some_and(|byte| b":]|".contains(byte));
            LEVELS.contains(&word)
                && (is_marked || word != b"LOG" && word.iter().all(u8::is_ascii_uppercase) && behind.is_empty())
                || is_marked
                    && [&b"info"[..], b"debug", b"notice", b"note", b"trace"].contains(&word)
                    && bare.len() < token.len()
        };
        let is_glog = matches!(self.raw, [b'I', d, ..] if d.is_ascii_digit())
            && self.raw.get(1..5).is_some_and(|date| date.iter().all(u8::is_ascii_digit));
        is_glog
            || head.split(|byte| b" \t".contains(byte)).take(8).any(is_level)
            || CHATTER.found_in(&self.low[..self.low.len().min(300)]) != 0
    }
}
