//! The gate that every text passes on its way out of the agent: report, log lines, live view, guest attributes, answers on a terminal.
//! It masks what must not be known (the job's secrets, the VM's tokens), and escapes what would make a line look like another.

mod tree;

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt::Write,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};

pub use self::tree::Tree;
use crate::mask::Masker;

/// Each attempt of a job may have other versions of its secrets.
const MAX_MASKERS: usize = 2;
/// The server hands out a new token each hour, another for each audience; an old one soon opens nothing.
const MAX_TOKENS: usize = 4;
/// Of a text from outside no more is shown in a line.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// What is known of that must not be shown. Cheap to clone: all clones know the same, as the log is the process's and the secrets are a run's.
#[derive(Clone, Default)]
pub struct Gate(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    secrets: VecDeque<Arc<Masker>>,
    tokens: VecDeque<String>,
    of_tokens: Option<Masker>,
}

/// A text that has passed the gate. Only the gate makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outgoing(String);

impl Outgoing {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the parts that `drop` takes out; what is left has passed before.
    #[must_use]
    pub fn without(&self, drop: impl FnOnce(&mut Tree)) -> Self {
        let Ok(mut tree) = serde_json::from_str(&self.0) else { return self.clone() };
        drop(&mut tree);
        Self(tree.to_json())
    }
}

impl Gate {
    /// From now on none of these is shown.
    pub fn hide_secrets(&self, masker: Arc<Masker>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.secrets.truncate(MAX_MASKERS - 1);
        known.secrets.push_front(masker);
    }

    pub fn hide_token(&self, token: &str) {
        let is_known = |known: &Known| known.tokens.iter().any(|other| other == token);
        if is_known(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.tokens.truncate(MAX_TOKENS - 1);
        known.tokens.push_front(token.to_owned());
        known.of_tokens = Some(Masker::new(known.tokens.iter().map(String::as_str)));
    }

    /// `text` with `***` for what must not be shown. To be called before anything is cut off: a part of a secret is not known any more.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let maskers = known.secrets.iter().map(|masker| &**masker).chain(&known.of_tokens);
        maskers.fold(Cow::Borrowed(text), |text, masker| masker.mask(&text).into())
    }

    /// `text` as it may be logged: masked, and not too long.
    pub fn text(&self, text: &str) -> String {
        // Far more than can be shown would be looked through for nothing.
        let masked = self.mask(&text[..text.floor_char_boundary(16 * MAX_TEXT_BYTES)]);
        let end = masked.floor_char_boundary(MAX_TEXT_BYTES);
        let more = if end < masked.len() { "…" } else { "" };
        format!("{}{more}", &masked[..end])
    }

    /// The same, as a part of one line.
    pub fn line(&self, text: &str) -> String {
        printable(&self.text(text), "").into_owned()
    }

    /// JSON that the job has written, with each number that must not be shown as a text: as it stands, since one with many digits is rounded
    /// once it is read, and not known any more.
    pub fn mask_numbers(&self, json: &[u8]) -> Vec<u8> {
        let (mut shown, mut rest) = (Vec::with_capacity(json.len()), json);
        while let Some(first) = rest.first() {
            let is_number = first.is_ascii_digit() || *first == b'-';
            let length = match first {
                b'"' => string_length(rest),
                _ if is_number => {
                    rest.iter().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count()
                }
                _ => 1,
            };
            let (token, after) = rest.split_at(length);
            let number = std::str::from_utf8(token).ok().filter(|_| is_number);
            match number.map(|number| self.mask(number)) {
                Some(masked) if masked.as_bytes() != token => {
                    shown.extend([b"\"", masked.as_bytes(), b"\""].concat());
                }
                _ => shown.extend_from_slice(token),
            }
            rest = after;
        }
        shown
    }

    /// `document` as JSON, with nothing in its texts that must not be shown; in the fields `foreign`, which the job has written, nothing
    /// in numbers and names either. `own` fields are the agent's own words, and stay. `fit` cuts down what is too long.
    pub fn json(
        &self,
        document: &impl Serialize,
        own: &[&str],
        foreign: &[&str],
        fit: impl FnOnce(&mut Tree),
    ) -> Outgoing {
        let mut tree = Tree::of(document);
        let Tree::Fields(fields) = &mut tree else { return Outgoing(tree.to_json()) };
        for (name, value) in fields.iter_mut().filter(|(name, _)| !own.contains(&&**name)) {
            value.mask(&|text| self.mask(text).into_owned(), foreign.contains(&&**name));
        }
        fit(&mut tree);
        Outgoing(tree.to_json())
    }
}

/// How long the JSON string at the beginning of `json` is, with its quotes.
fn string_length(json: &[u8]) -> usize {
    let mut is_escaped = true;
    let end = json.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(json.len(), |end| end + 1)
}

/// `text` with `\\n`, `\\u001b` and the like for characters that begin a line, move a terminal's cursor, or turn the text around them; but
/// for those in `but`. JSON means the same afterwards.
pub fn printable<'a>(text: &'a str, but: &str) -> Cow<'a, str> {
    let is_escaped = |c: char| is_control(c) && !but.contains(c);
    if !text.contains(is_escaped) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' if is_escaped(c) => shown.push_str("\\n"),
            '\r' if is_escaped(c) => shown.push_str("\\r"),
            c if is_escaped(c) => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{:04x}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown.into()
}

