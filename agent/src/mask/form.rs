//! One form of a secret, and how a text has it. An encoded one may be broken into lines, as `base64` does it: wherever the first
//! break is, the others follow at one width.

use serde::{Deserialize, Serialize};

/// What breaks a line: for a program, on a terminal, in JSON.
const BREAKS: [&[u8]; 3] = [b"\n", b"\r\n", b"\\n"];
/// A form that is broken sooner is not known by its beginning: many a line ends with some form's first letter, and would be held
/// back until the next one comes.
const MIN_BEFORE_BREAK: usize = 2;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form {
    pub(super) bytes: Vec<u8>,
    /// Only found in one piece. Sorted behind its like that is found in lines too.
    pub(super) in_one_piece: bool,
}

/// What a text has of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met {
    Nothing,
    /// As much as there is of the text.
    Cut(Wrap),
    /// All, in so many bytes.
    Whole(usize),
}

/// How a form is broken into lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wrap {
    /// Where the first break is, in bytes of the form; 0 where there is none.
    first: usize,
    /// From one break to the next; 0 while there is one at most.
    width: usize,
    /// Which of [`BREAKS`].
    kind: usize,
}

impl Wrap {
    /// Whether there has to be a break at this place of the form, as far as is known.
    fn wants_break(self, at: usize) -> bool {
        self.width > 0 && (at - self.first).is_multiple_of(self.width)
    }

    /// Takes a break at this place, after one at `last`; none where it does not fit those before it.
    fn with_break(self, at: usize, last: usize, kind: usize) -> Option<Self> {
        match self {
            Self { first: 0, .. } if at >= MIN_BEFORE_BREAK => Some(Self { first: at, width: 0, kind }),
            Self { width: 0, first, kind: known } if first > 0 && known == kind => {
                Some(Self { first, width: at - last, kind })
            }
            Self { kind: known, .. } if self.wants_break(at) && known == kind => Some(self),
            _ => None,
        }
    }
}

impl Form {
    /// Looks for the form at the text's beginning.
    pub(super) fn meet(&self, text: &[u8]) -> Met {
        let form = self.bytes.as_slice();
        if self.in_one_piece {
            return match () {
                () if text.starts_with(form) => Met::Whole(form.len()),
                () if form.starts_with(text) => Met::Cut(Wrap::default()),
                () => Met::Nothing,
            };
        }
        let mut wrap = Wrap::default();
        // In the form; of the last break; in the text.
        let (mut at, mut last, mut taken) = (0, 0, 0);
        while at < form.len() {
            let rest = &text[taken..];
            if rest.is_empty() {
                return Met::Cut(wrap);
            }
            if rest[0] == form[at] && (at == last || !wrap.wants_break(at)) {
                (at, taken) = (at + 1, taken + 1);
                continue;
            }
            let broken =
                BREAKS.iter().position(|line_break| rest.starts_with(line_break) || line_break.starts_with(rest));
            let wrapped = broken.filter(|_| at > last).and_then(|kind| wrap.with_break(at, last, kind));
            let (Some(kind), Some(wrapped)) = (broken, wrapped) else { return Met::Nothing };
            (wrap, last) = (wrapped, at);
            taken = text.len().min(taken + BREAKS[kind].len());
        }
        Met::Whole(taken)
    }

    /// The first bytes of a text that has the form broken so.
    pub(super) fn beginning(&self, wrap: Wrap, bytes: usize) -> Vec<u8> {
        let line_break = BREAKS.get(wrap.kind).copied().unwrap_or_default();
        let mut text = Vec::new();
        for (at, byte) in self.bytes.iter().enumerate() {
            if at > 0 && (at == wrap.first || (at > wrap.first && wrap.wants_break(at))) {
                text.extend_from_slice(line_break);
            }
            text.push(*byte);
        }
        text.truncate(bytes);
        text
    }
}
