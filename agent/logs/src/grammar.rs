//! Whether a line with a sign means a failure. A word such as `failed` is in many lines of jobs that do well: what counts is where
//! in a clause it stands, what stands beside it, and what kind of line it is: a message, a line of code, a sentence of prose.

use crate::{
    signs::{self, Found},
    vocabulary::{GoesOn, Place},
};

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// 3: a crash, 2: an error, 1: a hint, 0: perhaps a hint.
    pub(crate) weight: u8,
    /// Where the first sign is that counts.
    pub(crate) at: usize,
    /// Where a sign is with which a trace begins.
    pub(crate) begins: Option<(usize, GoesOn)>,
}

/// Of a line that is longer, the beginning is judged.
pub(crate) const MAX_JUDGED_BYTES: usize = 1024;
/// How many words a subject has at most: `the connection to the server was refused`.
const MAX_SUBJECT_WORDS: usize = 10;

struct Line<'a> {
    raw: &'a [u8],
    low: &'a [u8],
}

/// What a line is that counts less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tone {
    Plain,
    /// It says that all is well in spite of it: `retrying`, `skipped`.
    Calm,
    /// A level such as INFO, a test that passed, a line of code.
    Harmless,
}

/// What the lines before are: in the middle of a listing or a text a line is taken for one of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Log,
    Code,
    Prose,
}

/// How many lines before a line are looked at.
const CONTEXT_LINES: usize = 4;

