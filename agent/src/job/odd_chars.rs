//! Characters that web pages, chats and word processors put in place of those of a command line.
//!
//! In: a character, and where it stands. Out: its name with its code point, and the plain character to write.

use super::error::Problem;

/// What an odd character was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    DoubleQuote,
    SingleQuote,
    Dash,
    Space,
    /// Nothing is seen of it.
    Invisible,
    Ellipsis,
    /// The wide form of an ASCII character that is none of the above.
    Wide(char),
}

pub(super) fn kind(c: char) -> Option<Kind> {
    Some(match c {
        '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{2033}' | '\u{ff02}' => Kind::DoubleQuote,
        '\u{2018}'..='\u{201b}' | '\u{2032}' | '\u{2039}' | '\u{203a}' | '\u{ff07}' | '\u{b4}' => Kind::SingleQuote,
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => Kind::Dash,
        '\u{a0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200a}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{3000}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{85}' => Kind::Space,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
            Kind::Invisible
        }
        '\u{2026}' => Kind::Ellipsis,
        '\u{ff01}'..='\u{ff5e}' => Kind::Wide(char::from_u32(u32::from(c) - 0xfee0)?),
        _ => return None,
    })
}

/// `“ (U+201C, a curly quote)`; an invisible one is not shown.
pub(super) fn name(c: char) -> String {
    let code = u32::from(c);
    let what = match kind(c) {
        Some(Kind::DoubleQuote | Kind::SingleQuote) => "a curly quote",
        Some(Kind::Dash) => "a long dash",
        Some(Kind::Space) if c == '\u{a0}' => return format!("U+{code:04X} (a no-break space)"),
        Some(Kind::Space) => return format!("U+{code:04X} (a special space)"),
        Some(Kind::Invisible) => return format!("U+{code:04X} (an invisible character)"),
        Some(Kind::Ellipsis) => "an ellipsis",
        Some(Kind::Wide(_)) => "a wide character",
        None if c.is_control() => return format!("U+{code:04X} (a control character)"),
        None => return format!("{c} (U+{code:04X})"),
    };
    format!("{c} (U+{code:04X}, {what})")
}

/// What to write instead.
pub(super) fn instead(kind: Kind) -> String {
    match kind {
        Kind::DoubleQuote => "write \" instead".to_owned(),
        Kind::SingleQuote => "write ' instead".to_owned(),
        Kind::Dash => "write - instead".to_owned(),
        Kind::Space => "write an ordinary space instead".to_owned(),
        Kind::Invisible => "delete it".to_owned(),
        Kind::Ellipsis => "write out what it stands for".to_owned(),
        Kind::Wide(plain) => format!("write {plain} instead"),
    }
}

/// The first character of a text that was refused that is not what it looks like, as the likely reason.
pub(super) fn explain(text: &str, problem: Problem) -> Problem {
    match text.chars().find_map(|c| kind(c).map(|kind| (c, kind))) {
        Some((c, kind)) => problem.because(&format!("it has {} in it", name(c)), instead(kind)),
        None => problem,
    }
}

/// An odd character outside quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Odd {
    pub(super) c: char,
    pub(super) kind: Kind,
    /// The index of its word.
    pub(super) word: usize,
    /// The byte of the text at which it stands.
    pub(super) at: usize,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
    /// What comes before and after it in its word.
    pub(super) before: Option<char>,
    pub(super) after: Option<char>,
}

impl Odd {
    /// Whether it is wrong in a flag, a flag's value or the image. A letter's apostrophe or a dash inside of a value is a
    /// text of its author's.
    pub(super) fn is_wrong_before_args(&self, word: &str) -> bool {
        let is_flag = word.starts_with('-');
        let is_in_name = is_flag && !self.follows_equals(word);
        match self.kind {
            Kind::DoubleQuote | Kind::Space | Kind::Invisible => true,
            Kind::SingleQuote => self.is_first || self.is_last || self.before == Some('='),
            Kind::Dash => self.is_first || is_in_name,
            Kind::Ellipsis => (self.is_first || self.before == Some('=')) && self.is_last,
            Kind::Wide(_) => is_in_name,
        }
    }

    /// Whether it is wrong in what is passed to the program: where it opens a quote that is closed in another word, begins an
    /// option, or separates words.
    pub(super) fn is_wrong_in_args(&self, word: &str) -> bool {
        match self.kind {
            Kind::DoubleQuote | Kind::SingleQuote => {
                let begin = word.find(self.c).map_or(0, |at| at + self.c.len_utf8());
                let is_closed = word[begin..].chars().any(|c| kind(c) == Some(self.kind));
                (self.is_first || self.before == Some('=')) && !self.is_last && !is_closed
            }
            Kind::Dash => self.is_first && self.after.is_some_and(|c| c.is_ascii_alphabetic() || c == '-'),
            Kind::Space => self.c != '\u{3000}',
            Kind::Invisible | Kind::Ellipsis | Kind::Wide(_) => false,
        }
    }

    /// Whether it may be one of a text, and may also be a slip.
    pub(super) fn is_doubtful_in_args(&self) -> bool {
        match self.kind {
            Kind::DoubleQuote | Kind::SingleQuote => self.is_first || self.before == Some('='),
            Kind::Invisible => !matches!(self.c, '\u{200c}'..='\u{200f}'),
            Kind::Ellipsis => self.is_first && self.is_last,
            Kind::Dash | Kind::Space | Kind::Wide(_) => false,
        }
    }

    fn follows_equals(&self, word: &str) -> bool {
        word.find('=').is_some_and(|equals| word.find(self.c).is_some_and(|at| at > equals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_with_its_code_point_and_with_what_to_write() {
        let cases = [
            ('“', "“ (U+201C, a curly quote)", "write \" instead"),
            ('’', "’ (U+2019, a curly quote)", "write ' instead"),
            ('–', "– (U+2013, a long dash)", "write - instead"),
            ('\u{a0}', "U+00A0 (a no-break space)", "write an ordinary space instead"),
            ('\u{200b}', "U+200B (an invisible character)", "delete it"),
            ('…', "… (U+2026, an ellipsis)", "write out what it stands for"),
            ('＝', "＝ (U+FF1D, a wide character)", "write = instead"),
        ];
        for (c, named, fix) in cases {
            assert_eq!((name(c).as_str(), instead(kind(c).unwrap()).as_str()), (named, fix));
        }
        for c in ['é', 'ß', '日', '🎉', 'a', '"', '-'] {
            assert_eq!(kind(c), None, "{c}");
        }
    }
}
