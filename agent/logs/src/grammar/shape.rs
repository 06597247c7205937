//! The shape of a line: its clauses, and whether it is a message, a line of code or a sentence of prose.

use std::cell::Cell;

use super::words::{
    ARTICLES, CLAUSE_BEGINNINGS, CODE, CODE_BEGINNINGS, CONDITIONS, FIRST_CONDITIONS, LINKS, NOTHING, is_stop_word,
};
use crate::{signs::Found, vocabulary::Place};

/// How many words a subject has at most: `the connection to the server was refused`.
pub(super) const MAX_SUBJECT_WORDS: usize = 10;

/// How many words a message's sentence has that names nothing.
const MAX_MESSAGE_WORDS: usize = 14;

pub(super) struct Line<'a> {
    pub(super) raw: &'a [u8],
    /// In small letters.
    pub(super) low: &'a [u8],
    /// What [`Line::stop_words`] counts, once it has.
    stop_words: Cell<Option<(usize, usize)>>,
}

impl<'a> Line<'a> {
    pub(super) fn new(raw: &'a [u8], low: &'a [u8]) -> Self {
        Self { raw, low, stop_words: Cell::new(None) }
    }
}

impl Line<'_> {
    /// Whether a clause begins at `at`, but for articles, levels and time stamps.
    pub(super) fn starts(&self, at: usize) -> bool {
        let clause = &self.low[self.clause(at)..at];
        clause.split(u8::is_ascii_whitespace).all(|word| {
            let word = word.trim_ascii();
            let word = word.strip_prefix(b"\"").unwrap_or(word);
            let is_stamp = || {
                word.iter().all(|byte| byte.is_ascii_digit() || b".,:-/+tz[]()#*|>!=@\"'`<{&".contains(byte))
                    || is_utf8_mark(word)
                    || word.last().is_some_and(u8::is_ascii_digit) && word.contains(&b':')
            };
            word.is_empty() || ARTICLES.contains(&word) || is_stamp() || is_level(word)
        })
    }

    /// Where the clause begins that `at` is in.
    pub(super) fn clause(&self, at: usize) -> usize {
        let mut place = at;
        while place > 0 {
            let byte = self.low[place - 1];
            let is_quote = b"\"'`([{<".contains(&byte);
            let before = self.low[..place - 1].last().copied().unwrap_or(b' ');
            let is_break = match byte {
                b' ' | b'\t' => {
                    let left = self.low[..place - 1].trim_ascii_end();
                    match left.last() {
                        None => true,
                        Some(last) if b":;|>])!?}*".contains(last) => true,
                        Some(b'.') => left.len() > 1 && left[left.len() - 2].is_ascii_alphanumeric(),
                        Some(b'-') => left.len() == 1 || left[left.len() - 2] == b' ' || left[left.len() - 2] == b'-',
                        Some(last) if *last >= 0x80 => is_utf8_mark(&left[left.len().saturating_sub(3)..]),
                        _ => false,
                    }
                }
                b'=' => true,
                _ => is_quote && (b" =:([{,".contains(&before) || place == 1),
            };
            if is_break {
                return place;
            }
            place -= 1;
        }
        0
    }

    /// Whether a clause ends at `at`, or goes on with a place, a cause or a time alone.
    pub(super) fn ends(&self, at: usize) -> bool {
        let rest = self.behind(at);
        let closed = rest.iter().take_while(|byte| b"\"'`)]}>".contains(byte) || **byte >= 0x80).count();
        let rest = &rest[closed..];
        match rest.split_first() {
            None | Some((b'\\' | b'|', _)) => true,
            Some((b'.' | b',' | b':' | b';' | b'!' | b'?', behind)) => {
                behind.first().is_none_or(|byte| b" \t\"'!.\\".contains(byte)) || rest[0] == b'!'
            }
            Some((b' ' | b'\t', behind)) => {
                let behind = behind.trim_ascii_start();
                behind.is_empty() || LINKS.iter().any(|link| behind.starts_with(link.as_bytes())) || closed > 0
            }
            _ => false,
        }
    }

    pub(super) fn behind(&self, at: usize) -> &[u8] {
        &self.low[at.min(self.low.len())..]
    }

    /// How many words there are.
    pub(super) fn words(&self, from: usize, to: usize) -> usize {
        self.low[from..to].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count()
    }

    /// What stands before a space at `at`, up to the one before.
    pub(super) fn token_before(&self, at: usize) -> &[u8] {
        self.low[..at].rsplit(|byte| b" \t(=".contains(byte)).find(|token| !token.is_empty()).unwrap_or_default()
    }

    pub(super) fn word_before(&self, at: usize) -> &[u8] {
        let before = self.low[..at].trim_ascii_end();
        &before[before.iter().rposition(|byte| b" \t\"'(=:,".contains(byte)).map_or(0, |at| at + 1)..]
    }

    /// Whether `0`, `no` or `without` stands before.
    pub(super) fn is_none_before(&self, at: usize) -> bool {
        let word = self.word_before(at);
        [&b"0"[..], b"no", b"zero", b"without", b"any"].contains(&word)
    }

    /// Whether a count of one or more stands before, as in `2 failed` and `2 tests failed`.
    pub(super) fn count_before(&self, at: usize) -> bool {
        let mut word = self.word_before(at);
        if word.starts_with(b"test") {
            let length = self.low[..at].trim_ascii_end().len() - word.len();
            word = self.word_before(length);
        }
        !word.is_empty() && word.iter().all(u8::is_ascii_digit) && word.iter().any(|digit| *digit != b'0')
    }

    /// Whether what stands at `at` is a value that means nothing: `: 0`, `=none`; as a measure also `0.25`.
    pub(super) fn is_nothing(&self, at: usize, or_measure: bool) -> bool {
        let rest = self.behind(at);
        let value = rest.iter().position(|byte| !b" \t\":=,'".contains(byte)).unwrap_or(rest.len());
        if value == 0 {
            return false;
        }
        let marked = rest[..value].iter().any(|byte| b":=".contains(byte));
        let rest = &rest[value..];
        let value = &rest[..rest.iter().position(|byte| b" \t,;\"'".contains(byte)).unwrap_or(rest.len())];
        let value = value.strip_suffix(b"}").filter(|value| *value != b"{").unwrap_or(value);
        let value = value.strip_suffix(b".").unwrap_or(value);
        let is_number = value.iter().all(|byte| byte.is_ascii_digit() || b".e-+%".contains(byte));
        let is_measure = is_number
            && value.iter().any(|byte| b".%".contains(byte))
            && value.first().is_some_and(|byte| *byte != b'-' || value.len() > 1);
        let behind = rest[value.len()..].trim_ascii_start();
        let is_all = value == b"0" || behind.first().is_none_or(|byte| b",;)}]\"'|".contains(byte));
        let is_none = NOTHING.contains(&value) && is_all && (marked && !value.is_empty() || value == b"0");
        is_none
            || or_measure && is_measure && !value.is_empty()
            || marked && value.is_empty() && or_measure && self.low.ends_with(b"\"\"")
    }

    /// Whether a number other than 0 follows within a few bytes.
    pub(super) fn number_after(&self, at: usize) -> bool {
        let rest = self.behind(at);
        let rest = &rest[..rest.len().min(16)];
        let Some(digit) = rest.iter().position(u8::is_ascii_digit) else { return false };
        let is_between = rest[..digit].iter().all(|byte| byte.is_ascii_alphabetic() || b" :=(-\"'#[".contains(byte));
        let number = rest[digit..].iter().take_while(|byte| byte.is_ascii_digit());
        is_between && number.into_iter().any(|digit| *digit != b'0')
    }

    /// Whether the sign is one that a program's text has in quotes alone.
    pub(super) fn is_crash(&self, found: &Found) -> bool {
        found.group.weight > 2 && found.group.place == Place::Anywhere && !self.low.ends_with(b";")
    }

    /// Whether the sign is what the line begins with, as only messages do.
    pub(super) fn is_label(&self, found: &Found) -> bool {
        let is_label = matches!(found.group.place, Place::Error | Place::Fatal | Place::Exception);
        let before = &self.low[..found.at];
        let is_capital = self.raw[found.at].is_ascii_uppercase();
        let before = if is_capital { before.trim_ascii_start() } else { before };
        let is_title = is_label && is_capital && !self.is_indented() && !self.begins_as_code();
        is_title
            || (is_label || is_capital && found.group.weight > 1)
                && before.iter().all(|byte| is_word(*byte) || b".$".contains(byte))
                && self.low.len() > found.at + found.sign.len()
    }

    /// Whether the line may be what a program says of itself, though the sign is in the middle of a clause.
    pub(super) fn is_report(&self, at: usize) -> bool {
        let (mut count, mut is_conditional) = (0, false);
        let words = self.low[self.clause(at)..at].split(u8::is_ascii_whitespace);
        for word in words.filter(|word| !word.is_empty()) {
            is_conditional |= CONDITIONS.contains(&word) || count == 0 && FIRST_CONDITIONS.contains(&word);
            count += 1;
        }
        count <= MAX_SUBJECT_WORDS && !is_conditional
    }

    /// Whether it begins with the name of a program or a place, as in `tar: `.
    pub(super) fn has_prefix(&self) -> bool {
        let name = self.low.iter().take_while(|byte| is_word(**byte) || b"-./+:[]()".contains(byte)).count();
        name > 1
            && self.low[..name].ends_with(b":")
            && self.behind(name).starts_with(b" ")
            && self.raw[0].is_ascii_lowercase()
    }

    /// Whether the line begins with one word, no pronoun or the like, and then the sign.
    pub(super) fn is_named_subject(&self, at: usize) -> bool {
        let subject = &self.low[..at];
        self.words(0, at) == 1 && !is_stop_word(subject.trim_ascii()) && at > 4 && !self.is_indented()
    }

    pub(super) fn is_indented(&self) -> bool {
        self.low.first().is_some_and(u8::is_ascii_whitespace)
    }

    pub(super) fn is_bullet(&self) -> bool {
        matches!(self.low.trim_ascii_start(), [b'-' | b'*' | b'+' | b'o', b' ' | b'\t', ..])
    }

    /// Whether it begins as a message does that is no line of a listing or a text: not indented, with a prefix or a label.
    pub(super) fn stands_out(&self) -> bool {
        let prefix = self.low.iter().position(|byte| *byte == b' ').map_or(self.low, |at| &self.low[..at]);
        let is_prefix = prefix.last().is_some_and(|byte| b":])>".contains(byte))
            || prefix.first().is_some_and(|byte| byte.is_ascii_digit() || b"[({".contains(byte));
        let is_level = prefix.starts_with(b"error") || prefix.starts_with(b"fatal") || is_level(prefix);
        let is_said = is_prefix || is_level || !self.is_prose() && self.raw.first().is_some_and(u8::is_ascii_uppercase);
        !self.is_indented() && !self.is_bullet() && is_said && !self.is_code() && !self.is_listing()
    }

    /// Whether it ends as lines of programs do.
    pub(super) fn is_listing(&self) -> bool {
        let text = self.low.trim_ascii();
        let is_string = self.is_indented() && text.first().is_some_and(|byte| b"\"'`".contains(byte));
        let ends = text.last().is_some_and(|byte| b";{(".contains(byte))
            || matches!(text, [b'}' | b')' | b']', ..] if text.len() < 4);
        let is_comment = text.starts_with(b"//")
            || text.starts_with(b"*")
            || text.starts_with(b"#")
            || contains(text, b"/*")
            || contains(text, b" // ");
        let is_indented_item = self.is_indented() && text.ends_with(b",");
        ends || is_string || is_comment || is_indented_item
    }

    /// Whether it reads like a line of a text.
    pub(super) fn is_prose(&self) -> bool {
        let (words, stop_words) = self.stop_words();
        let is_label = self.low.windows(2).any(|two| two == b": ");
        words >= if self.is_bullet() { 4 } else { 6 } && stop_words * 4 >= words && !is_label
    }

    /// Whether the next line may go on with its sentence.
    pub(super) fn is_open(&self) -> bool {
        let (words, stop_words) = self.stop_words();
        let is_ended = self.low.last().is_none_or(|byte| b".!?:;)]}>\"'`".contains(byte));
        let is_label = self.low.windows(2).any(|two| two == b": ");
        words >= 4 && stop_words * 5 >= words && !is_ended && !is_label
    }

    /// How many words it has, and how many of them are of every text.
    pub(super) fn stop_words(&self) -> (usize, usize) {
        if let Some(counted) = self.stop_words.get() {
            return counted;
        }
        let (mut words, mut stop_words) = (0, 0);
        for word in self.low.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            let word = word.strip_suffix(b",").unwrap_or(word);
            words += 1;
            stop_words += usize::from(is_stop_word(word));
        }
        self.stop_words.set(Some((words, stop_words)));
        (words, stop_words)
    }

    /// Whether the line names something that no sentence of prose does: a path, a number, a quotation.
    pub(super) fn has_thing(&self) -> bool {
        self.low.iter().any(|byte| byte.is_ascii_digit() || b"\"`/=_<[".contains(byte) || *byte >= 0x80)
            || self.low.windows(2).any(|two| matches!(two, [b' ', b'\''] | [b':', b' ']))
    }

    /// Whether it reads like a sentence.
    pub(super) fn is_sentence(&self) -> bool {
        let (words, stop_words) = self.stop_words();
        words >= 7 && stop_words * 4 >= words && !self.low.windows(2).any(|two| two == b": ")
    }

    /// Whether the line continues a sentence from an earlier line.
    pub(super) fn is_fragment(&self) -> bool {
        let text = self.raw.trim_ascii_start();
        let is_indented = text.len() < self.raw.len();
        let begins = text.first().is_some_and(|byte| byte.is_ascii_lowercase() || b"(,".contains(byte));
        if !begins || self.low.windows(2).any(|two| matches!(two, [b':' | b'=', b' '])) {
            return false;
        }
        let is_named = self.low.iter().any(|byte| b"\"`/=_<[:".contains(byte) || *byte >= 0x80)
            || self.low.windows(2).any(|two| two == b" '");
        let ends = text.last().is_some_and(|byte| b".,;)".contains(byte));
        let mut words = self.low.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let stop_words = words.clone().filter(|word| is_stop_word(word)).count();
        let first_is_stop = words.next().is_some_and(is_stop_word);
        is_indented && (ends || stop_words > 0)
            || !is_named && (ends && stop_words > 0 || stop_words > 1)
            || first_is_stop
    }

    /// Whether it is a path and nothing else.
    pub(super) fn is_path(&self) -> bool {
        self.low.starts_with(b"/") && !self.low.contains(&b' ')
    }

    fn begins_as_code(&self) -> bool {
        let begins = |text: &[u8], starts: &[&str]| starts.iter().any(|start| text.starts_with(start.as_bytes()));
        begins(self.raw.trim_ascii_start(), CODE_BEGINNINGS) || begins(self.low.trim_ascii_start(), CLAUSE_BEGINNINGS)
    }

    /// Whether it begins with a sentence that names nothing, and is longer than those of messages.
    pub(super) fn is_long_sentence(&self) -> bool {
        let ends = self.low.windows(2).position(|two| matches!(two, [b'.' | b'!' | b'?', b' ']));
        self.is_sentence() && !self.has_thing() && self.words(0, ends.unwrap_or(self.low.len())) > MAX_MESSAGE_WORDS
    }

    /// Whether it is a line of a program's text.
    pub(super) fn is_code(&self) -> bool {
        let text = self.low.trim_ascii();
        let is_json = text.starts_with(b"\"error\"") || text.starts_with(b"{\"") || text.starts_with(b"{'");
        let ends = !is_json
            && (text.ends_with(b";")
                || text.ends_with(b"{")
                || text.ends_with(b"(")
                || text.ends_with(b"\\")
                || text.ends_with(b"),")
                || text.ends_with(b"\",")
                || text.ends_with(b"};")
                || text.ends_with(b"*/")
                || text.ends_with(b"):")
                || text.ends_with(b"</p>")
                || text.ends_with(b"\"\"\""));
        let name = self.low.iter().take_while(|byte| is_word(**byte) || b"-./+:".contains(byte)).count();
        let is_named = self.low[..name].ends_with(b":") && self.behind(name).starts_with(b" ");
        let name = name.saturating_sub(1);
        let is_named = is_named && ![&b"default"[..], b"else"].contains(&&self.low[..name]);
        let is_indented = self.low.starts_with(b"    ") || self.low.starts_with(b"\t");
        let is_remark = text.starts_with(b"# ") && !text.starts_with(b"#  ");
        if ends && !is_named || is_remark || self.begins_as_code() {
            return true;
        }
        let is_string = is_indented
            && text.first().is_some_and(|byte| b"\"'`".contains(byte))
            && text.last().is_some_and(|byte| b"\"'`+,)".contains(byte));
        if is_string
            || contains(text, b" // ")
            || !is_named && contains(text, b"/*")
            || text.ends_with(b"*/")
            || is_indented && text.ends_with(b",")
        {
            return true;
        }
        let marks = CODE.found_in(text).count_ones();
        marks + u32::from(is_indented && marks > 0) + u32::from(ends) >= 2
    }
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    // Lines are short: what finds parts in long texts is long in the making.
    memchr::memchr_iter(part[0], text).any(|at| text[at..].starts_with(part))
}

/// Of three bytes at the end of a text, whether they are a sign that messages begin with, as a box or a cross.
fn is_utf8_mark(text: &[u8]) -> bool {
    // U+2000 to U+2FFF: punctuation, arrows, boxes, dingbats.
    matches!(text, [0xe2, ..])
}

/// Whether a word is a level, bare or in brackets.
fn is_level(word: &[u8]) -> bool {
    let bare = word.iter().position(u8::is_ascii_alphabetic).map_or(&word[..0], |at| &word[at..]);
    let length = bare.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    [&b"error"[..], b"warn", b"warning", b"fatal", b"critical", b"severe", b"err", b"crit", b"alert", b"emerg"]
        .contains(&&bare[..length])
        && bare[length..].iter().all(|byte| !byte.is_ascii_alphanumeric())
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