/// C0 but for the tab, DEL, C1, the separators of lines and paragraphs, and what turns the direction of text.
/// Source: Unicode Standard Annex 9, table 4, and <https://trojansource.codes>.
fn is_control(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\t') || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A line of the job's output without colours and titles, and with its other control characters escaped.
pub fn plain_line(line: &[u8]) -> String {
    const ESC: u8 = 0x1b;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = memchr::memchr(ESC, rest) {
        plain.extend_from_slice(&rest[..at]);
        let sequence = &rest[at + 1..];
        let length = match sequence.first() {
            Some(b'[') => sequence.iter().skip(1).position(|byte| !(0x20..0x40).contains(byte)).map(|last| last + 2),
            Some(b']' | b'P' | b'X' | b'^' | b'_') => {
                let end = memchr::memchr2(0x07, ESC, sequence);
                end.map(|end| if sequence[end] == ESC { end + 2 } else { end + 1 })
            }
            Some(_) => sequence.iter().position(|byte| !(0x20..0x30).contains(byte)).map(|last| last + 1),
            None => None,
        };
        rest = &sequence[length.unwrap_or(sequence.len()).min(sequence.len())..];
    }
    plain.extend_from_slice(rest);
    printable(&String::from_utf8_lossy(&plain), "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_stays_one_line_and_moves_nothing() {
        for (text, shown) in [
            ("plain ä\t😀", "plain ä\t😀"),
            ("x\nvmjob-report {}\r\n", "x\\nvmjob-report {}\\r\\n"),
            ("\u{1b}[2J\0\u{7f}\u{85}\u{9b}", "\\u001b[2J\\u0000\\u007f\\u0085\\u009b"),
            ("a\u{2028}b\u{2029}c\u{202e}d\u{2066}e\u{200f}", "a\\u2028b\\u2029c\\u202ed\\u2066e\\u200f"),
        ] {
            assert_eq!(printable(text, ""), shown);
            let json = serde_json::to_string(text).unwrap();
            let escaped = printable(&json, "");
            assert!(!escaped.contains(is_control) && serde_json::from_str::<String>(&escaped).unwrap() == text);
        }
        assert_eq!(printable("a\nb\u{85}", "\n"), "a\nb\\u0085");
    }

    #[test]
    fn a_line_of_the_job_is_shown_without_colours_and_with_no_way_to_pass_for_another() {
        for (line, shown) in [
            (&b"plain\r\n"[..], "plain"),
            (b"\x1b[01;31m\x1b[Kred\x1b[m\x1b[K end\n", "red end"),
            (b"\x1b]0;a title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "text link"),
            (b"\x1b(B\x1bcreset\x1b", "reset"),
            (b"\x1b[31", ""),
            (b"\x1b]0;never ended", ""),
            (b"a\x08\x0b\x00\x9b\xc2\x9b", "a\\u0008\\u000b\\u0000\u{fffd}\\u009b"),
            (b"vm\x1b[0mjob-report {}\n", "vmjob-report {}"),
        ] {
            assert_eq!(plain_line(line), shown, "{line:?}");
        }
    }

    #[test]
    fn secrets_and_tokens_are_masked_before_a_text_is_cut() {
        let gate = Gate::default();
        gate.hide_secrets(Arc::new(Masker::new(["a secret of some length"])));
        for number in 0..9 {
            gate.hide_token(&format!("ya29.token-{number}"));
        }
        assert_eq!(gate.line("a secret of some length, ya29.token-8\n"), "***, ***\\n");
        let long = format!("{}a secret of some length and more", "x".repeat(MAX_TEXT_BYTES - 6));
        assert!(gate.line(&long).ends_with("x*** an…"), "{}", gate.line(&long));
    }

    #[test]
    fn a_number_is_masked_before_its_digits_are_rounded() {
        let gate = Gate::default();
        gate.hide_secrets(Arc::new(Masker::new(["987654321098765432109876"])));
        for (json, shown) in [
            ("987654321098765432109876", r#""***""#),
            (r#"{"a":-987654321098765432109876.5e1,"b":[12,1e9]}"#, r#"{"a":"-***.5e1","b":[12,1e9]}"#),
            (
                r#"["\"987654321098765432109876",1,"\\",987654321098765432109876]"#,
                r#"["\"987654321098765432109876",1,"\\","***"]"#,
            ),
            (r#"["987654321098765432109876"#, r#"["987654321098765432109876"#),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(gate.mask_numbers(json.as_bytes())).unwrap(), shown, "{json}");
        }
        assert_eq!(gate.mask_numbers(b"\xff1\""), b"\xff1\"");
    }

    #[test]
    fn what_the_job_wrote_is_masked_in_numbers_and_names_too_and_the_agent_s_own_words_stay() {
        let gate = Gate::default();
        gate.hide_secrets(Arc::new(Masker::new(["4711", "FAILED", "message"])));
        let document = serde_json::json!({"cause": "FAILED", "message": "FAILED 4711", "bytes": 47110,
            "result": {"pin": 4711, "4711": [-4711.5, true, null, {"x": "a4711"}], "e": 1.5}});
        let sent = gate.json(&document, &["cause"], &["result"], |_| ());
        let wanted = serde_json::json!({"cause": "FAILED", "message": "*** ***", "bytes": 47110,
            "result": {"pin": "***", "***": ["-***.5", true, null, {"x": "a***"}], "e": 1.5}});
        assert_eq!(serde_json::from_str::<serde_json::Value>(sent.as_str()).unwrap(), wanted);
    }
}
