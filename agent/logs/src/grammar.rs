//! Whether a line with a sign means a failure. A word such as `failed` is in many lines of jobs that do well: what counts is where
//! in a clause it stands, what stands beside it, and what kind of line it is: a message, a line of code, a sentence of prose.

mod place;
mod shape;
mod tone;
mod words;

use std::cell::OnceCell;

use self::{
    shape::{Line, contains, is_word},
    tone::Tone,
};
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
/// What the lines before a line are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    kind: Kind,
    /// Whether the last of them may be a sentence that is not finished.
    is_open: bool,
}

/// In the middle of a listing or a text a line is taken for one of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    /// A log with lines like those of a text.
    Mixed,
    Code,
    Prose,
}

/// How many lines before a line are looked at.
const CONTEXT_LINES: usize = 4;

impl Context {
    pub(crate) const LOG: Self = Self { kind: Kind::Log, is_open: false };

    /// The context of what follows `before`.
    pub(crate) fn after(before: &[u8]) -> Self {
        let (mut code, mut prose, mut is_open, mut low) = (0, 0, false, [0; 256]);
        let before = before.strip_suffix(b"\n").unwrap_or(before);
        let lines = before.rsplit(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
        for (number, raw) in lines.take(CONTEXT_LINES) {
            let raw = &raw[raw.len().saturating_sub(low.len())..];
            let raw = raw.trim_ascii_end();
            let low = &mut low[..raw.len()];
            low.copy_from_slice(raw);
            low.make_ascii_lowercase();
            let line = Line::new(raw, low);
            code += usize::from(line.is_code() || line.is_listing());
            prose += usize::from(line.is_prose());
            is_open |= number == 0 && line.is_open();
        }
        let kind = match () {
            () if code > CONTEXT_LINES / 2 => Kind::Code,
            () if code + prose > CONTEXT_LINES / 2 => Kind::Prose,
            () if code + prose == CONTEXT_LINES / 2 => Kind::Mixed,
            () => Kind::Log,
        };
        Self { kind, is_open }
    }
}

/// What a line means. `around` is asked for where there is a sign.
pub(crate) fn judge(content: &[u8], around: impl Fn() -> Context) -> Option<Judgement> {
    let raw = &content[..content.len().min(MAX_JUDGED_BYTES)];
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw).trim_ascii_end();
    let mut low = [0; MAX_JUDGED_BYTES];
    let low = &mut low[..raw.len()];
    low.copy_from_slice(raw);
    low.make_ascii_lowercase();
    let line = Line::new(raw, low);
    if line.is_path() {
        return None;
    }
    let known = OnceCell::new();
    let before = || *known.get_or_init(&around);
    let (mut tone, mut is_code, mut judgement): (Option<Tone>, Option<bool>, Option<Judgement>) = (None, None, None);
    // Signs may end with the line's end.
    signs::all(&content[..content.len().min(raw.len() + 1)], |found| {
        let Some(weight) = line.weigh(&found, &|| before().is_open) else { return };
        let tone = *tone.get_or_insert_with(|| line.tone());
        let is_harmless = match tone {
            Tone::Plain | Tone::Warning => false,
            Tone::Calm => weight < 2,
            Tone::Harmless => weight < 3,
        };
        if is_harmless
            || (found.group.goes_on == GoesOn::No || found.group.place == Place::Exception)
                && *is_code.get_or_insert_with(|| line.is_code())
                && !line.is_label(&found)
                && !line.is_crash(&found)
        {
            return;
        }
        let weight = if tone == Tone::Warning && weight == 1 { 0 } else { weight };
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
    let judgement = judgement.filter(|judgement| judgement.weight > 0 || !line.is_long_sentence());
    let judgement = judgement?;
    // Neither a listing nor a text has such lines: what is around it need not be looked at.
    if judgement.weight > 0 && line.stands_out() {
        return Some(judgement);
    }
    Some(judgement).filter(|judgement| match before().kind {
        Kind::Log => true,
        Kind::Mixed => judgement.weight > 0 || !line.is_prose(),
        Kind::Code => false,
        Kind::Prose => judgement.weight > 2 || judgement.weight > 0 && !line.is_prose(),
    })
}

impl Line<'_> {
    /// What one sign in this line weighs.
    fn weigh(&self, found: &Found, is_open: &dyn Fn() -> bool) -> Option<u8> {
        let marks = found.sign.bytes().take_while(|byte| b"\n [(:)\"".contains(byte)).count();
        let (at, end) = (found.at + marks, found.at + found.sign.len());
        let weight = found.group.weight;
        let is_about_fix = found.group.place != Place::Anywhere
            && contains(&self.low[..found.at], b"fix")
            && (self.low.trim_ascii_start().starts_with(b"fix") || contains(&self.low[..found.at], b" fix"));
        let place = found.group.place;
        let stands_alone = matches!(place, Place::Anywhere | Place::Number | Place::Http | Place::Line)
            || found.at == 0 && matches!(place, Place::Error | Place::Fatal);
        if self.low[..found.at].ends_with(b"non-")
            || is_about_fix
            || !stands_alone
                && self.is_fragment()
                && !self.is_named_subject(found.at)
                && (self.is_indented() || is_open())
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
                        && !(starts && (weight > 1 || self.has_thing())
                            || weight > 1 && self.is_named_subject(found.at)) =>
                    {
                        self.is_report(found.at).then_some(u8::from(weight > 1))
                    }
                    true => Some(weight),
                    false if matches!(place, Place::EdgeOnly | Place::End) => None,
                    false => self
                        .is_report(found.at)
                        .then_some(u8::from(weight > 2 || self.has_prefix() && !self.is_sentence())),
                }
            }
            Place::Predicate => {
                let is_whole = found.sign.ends_with(' ') || self.low.get(end).is_none_or(|byte| !is_word(*byte));
                let is_counted = found.sign == " not " && self.token_before(at).last().is_some_and(u8::is_ascii_digit);
                let lacks_good = found.sign.ends_with("no ") && self.is_good_to_lack(end);
                if !is_whole || is_counted || lacks_good {
                    return None;
                }
                let is_short = self.words(self.clause(at), at) <= 5 && self.has_thing();
                self.is_report(found.at).then_some(u8::from(is_short && !self.is_sentence()))
            }
            Place::Number => self.number_after(end).then_some(1),
            Place::Http => self.http_error(end),
            Place::Error => self.error(at, end - 1, weight),
            Place::Fatal => self.fatal(at, end, weight),
            Place::Exception => self.exception(found.at, weight),
            Place::Failed => self.failed(at, end),
            Place::Found => self.found(found.at, end),
            Place::None => self.none(at),
            Place::Line => self.place_in_code(found.at, end - 1),
        }
    }
}
