//! What a terminal would still show of a stream: without colours and other escape sequences, and of a line that was written over
//! with `\r`, as progress bars do, only the last state. Blocks of output go in; pieces of plain text come out.

use serde::{Deserialize, Serialize};

const ESC: u8 = 0x1b;

/// What the bytes so far leave to be seen to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Screen {
    #[default]
    Plain,
    /// Behind a `\r`: what comes next tells whether it ends the line or begins it again.
    Returned,
    /// Behind an ESC.
    Escape,
    /// In `ESC [ … letter`.
    Control,
    /// In `ESC ] … BEL` or another string, as a window's title is.
    Text,
}

/// A part of what was shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Plain(&'a [u8]),
    /// The line begins again.
    Again,
}

impl Screen {
    /// Whether all of a block goes through as it is.
    pub(crate) fn is_plain(self, block: &[u8]) -> bool {
        self == Self::Plain && memchr::memchr2(ESC, b'\r', block).is_none()
    }

    /// The next piece of `block`, which is taken from its front; `None` at its end.
    pub(crate) fn next<'a>(&mut self, block: &mut &'a [u8]) -> Option<Piece<'a>> {
        loop {
            let (&first, rest) = block.split_first()?;
            match *self {
                Self::Plain => {
                    let end = memchr::memchr2(ESC, b'\r', block).unwrap_or(block.len());
                    if end > 0 {
                        let (piece, rest) = block.split_at(end);
                        *block = rest;
                        return Some(Piece::Plain(piece));
                    }
                    *self = if first == ESC { Self::Escape } else { Self::Returned };
                    *block = rest;
                }
                Self::Returned => match first {
                    b'\r' => *block = rest,
                    b'\n' => {
                        *self = Self::Plain;
                        *block = rest;
                        return Some(Piece::Plain(b"\r\n"));
                    }
                    _ => {
                        *self = Self::Plain;
                        return Some(Piece::Again);
                    }
                },
                // A line's end is never part of a sequence: a sequence that was cut off must not swallow the log.
                _ if first == b'\n' => *self = Self::Plain,
                Self::Escape => {
                    *self = match first {
                        b'[' => Self::Control,
                        b']' | b'P' | b'_' | b'^' | b'X' => Self::Text,
                        // Intermediate bytes, as in the choice of a character set.
                        0x20..0x30 => Self::Escape,
                        _ => Self::Plain,
                    };
                    *block = rest;
                }
                Self::Control => {
                    if (0x40..0x7f).contains(&first) {
                        *self = Self::Plain;
                    }
                    *block = rest;
                }
                Self::Text => {
                    *self = match first {
                        0x07 => Self::Plain,
                        ESC => Self::Escape,
                        _ => Self::Text,
                    };
                    *block = rest;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of `log`, with `<` where a line begins again.
    fn shown(blocks: &[&[u8]]) -> String {
        let (mut screen, mut shown) = (Screen::default(), Vec::new());
        for block in blocks {
            let mut block = *block;
            while let Some(piece) = screen.next(&mut block) {
                shown.extend_from_slice(if let Piece::Plain(text) = piece { text } else { b"<" });
            }
        }
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn escapes_go_and_lines_begin_again() {
        let cases = [
            ("plain\n", "plain\n"),
            ("\x1b[1;31merror\x1b[0m: x\n", "error: x\n"),
            ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
            ("\x1b(Ba\x1b=b\x1b[?25hc", "abc"),
            ("10%\r20%\r100%\r\n", "10%<20%<100%\r\n"),
            ("a\r\r\nb\r\n", "a\r\nb\r\n"),
            ("\x1b[2K\r\x1b[32m5%", "<5%"),
            ("last\r", "last"),
            ("cut \x1b[31\nnext\n", "cut \nnext\n"),
        ];
        for (log, want) in cases {
            let log = log.as_bytes();
            assert_eq!(shown(&[log]), want);
            for cut in 0..log.len() {
                assert_eq!(shown(&[&log[..cut], &log[cut..]]), want, "cut at {cut}");
            }
        }
    }
}