impl Context {
    /// The context of what follows `before`.
    pub(crate) fn after(before: &[u8]) -> Self {
        let (mut code, mut prose, mut low) = (0, 0, [0; 256]);
        let lines = before.rsplit(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        for raw in lines.take(CONTEXT_LINES) {
            let raw = raw[..raw.len().min(low.len())].trim_ascii_end();
            let low = &mut low[..raw.len()];
            low.copy_from_slice(raw);
            low.make_ascii_lowercase();
            let line = Line { raw, low };
            code += usize::from(line.is_code() || line.is_listing());
            prose += usize::from(line.is_prose());
        }
        match () {
            () if code > CONTEXT_LINES / 2 => Self::Code,
            () if code + prose > CONTEXT_LINES / 2 => Self::Prose,
            () => Self::Log,
        }
    }
}

/// What a line means. `context` is asked for where there is a sign.
pub(crate) fn judge(content: &[u8], context: impl FnOnce() -> Context) -> Option<Judgement> {
    let raw = &content[..content.len().min(MAX_JUDGED_BYTES)];
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw).trim_ascii_end();
    let mut low = [0; MAX_JUDGED_BYTES];
    let low = &mut low[..raw.len()];
    low.copy_from_slice(raw);
    low.make_ascii_lowercase();
    let line = Line { raw, low };
    let (mut tone, mut judgement): (Option<Tone>, Option<Judgement>) = (None, None);
    // Signs may end with the line's end.
    signs::all(&content[..content.len().min(raw.len() + 1)], |found| {
        let Some(weight) = line.weigh(&found) else { return };
        let tone = *tone.get_or_insert_with(|| line.tone());
        let is_harmless = match tone {
            Tone::Plain => false,
            Tone::Calm => weight < 2,
            Tone::Harmless => weight < 3,
        };
        if is_harmless || found.group.goes_on == GoesOn::No && line.is_code() && !line.is_label(&found) && !line.is_crash(&found) {
            return;
        }
        let begins = (found.group.goes_on != GoesOn::No && weight > 1).then_some((found.at, found.group.goes_on));
        let judged = judgement.get_or_insert(Judgement { weight, at: found.at, begins });
        judged.weight = judged.weight.max(weight);
        judged.at = judged.at.min(found.at);
        judged.begins = match (judged.begins, begins) {
            (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
            (a, b) => a.or(b),
        };
    });
    // What is indented behind a colon belongs to it.
    let goes_on = low.ends_with(b":") || low.ends_with(b"{") || low.ends_with(b"[");
    let judgement = judgement.map(|judgement| Judgement {
        begins: judgement.begins.or((goes_on && judgement.weight > 1).then_some((judgement.at, GoesOn::Indented))),
        ..judgement
    });
    judgement.filter(|judgement| match context() {
        Context::Log => true,
        Context::Code => judgement.weight > 0 && line.stands_out(),
        Context::Prose => judgement.weight > 0 && (line.stands_out() || !line.is_prose()),
    })
}

/// Words that begin a clause without being of it.
const ARTICLES: [&[u8]; 20] = [
    b"there", b"is",
    b"a", b"an", b"the", b"some", b"this", b"error", b"fatal", b"warn", b"warning", b"err", b"info", b"severe", b"critical", b"and", b"was",
    b"e", b"f", b"w",
];
/// Behind them a clause is a condition, a wish or part of a story.
const CONDITIONS: [&[u8]; 23] = [
    b"if", b"when", b"unless", b"whether", b"because", b"so", b"should", b"would", b"may", b"might", b"who", b"which", b"while",
    b"i", b"he", b"she", b"they", b"we", b"once", b"until", b"where", b"as", b"since",
];
const STOP_WORDS: [&[u8]; 36] = [
    b"the", b"of", b"and", b"a", b"to", b"in", b"that", b"is", b"it", b"for", b"as", b"with", b"was", b"be", b"on", b"this", b"by", b"or",
    b"are", b"from", b"an", b"at", b"which", b"not", b"he", b"his", b"she", b"had", b"have", b"i", b"but", b"they", b"were", b"so", b"when",
    b"if",
];
const LINKS: [&str; 22] = [
    "at ", "in ", "on ", "for ", "with ", "by ", "to ", "while ", "due ", "because ", "after ", "during ", "when ", "from ", "(", "[", "- ", "-- ",
    "of ", "trying ", "waiting ", "as ",
];
/// What follows a word that means nothing then.
const NOTHING: [&[u8]; 16] =
    [b"", b"0", b"none", b"null", b"nil", b"no", b"false", b"n/a", b"-", b"ok", b"success", b"[]", b"{}", b"()", b"nan", b"off"];
/// What follows `error` in the names of other things.
const NOT_AN_ERROR: [&[u8]; 50] = [
    b"handling", b"handler", b"handlers", b"rate", b"rates", b"correction", b"bars", b"bar", b"analysis", b"messages", b"message", b"log", b"logs",
    b"logging", b"reporting", b"reports", b"tracking", b"count", b"counts", b"codes", b"tolerance", b"margin", b"estimation", b"estimate",
    b"estimates", b"function", b"functions", b"budget", b"page", b"pages", b"recovery", b"detection", b"checking", b"propagation", b"free", b"metrics",
    b"metric", b"is", b"was", b"were", b"are", b"of", b"term", b"terms", b"class", b"classes", b"types", b"type", b"if", b"from",
];

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Line<'_> {
    /// What one sign in this line weighs.
    fn weigh(&self, found: &Found) -> Option<u8> {
        let marks = found.sign.bytes().take_while(|byte| b"\n [(:)".contains(byte)).count();
        let (at, end) = (found.at + marks, found.at + found.sign.len());
        let weight = found.group.weight;
        let is_about_fix = found.group.place != Place::Anywhere && contains(&self.low[..found.at], b"fix");
        if self.low[..found.at].ends_with(b"non-")
            || is_about_fix
            || !matches!(found.group.place, Place::Anywhere | Place::Number | Place::Line)
                && !(found.at == 0 && matches!(found.group.place, Place::Error | Place::Fatal))
                && self.is_fragment()
                && !self.is_named_subject(found.at)
        {
            return None;
        }
        match found.group.place {
            Place::Anywhere => Some(weight),
            Place::Edge | Place::EdgeOnly | Place::Start | Place::Adjective | Place::End => {
                let is_whole = found.at == 0
                    || !found.sign.as_bytes()[0].is_ascii_alphanumeric()
                    || !(is_word(self.low[found.at - 1]) || b"-./+%?&".contains(&self.low[found.at - 1]));
                let is_whole = is_whole
                    && (!found.sign.as_bytes()[found.sign.len() - 1].is_ascii_alphanumeric()
                        || self.low.get(end).is_none_or(|byte| !is_word(*byte) && *byte != b'-'));
                let is_setting = found.sign == "timeout" && self.low.get(end).is_some_and(|byte| b":=".contains(byte));
                if !is_whole || is_setting || self.is_nothing(end, false) || self.is_none_before(found.at) {
                    return None;
                }
                let place = found.group.place;
                let starts = place != Place::End && self.starts(at);
                let is_there = starts || !matches!(place, Place::Start | Place::Adjective) && self.ends(end);
                if weight > 2 && !starts && self.is_bullet() {
                    return None;
                }
                match is_there {
                    true if place == Place::Adjective && !self.has_thing() => self.is_report(found.at).then_some(0),
                    true if self.is_sentence()
                        && !(starts && (weight > 1 || self.has_thing()) || weight > 1 && self.is_named_subject(found.at)) =>
                    {
                        self.is_report(found.at).then_some(u8::from(weight > 1))
                    }
                    true => Some(weight),
                    false if matches!(place, Place::EdgeOnly | Place::End) => None,
                    false => self.is_report(found.at).then_some(u8::from(weight > 2 || self.has_prefix() && !self.is_sentence())),
                }
            }
            Place::Predicate => {
                let is_whole = found.sign.ends_with(' ') || self.low.get(end).is_none_or(|byte| !is_word(*byte));
                if !is_whole {
                    return None;
                }
                let is_short = self.words(self.clause(at), at) <= 5 && self.has_thing();
                self.is_report(found.at).then_some(u8::from(is_short && !self.is_sentence()))
            }
            Place::Number => self.number_after(end).then_some(1),
            Place::Error => self.error(at, end - 1, weight),
            Place::Fatal => self.fatal(at, end, weight),
            Place::Exception => self.exception(found.at, weight),
            Place::Failed => self.failed(found.at, end),
            Place::Found => self.found(found.at),
            Place::Line => self.place_in_code(found.at, end),
        }
    }

