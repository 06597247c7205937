//! What a sign means where it stands, for those with rules of their own.

use super::{
    shape::{Line, MAX_SUBJECT_WORDS, contains, is_word},
    words::{CONDITIONS, GOOD_TO_LACK, NOT_AN_ERROR},
};

impl Line<'_> {
    /// `error` at `at`; `last` is its last byte, or what follows it.
    pub(super) fn error(&self, at: usize, _last: usize, weight: u8) -> Option<u8> {
        let word = self.low[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let (low, raw, behind) = (&self.low[at..at + word], &self.raw[at..at + word], at + word);
        if low.starts_with(b"severe") || low.starts_with(b"level") || self.low[at..].starts_with(b"\"level") {
            let is_key = self.low[..at].last().is_none_or(|byte| b" \t{[,\"".contains(byte));
            return (self.starts(at) || !low.starts_with(b"severe") && is_key).then_some(weight);
        }
        if !low.starts_with(b"error") {
            return None;
        }
        // The exception class: its name ends with the sign.
        let before = self.low[..at].iter().rev().take_while(|byte| is_word(**byte) || b".$:".contains(byte)).count();
        let before =
            if self.low[..at].ends_with(b": ") || self.low[at - before..at].ends_with(b":") { 0 } else { before };
        let is_class = before > 0 && raw[0] == b'E' && is_word(self.raw[at - 1]) && self.raw[at - 1] != b'_';
        if before > 0 && !is_class && (is_word(self.low[at - 1]) || self.low[at - 1] == b'.')
            || self.low[..at].ends_with(b"-")
        {
            return None;
        }
        let head = if is_class { at - before } else { at };
        let starts = self.starts(head);
        let words = self.words(self.clause(head), head);
        let is_upper = raw.starts_with(b"ERROR");
        let next = self.low.get(behind).copied().unwrap_or(b'\n');
        let is_denied = self.is_none_before(at) || CONDITIONS.contains(&self.word_before(head));
        if is_denied {
            return None;
        }
        if low == b"errors" {
            let is_counted =
                self.count_before(at) && self.ends(behind) || next == b':' && starts && !self.is_nothing(behind, true);
            let is_cause =
                self.ends(behind) && [&b"of"[..], b"with", b"previous", b"many"].contains(&self.word_before(at));
            return (is_counted || is_cause).then_some(1);
        }
        let accepted = |accepts: bool, weight| accepts.then_some(weight);
        match next {
            b':' if self.low.get(behind + 1).is_none_or(u8::is_ascii_whitespace) => {
                // Alone it is a place in a program.
                if self.is_nothing(behind, true) || self.raw == b"error:" {
                    return None;
                }
                accepted(starts || words <= 3 || is_upper, weight).or_else(|| accepted(!self.is_sentence(), 1))
            }
            b':' if self.behind(behind + 1).starts_with(b"-") && self.number_after(behind + 1) => Some(1),
            b':' if next == b':' && self.behind(behind + 1).starts_with(b":") && !is_upper => None,
            b':' => accepted(starts || self.low[..at].ends_with(b":"), weight),
            b' ' | b'\t' => {
                let rest = self.behind(behind).trim_ascii_start();
                let token = &rest[..rest.iter().position(|byte| b" \t".contains(byte)).unwrap_or(rest.len())];
                let name = token.strip_suffix(b":").unwrap_or(token);
                let has_code = token == b":" || token.len() > name.len() && name.iter().any(u8::is_ascii_digit);
                let is_event = [&b"occurred"[..], b"has", b"detected", b"encountered"].contains(&name);
                if NOT_AN_ERROR.contains(&name) || self.is_nothing(behind, true) || token.starts_with(b"=") {
                    return None;
                }
                let is_bracketed = self.low[..at].ends_with(b"[");
                accepted(starts || has_code || is_bracketed || is_upper && words <= 6, weight)
                    .or_else(|| accepted(words <= 3 && (is_event || !self.is_sentence() && self.ends(behind)), 1))
            }
            b']' => accepted(starts || is_upper || self.low[..at].ends_with(b"["), weight),
            b'[' => accepted(starts, weight),
            b'"' => {
                let key = self.low[..at].strip_suffix(b"\"")?.trim_ascii_end();
                let value = self.behind(behind + 1).trim_ascii_start();
                if let Some(value) = value.strip_prefix(b":") {
                    let is_top = key.is_empty() || key == b"{";
                    return accepted(
                        !self.is_nothing(self.low.len() - value.len() - 1, true),
                        if is_top { 2 } else { 1 },
                    );
                }
                accepted(key.ends_with(b":") || key.ends_with(b"="), weight)
            }
            b'=' => accepted(!self.is_nothing(behind, true) && (starts || self.low[..at].ends_with(b" ")), 1),
            b')' => accepted(is_class || starts, weight),
            b'(' => accepted(starts && (is_class || self.behind(behind).starts_with(b"(s)")), weight),
            b'/' => accepted(is_upper && starts || self.low[..at].ends_with(b"@ "), weight),
            b'>' => accepted(self.low[..at].ends_with(b"<"), weight),
            b'\n' if is_class => accepted(starts && !self.is_indented(), weight),
            b'!' if starts && is_upper => Some(weight),
            b'\n' | b',' | b'.' | b'!' => {
                accepted((1..=3).contains(&words) && self.ends(behind) && !self.is_sentence(), 1)
            }
            _ => None,
        }
    }

    pub(super) fn fatal(&self, at: usize, end: usize, weight: u8) -> Option<u8> {
        let word = self.low[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let raw = &self.raw[at..at + word];
        let before = &self.low[..at];
        if self.low[at..end.min(self.low.len())].ends_with(b"\"") {
            // A level in JSON.
            let key = before.strip_suffix(b"\"").map(<[u8]>::trim_ascii_end);
            return key.is_some_and(|key| key.ends_with(b":") || key.ends_with(b"=")).then_some(weight);
        }
        let is_level = raw.iter().all(u8::is_ascii_uppercase) && !raw.is_empty();
        let is_bracketed = before.ends_with(b"[") || self.low[at..end.min(self.low.len())].ends_with(b"]");
        if self.low.get(at + word).is_some_and(|byte| is_word(*byte) || *byte == b'-') {
            return None;
        }
        if self.low[at..].starts_with(b"critical") {
            return (is_level && self.words(self.clause(at), at) <= 3 || is_bracketed).then_some(weight);
        }
        if before.last().is_some_and(|byte| is_word(*byte) || b"-./".contains(byte)) {
            return None;
        }
        let words = self.words(self.clause(at), at);
        let is_label = self.low[at..].starts_with(b"fatal:") || self.low[at..].starts_with(b"fatal error");
        let is_there =
            self.starts(at) || is_level && words <= 4 || is_bracketed || is_label && words <= 2 || raw.is_empty();
        (is_there && !self.is_nothing(at + word, false) && !self.is_sentence()).then_some(weight)
    }

    pub(super) fn exception(&self, at: usize, weight: u8) -> Option<u8> {
        let behind = at + "exception".len();
        let before = self.low[..at].iter().rev().take_while(|byte| is_word(**byte) || b".$".contains(byte)).count();
        let is_class = self.raw[at] == b'E';
        let next = self.low.get(behind).copied().unwrap_or(b'\n');
        let starts = self.starts(at - before);
        let is_there = match next {
            b':' | b'\n' => {
                (is_class || starts) && !self.is_nothing(behind, true) || next == b'\n' && is_class && starts
            }
            b' ' => {
                starts && (before > 0 || !is_class || self.behind(behind).starts_with(b" ex")) && !self.is_sentence()
            }
            b'(' | b')' | b'[' | b',' => is_class && before > 0 && (next == b')' || starts),
            _ => false,
        };
        is_there.then_some(weight)
    }

    pub(super) fn failed(&self, at: usize, end: usize) -> Option<u8> {
        let is_part = |byte: &u8| is_word(*byte) || b"-./".contains(byte);
        let has_more = |byte: &u8| is_word(*byte) || *byte == b'-' || *byte == b'=' && self.is_nothing(end, true);
        if self.low[..at].last().is_some_and(is_part) && !self.low[..at].ends_with(b"/")
            || self.low.get(end).is_some_and(has_more)
        {
            return None;
        }
        if self.is_none_before(at) || self.is_nothing(end, false) {
            return None;
        }
        let word_before = self.word_before(at);
        if self.count_before(at) {
            return Some(1);
        }
        let token = self.token_before(at);
        if token.iter().any(u8::is_ascii_digit) && token.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return None;
        }
        if CONDITIONS.contains(&word_before)
            || [&b"no"[..], b"without", b"of", b"on", b"for", b"any"].contains(&word_before)
        {
            return None;
        }
        let is_upper = self.raw[at..end.min(self.raw.len())].iter().all(u8::is_ascii_uppercase);
        let (starts, ends) = (self.starts(at), self.ends(end));
        let number = self.behind(end).trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let goes_on = number > 0 && self.behind(end + 1 + number).starts_with(b":")
            || self.behind(end).starts_with(b" to ")
            || self.behind(end).starts_with(b" in ");
        if is_upper && (starts || ends) {
            return Some(2);
        }
        if self.is_sentence() {
            return self.is_report(at).then_some(0);
        }
        let is_short = self.words(self.clause(at), at) <= MAX_SUBJECT_WORDS;
        if starts && (ends || goes_on) || ends && is_short {
            return Some(1);
        }
        (starts || goes_on || ends).then_some(0).filter(|_| self.is_report(at))
    }

    /// A status that a sign ends with, or that follows within a few bytes.
    pub(super) fn http_error(&self, end: usize) -> Option<u8> {
        let begun = self.low[..end.min(self.low.len())].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let behind = self.behind(end - begun);
        let number =
            behind[..behind.len().min(12)].split(|byte| !byte.is_ascii_digit()).find(|part| !part.is_empty())?;
        (number.len() == 3 && b"45".contains(&number[0])).then_some(1)
    }

    /// ` found` at `at`, or another word that says what something is not.
    pub(super) fn found(&self, at: usize, end: usize) -> Option<u8> {
        let suffix = self.behind(end).iter().take_while(|byte| is_word(**byte)).count();
        if ![&b""[..], b"s", b"es", b"ed", b"ing"].contains(&&self.behind(end)[..suffix]) {
            return None;
        }
        let end = end + suffix;
        let begin = self.clause(at);
        let clause = &self.low[begin..at];
        let auxiliary = [&b" be"[..], b" been", b" yet", b" longer", b" are", b" is"];
        let bare = auxiliary.iter().find_map(|word| clause.strip_suffix(*word)).unwrap_or(clause);
        let says_no =
            [&b" not"[..], b" nowhere", b" never", b" no"].iter().any(|no| bare.ends_with(no)) || bare == b"not";
        let begins_with_no = clause.strip_prefix(b"no ").is_some_and(|_| !self.is_good_to_lack(begin + 3));
        if !says_no && !begins_with_no || self.is_nothing(end, false) {
            return None;
        }
        let is_there = self.ends(end);
        match () {
            () if self.is_sentence() && !(self.has_thing() && end == self.low.len()) => self.is_report(at).then_some(0),
            () if is_there => Some(1),
            () => self.is_report(at).then_some(0),
        }
    }

    /// `no` at `at`, and what there is none of.
    pub(super) fn none(&self, at: usize) -> Option<u8> {
        let begin = at + "no ".len();
        if !self.starts(at) || self.is_good_to_lack(begin) || self.is_prose() {
            return None;
        }
        let words = self.words(begin, self.low.len());
        (words <= MAX_SUBJECT_WORDS).then_some(u8::from(self.has_thing() && self.has_prefix()))
    }

    /// Whether a thing at `at` is one that it is good to have none of: `errors`.
    pub(super) fn is_good_to_lack(&self, at: usize) -> bool {
        let things = self.behind(at);
        let end = things.iter().position(|byte| b".,:;(".contains(byte)).unwrap_or(things.len());
        GOOD_TO_LACK.iter().any(|good| things.starts_with(good.as_bytes())) || contains(&things[..end], b" to ")
    }

    /// `x.sh: line 3: …`, `… at x.pl line 3.`, `… in /x.php on line 3`.
    pub(super) fn place_in_code(&self, at: usize, end: usize) -> Option<u8> {
        let digits = self.behind(end).iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (before, behind) = (&self.low[..at], self.behind(end + digits));
        if digits == 0 {
            return None;
        }
        let is_shell =
            before.ends_with(b":") && !before[..before.len() - 1].contains(&b' ') && behind.starts_with(b": ");
        let file = before.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let is_perl = before[..before.len() - file.len()].ends_with(b" at ")
            && (file.contains(&b'.') || file.contains(&b'/') || file == b"-e")
            && (behind == b"." || behind.starts_with(b", ") || behind.is_empty());
        (is_shell || is_perl).then_some(1)
    }
}