    /// `error` at `at`; `last` is its last byte, or what follows it.
    fn error(&self, at: usize, _last: usize, weight: u8) -> Option<u8> {
        let word = self.low[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let (low, raw, behind) = (&self.low[at..at + word], &self.raw[at..at + word], at + word);
        if low.starts_with(b"severe") || low.starts_with(b"level") || self.low[at..].starts_with(b"\"level") {
            let is_key = self.low[..at].last().is_none_or(|byte| b" \t{[,\"".contains(byte));
            return (self.starts(at) || !low.starts_with(b"severe") && is_key).then_some(weight);
        }
        if !low.starts_with(b"error") {
            return None;
        }
        // The class whose name ends with it.
        let before = self.low[..at].iter().rev().take_while(|byte| is_word(**byte) || b".$:".contains(byte)).count();
        let before = if self.low[..at].ends_with(b": ") || self.low[at - before..at].ends_with(b":") { 0 } else { before };
        let is_class = before > 0 && raw[0] == b'E' && is_word(self.raw[at - 1]) && self.raw[at - 1] != b'_';
        if before > 0 && !is_class && (is_word(self.low[at - 1]) || self.low[at - 1] == b'.') || self.low[..at].ends_with(b"-") {
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
            let is_counted = self.count_before(at) && self.ends(behind) || next == b':' && starts && !self.is_nothing(behind, true);
            let is_cause = self.ends(behind) && [&b"of"[..], b"with", b"previous", b"many"].contains(&self.word_before(at));
            return (is_counted || is_cause).then_some(1);
        }
        let accepted = |accepts: bool, weight| accepts.then_some(weight);
        match next {
            b':' if self.low.get(behind + 1).is_none_or(|byte| byte.is_ascii_whitespace()) => {
                // Alone it is a place in a program.
                if self.is_nothing(behind, true) || self.raw == b"error:" {
                    return None;
                }
                accepted(starts || words <= 3 || is_upper, weight).or_else(|| accepted(!self.is_sentence(), 1))
            }
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
                    return accepted(!self.is_nothing(self.low.len() - value.len() - 1, true), if is_top { 2 } else { 1 });
                }
                accepted(key.ends_with(b":") || key.ends_with(b"="), weight)
            }
            b'=' => accepted(!self.is_nothing(behind, true) && (starts || self.low[..at].ends_with(b" ")), 1),
            b')' => accepted(is_class || starts, weight),
            b'(' => accepted(starts && (is_class || self.behind(behind).starts_with(b"(s)")), weight),
            b'/' => accepted(is_upper && starts || self.low[..at].ends_with(b"@ "), weight),
            b'>' => accepted(self.low[..at].ends_with(b"<"), weight),
            b'\n' if is_class => accepted(starts && !self.is_indented(), weight),
            b'\n' | b',' | b'.' | b'!' => accepted((1..=3).contains(&words) && self.ends(behind) && !self.is_sentence(), 1),
            _ => None,
        }
    }

    fn fatal(&self, at: usize, end: usize, weight: u8) -> Option<u8> {
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
        let is_there = self.starts(at) || is_level && words <= 4 || is_bracketed || is_label && words <= 2 || raw.is_empty();
        (is_there && !self.is_nothing(at + word, false) && !self.is_sentence()).then_some(weight)
    }

    fn exception(&self, at: usize, weight: u8) -> Option<u8> {
        let behind = at + "exception".len();
        let before = self.low[..at].iter().rev().take_while(|byte| is_word(**byte) || b".$".contains(byte)).count();
        let is_class = self.raw[at] == b'E';
        let next = self.low.get(behind).copied().unwrap_or(b'\n');
        let starts = self.starts(at - before);
        let is_there = match next {
            b':' | b'\n' => (is_class || starts) && !self.is_nothing(behind, true) || next == b'\n' && is_class && starts,
            b' ' => starts && (before > 0 || !is_class || self.behind(behind).starts_with(b" ex")) && !self.is_sentence(),
            b'(' | b')' | b'[' | b',' => is_class && before > 0 && (next == b')' || starts),
            _ => false,
        };
        is_there.then_some(weight)
    }

    fn failed(&self, at: usize, end: usize) -> Option<u8> {
        let is_part = |byte: &u8| is_word(*byte) || b"-./".contains(byte);
        let has_more = |byte: &u8| is_word(*byte) || *byte == b'-' || *byte == b'=' && self.is_nothing(end, true);
        if self.low[..at].last().is_some_and(is_part) && !self.low[..at].ends_with(b"/") || self.low.get(end).is_some_and(has_more) {
            return None;
        }
        if self.is_none_before(at) || self.is_nothing(end, false) {
            return None;
        }
        let word_before = self.word_before(at);
        if self.count_before(at) {
            return Some(1);
        }
        if word_before.iter().any(u8::is_ascii_digit) && word_before.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return None;
        }
        if CONDITIONS.contains(&word_before) || [&b"no"[..], b"without", b"of", b"on", b"for", b"any"].contains(&word_before) {
            return None;
        }
        let is_upper = self.raw[at..end.min(self.raw.len())].iter().all(u8::is_ascii_uppercase);
        let (starts, ends) = (self.starts(at), self.ends(end));
        let number = self.behind(end).trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let goes_on = number > 0 && self.behind(end + 1 + number).starts_with(b":")
            || self.behind(end).starts_with(b" to ") || self.behind(end).starts_with(b" in ");
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

    fn found(&self, at: usize) -> Option<u8> {
        let end = at + " found".len();
        if self.low.get(end).is_some_and(|byte| is_word(*byte)) {
            return None;
        }
        let clause = &self.low[self.clause(at)..at];
        let says_no = clause.ends_with(b" not") || clause == b"not" || clause.ends_with(b" nowhere");
        let begins_with_no = clause.starts_with(b"no ");
        if !says_no && !begins_with_no || self.is_nothing(end, false) {
            return None;
        }
        let is_there = self.ends(end);
        match () {
            () if self.is_sentence() => self.is_report(at).then_some(0),
            () if is_there => Some(1),
            () => self.is_report(at).then_some(0),
        }
    }

    /// `x.sh: line 3: …`, `… at x.pl line 3.`, `… in /x.php on line 3`.
    fn place_in_code(&self, at: usize, end: usize) -> Option<u8> {
        let digits = self.behind(end).iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (before, behind) = (&self.low[..at], self.behind(end + digits));
        if digits == 0 {
            return None;
        }
        let is_shell = before.ends_with(b":") && !before[..before.len() - 1].contains(&b' ') && behind.starts_with(b": ");
        let file = before.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let is_perl = before[..before.len() - file.len()].ends_with(b" at ")
            && (file.contains(&b'.') || file.contains(&b'/') || file == b"-e")
            && (behind == b"." || behind.starts_with(b", ") || behind.is_empty());
        (is_shell || is_perl).then_some(1)
    }

    /// Whether a clause begins at `at`, but for articles, levels and time stamps.
    fn starts(&self, at: usize) -> bool {
        let clause = &self.low[self.clause(at)..at];
        clause.split(u8::is_ascii_whitespace).all(|word| {
            let word = word.trim_ascii();
            let word = word.strip_prefix(b"\"").unwrap_or(word);
            let is_stamp = || {
                word.iter().all(|byte| byte.is_ascii_digit() || b".,:-/+tz[]()#*|>!=@\"'`<{&".contains(byte)) || is_utf8_mark(word)
                    || word.last().is_some_and(u8::is_ascii_digit) && word.contains(&b':')
            };
            word.is_empty() || ARTICLES.contains(&word) || is_stamp() || is_level(word)
        })
    }

    /// Where the clause begins that `at` is in.
    fn clause(&self, at: usize) -> usize {
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
    fn ends(&self, at: usize) -> bool {
        let rest = self.behind(at);
        let closed = rest.iter().take_while(|byte| b"\"'`)]}>".contains(byte) || **byte >= 0x80).count();
        let rest = &rest[closed..];
        match rest.split_first() {
            None => true,
            Some((b'.' | b',' | b':' | b';' | b'!' | b'?', behind)) => {
                behind.first().is_none_or(|byte| b" \t\"'!.\\".contains(byte)) || rest[0] == b'!'
            }
            Some((b' ' | b'\t', behind)) => {
                let behind = behind.trim_ascii_start();
                behind.is_empty() || LINKS.iter().any(|link| behind.starts_with(link.as_bytes())) || closed > 0
            }
            Some((b'\\' | b'|', _)) => true,
            _ => false,
        }
    }

    fn behind(&self, at: usize) -> &[u8] {
        &self.low[at.min(self.low.len())..]
    }

    /// How many words there are.
    fn words(&self, from: usize, to: usize) -> usize {
        self.low[from..to].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count()
    }

    fn word_before(&self, at: usize) -> &[u8] {
        let before = self.low[..at].trim_ascii_end();
        &before[before.iter().rposition(|byte| b" \t\"'(=:,".contains(byte)).map_or(0, |at| at + 1)..]
    }

    /// Whether `0`, `no` or `without` stands before.
    fn is_none_before(&self, at: usize) -> bool {
        let word = self.word_before(at);
        [&b"0"[..], b"no", b"zero", b"without", b"any"].contains(&word)
    }

    /// Whether a count of one or more stands before, as in `2 failed` and `2 tests failed`.
    fn count_before(&self, at: usize) -> bool {
        let mut word = self.word_before(at);
        if word.starts_with(b"test") {
            let length = self.low[..at].trim_ascii_end().len() - word.len();
            word = self.word_before(length);
        }
        !word.is_empty() && word.iter().all(u8::is_ascii_digit) && word.iter().any(|digit| *digit != b'0')
    }

    /// Whether what stands at `at` is a value that means nothing: `: 0`, `=none`; as a measure also `0.25`.
    fn is_nothing(&self, at: usize, or_measure: bool) -> bool {
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
        let is_measure = is_number && value.iter().any(|byte| b".%".contains(byte)) && value.first().is_some_and(|byte| *byte != b'-' || value.len() > 1);
        let behind = rest[value.len()..].trim_ascii_start();
        let is_all = value == b"0" || behind.first().is_none_or(|byte| b",;)}]\"'|".contains(byte));
        let is_none = NOTHING.contains(&value) && is_all && (marked && !value.is_empty() || value == b"0");
        is_none || or_measure && is_measure && !value.is_empty() || marked && value.is_empty() && or_measure && self.low.ends_with(b"\"\"")
    }

    /// Whether a number other than 0 follows within a few bytes.
    fn number_after(&self, at: usize) -> bool {
        let rest = self.behind(at);
        let rest = &rest[..rest.len().min(16)];
        let Some(digit) = rest.iter().position(u8::is_ascii_digit) else { return false };
        let is_between = rest[..digit].iter().all(|byte| byte.is_ascii_alphabetic() || b" :=(-\"'#[".contains(byte));
        let number = rest[digit..].iter().take_while(|byte| byte.is_ascii_digit());
        is_between && number.into_iter().any(|digit| *digit != b'0')
    }

    /// Whether the sign is one that a program's text has in quotes alone.
    fn is_crash(&self, found: &Found) -> bool {
        found.group.weight > 2 && found.group.place == Place::Anywhere && !self.low.ends_with(b";")
    }

    /// Whether the sign is what the line begins with, as only messages do.
    fn is_label(&self, found: &Found) -> bool {
        let is_label = matches!(found.group.place, Place::Error | Place::Fatal | Place::Exception);
        let before = &self.low[..found.at];
        let is_capital = self.raw[found.at].is_ascii_uppercase();
        let before = if is_capital { before.trim_ascii_start() } else { before };
        let is_title = is_label && is_capital && !self.is_indented();
        is_title || (is_label || is_capital && found.group.weight > 1) && before.iter().all(|byte| is_word(*byte) || b".$".contains(byte)) && self.low.len() > found.at + found.sign.len()
    }

    /// Whether the line may be what a program says of itself, though the sign is in the middle of a clause.
    fn is_report(&self, at: usize) -> bool {
        let clause = self.clause(at);
        let words = self.low[clause..at].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let is_conditional = |word: &[u8]| CONDITIONS.contains(&word.trim_ascii());
        let (mut count, mut conditional) = (0, false);
        for word in words {
            count += 1;
            conditional |= is_conditional(word);
        }
        let begins = self.raw.trim_ascii_start().first().copied().unwrap_or(b' ');
        let is_message = begins.is_ascii_uppercase() || b"\"'`[(!*=>#".contains(&begins) || begins >= 0x80 || clause > 0 || self.has_thing() || !self.is_sentence();
        let is_name = self.is_named_subject(at);
        count <= MAX_SUBJECT_WORDS && !conditional && (is_message && !self.is_part_of_prose() || is_name)
    }

    /// Whether it begins with the name of a program or a place, as in `tar: `.
    fn has_prefix(&self) -> bool {
        let name = self.low.iter().take_while(|byte| is_word(**byte) || b"-./+:[]()".contains(byte)).count();
        name > 1 && self.low[..name].ends_with(b":") && self.behind(name).starts_with(b" ") && self.raw[0].is_ascii_lowercase()
    }

    /// Whether the line begins with one word, no pronoun or the like, and then the sign.
    fn is_named_subject(&self, at: usize) -> bool {
        let subject = &self.low[..at];
        self.words(0, at) == 1 && !STOP_WORDS.contains(&subject.trim_ascii()) && at > 4 && !self.is_indented()
    }

    fn is_indented(&self) -> bool {
        self.low.first().is_some_and(u8::is_ascii_whitespace)
    }

    fn is_bullet(&self) -> bool {
        matches!(self.low.trim_ascii_start(), [b'-' | b'*' | b'+' | b'o', b' ' | b'\t', ..])
    }

    /// Whether it begins as a message does that is no line of a listing or a text: not indented, with a prefix or a label.
    fn stands_out(&self) -> bool {
        let prefix = self.low.iter().position(|byte| *byte == b' ').map_or(self.low, |at| &self.low[..at]);
        let is_prefix = prefix.last().is_some_and(|byte| b":])>".contains(byte)) || prefix.first().is_some_and(|byte| byte.is_ascii_digit() || b"[({".contains(byte));
        let is_level = prefix.starts_with(b"error") || prefix.starts_with(b"fatal") || is_level(prefix);
        let is_said = is_prefix || is_level || !self.is_prose() && self.raw.first().is_some_and(u8::is_ascii_uppercase);
        !self.is_indented() && !self.is_bullet() && is_said && !self.is_code() && !self.is_listing()
    }

    /// Whether it ends as lines of programs do.
    fn is_listing(&self) -> bool {
        let text = self.low.trim_ascii();
        let is_string = self.is_indented() && text.first().is_some_and(|byte| b"\"'`".contains(byte));
        let ends = text.last().is_some_and(|byte| b";{(".contains(byte)) || matches!(text, [b'}' | b')' | b']', ..] if text.len() < 4);
        let is_comment = text.starts_with(b"//") || text.starts_with(b"*") || text.starts_with(b"#") || contains(text, b"/*") || contains(text, b" // ");
        let is_indented_item = self.is_indented() && text.ends_with(b",");
        ends || is_string || is_comment || is_indented_item
    }

    /// Whether it reads like a line of a text.
    fn is_prose(&self) -> bool {
        let (words, stop_words) = self.stop_words();
        let is_label = self.low.windows(2).any(|two| two == b": ");
        words >= if self.is_bullet() { 4 } else { 6 } && stop_words * 4 >= words && !is_label
    }

    /// How many words it has, and how many of them are of every text.
    fn stop_words(&self) -> (usize, usize) {
        let (mut words, mut stop_words) = (0, 0);
        for word in self.low.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            let word = word.strip_suffix(b",").unwrap_or(word);
            words += 1;
            stop_words += usize::from(STOP_WORDS.contains(&word));
        }
        (words, stop_words)
    }

    /// Whether the line names something that no sentence of prose does: a path, a number, a quotation.
    fn has_thing(&self) -> bool {
        self.low.iter().any(|byte| byte.is_ascii_digit() || b"\"`/=_<[".contains(byte) || *byte >= 0x80)
            || self.low.windows(2).any(|two| matches!(two, [b' ', b'\''] | [b':', b' ']))
    }

    /// Whether it reads like a sentence.
    fn is_sentence(&self) -> bool {
        let (words, stop_words) = self.stop_words();
        words >= 7 && stop_words * 4 >= words && !self.low.windows(2).any(|two| two == b": ")
    }

    /// Whether it is one of many lines of prose: it begins in the middle of a sentence, or is longer than a message.
    fn is_part_of_prose(&self) -> bool {
        let begins = self.raw.trim_ascii_start().first().copied().unwrap_or(b' ');
        let ends = self.raw.last().copied().unwrap_or(b' ');
        self.is_sentence() && ((begins.is_ascii_lowercase() || begins >= 0x80) && !self.has_thing() || self.low.len() > 64 && !self.has_thing() && (ends.is_ascii_alphabetic() || ends == b','))
    }

    /// Whether it is the middle or the end of a sentence that was begun in a line before.
    fn is_fragment(&self) -> bool {
        let text = self.raw.trim_ascii_start();
        let is_indented = text.len() < self.raw.len();
        let begins = text.first().is_some_and(|byte| byte.is_ascii_lowercase() || b"(,".contains(byte));
        if !begins || self.low.windows(2).any(|two| matches!(two, [b':' | b'=', b' '])) {
            return false;
        }
        let is_named = self.low.iter().any(|byte| b"\"`/=_<[:".contains(byte) || *byte >= 0x80) || self.low.windows(2).any(|two| two == b" '");
        let ends = text.last().is_some_and(|byte| b".,;)".contains(byte));
        let mut words = self.low.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let stop_words = words.clone().filter(|word| STOP_WORDS.contains(word)).count();
        let first_is_stop = words.next().is_some_and(|word| STOP_WORDS.contains(&word));
        is_indented && (ends || stop_words > 0) || !is_named && (ends && stop_words > 0 || stop_words > 1) || first_is_stop
    }

    fn tone(&self) -> Tone {
        let trimmed = self.low.trim_ascii_start();
        let begins = |starts: &[&str]| starts.iter().any(|start| trimmed.starts_with(start.as_bytes()));
        let has = |parts: &[&str]| parts.iter().any(|part| contains(self.low, part.as_bytes()));
        let has_failed = has(&[" failed", " failing", " failure", " errors", " error"]) && !has(&[" 0 fail", " 0 tests fail", " no fail"]);
        let has_passed = || {
            memchr::memmem::find_iter(self.low, b" passed").any(|at| {
                let behind = &self.low[at + " passed".len()..];
                self.low[..at].last().is_some_and(u8::is_ascii_digit) || behind.is_empty() || behind.starts_with(b"  ")
            })
        };
        let is_upper_failed = contains(self.raw, b" FAILED");
        if begins(&HARMLESS_BEGINNINGS)
            || self.is_chatter() && !is_upper_failed
            || !has_failed && has_passed()
            || HARMLESS_ENDS.iter().any(|end| trimmed.ends_with(end.as_bytes()))
        {
            return Tone::Harmless;
        }
        let is_table = memchr::memmem::find_iter(self.low, b" | ").count() > 1 || memchr::memchr_iter(b'\t', self.low).count() > 2;
        if is_table {
            return Tone::Calm;
        }
        if has(&CALM) {
            return Tone::Calm;
        }
        Tone::Plain
    }

    /// Whether its level is INFO or lower.
    fn is_chatter(&self) -> bool {
        const LEVELS: [&[u8]; 11] =
            [b"INFO", b"DEBUG", b"TRACE", b"NOTICE", b"VERBOSE", b"DBG", b"INF", b"FINE", b"Info", b"Debug", b"LOG"];
        let head = &self.raw[..self.raw.len().min(120)];
        let is_level = |token: &[u8]| {
            let bare = token.iter().position(u8::is_ascii_alphabetic).map_or(&token[..0], |at| &token[at..]);
            let length = bare.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let (word, behind) = bare.split_at(length);
            let is_marked = behind.first().is_some_and(|byte| b":]|".contains(byte));
            LEVELS.contains(&word) && (is_marked || word != b"LOG" && word.iter().all(u8::is_ascii_uppercase) && behind.is_empty())
                || is_marked && [&b"info"[..], b"debug", b"notice", b"note", b"trace"].contains(&word) && bare.len() < token.len()
        };
        let is_glog = matches!(self.raw, [b'I', d, ..] if d.is_ascii_digit())
            && self.raw.get(1..5).is_some_and(|date| date.iter().all(u8::is_ascii_digit));
        is_glog
            || head.split(|byte| b" \t".contains(byte)).take(8).any(is_level)
            || CHATTER.iter().any(|part| contains(&self.low[..self.low.len().min(300)], part.as_bytes()))
    }

    /// Whether it is a line of a program's text.
    fn is_code(&self) -> bool {
        let text = self.low.trim_ascii();
        let is_json = text.starts_with(b"\"error\"") || text.starts_with(b"{\"") || text.starts_with(b"{'");
        let ends = !is_json
            && (text.ends_with(b";") || text.ends_with(b"{") || text.ends_with(b"(") || text.ends_with(b"\\") || text.ends_with(b"),") || text.ends_with(b"\",")
                || text.ends_with(b"};") || text.ends_with(b"*/") || text.ends_with(b"):") || text.ends_with(b"</p>") || text.ends_with(b"\"\"\""));
        let name = self.low.iter().take_while(|byte| is_word(**byte) || b"-./+".contains(byte)).count();
        let is_named = self.behind(name).starts_with(b": ") && ![&b"default"[..], b"else"].contains(&&self.low[..name]);
        let is_indented = self.low.starts_with(b"    ") || self.low.starts_with(b"\t");
        let is_remark = text.starts_with(b"# ") && !text.starts_with(b"#  ");
        if ends && !is_named || is_remark || CODE_BEGINNINGS.iter().any(|start| text.starts_with(start.as_bytes())) {
            return true;
        }
        let is_string = is_indented && text.first().is_some_and(|byte| b"\"'`".contains(byte)) && text.last().is_some_and(|byte| b"\"'`+,)".contains(byte));
        if is_string || contains(text, b" // ") || !is_named && contains(text, b"/*") || text.ends_with(b"*/") || is_indented && text.ends_with(b",") {
            return true;
        }
        let marks = CODE.iter().filter(|mark| contains(text, mark.as_bytes())).count();
        marks + usize::from(is_indented && marks > 0) + usize::from(ends) >= 2
    }
}

const HARMLESS_BEGINNINGS: [&str; 34] = [
    "task [",
    "ok ", "ok\t", "ok:", "pass ", "pass:", "pass\t", "passed", "--- pass", "=== run", "✓", "✔", "√", "[ run", "[       ok", "checking ", "-- looking",
    "-- performing", "-- could not find", "+ ", "skipping: ", "collecting ", "compiling ", "note: ",
    "-rw", "drwx", "lrwx", "description", "license:", "title:", "summary:", "package:", "author:", "debconf: ",
];
const HARMLESS_ENDS: [&str; 7] = [": already exists", " ok", " passed", " ... ignored", " succeeded", "should panic", "... yes"];
const CALM: [&str; 41] = [" yet,",
    "retrying", "will retry", "retry of", "ignored", "ignoring", "skip", "falling back", "fallback", "using default", "using the default", "fixed", "fixes ", "* fix ",
    "- fix ", "+ handle", "handle error", "recovered", "not an error", "no error", "0 errors", "without error", "e.g.", "for example", "such as",
    "error handling", "deprecated", "optional", "xfail", "cache miss", "succeeded", "already satisfied", "closes:", "continuing", "harmless", "policy-rc.d",
    "invoke-rc.d", "condition check", "so not removed", "non-fatal", "nonfatal",
];
const CHATTER: [&str; 22] = [
    "level\":\"info", "level\": \"info", "level\":\"debug", "level\": \"debug", "\"level\":30", "\"level\":20", "severity\":\"info", "severity\": \"info",
    "severity\":\"notice", "severity\":\"debug", "level=info", "level=debug", "level=trace", "lvl=info", "lvl=dbug", "lvl=debug", "npm verb", "npm silly",
    "[info]", "[debug]", "[trace]", "[notice]",
];
const CODE_BEGINNINGS: [&str; 44] = [
    "//", "/*", "* ", "#include", "#define", "#if", "#error", "#warning", "<!--", "def ", "return ", "raise ", "throw ", "if ", "elif ", "else", "for ", "while ", "case ",
    "print", "echo ", "import ", "from .", "assert ", "const ", "let ", "var ", "func ", "fn ", "class ", "static ", "public ", "private ", "$ ", ">>> ",
    "msgstr ", "msgid ", "<p", "<div", "except ", "with ", "trap ", "export ", "\"\"\"",
];
const CODE: [&str; 24] = [
    "(\"", "('", "%s", "%d", "%v", "{}", "\\n\"", "&&", "||", " == ", " != ", " = ", " => ", " -> ", "\");", ");", "</", "$(", "${", "console.", "log.", ".into()", "f\"",
    "errors.",
];

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
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
    [&b"error"[..], b"warn", b"warning", b"fatal", b"critical", b"severe", b"err", b"crit", b"alert", b"emerg"].contains(&&bare[..length])
        && bare[length..].iter().all(|byte| !byte.is_ascii_alphanumeric())
}
