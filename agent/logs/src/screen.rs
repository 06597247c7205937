//! What a terminal would do with a stream: the text it shows, and how its cursor moves. Blocks of output go in; pieces come out.
//! Source: ECMA-48, and xterm's `ctlseqs`.

use serde::{Deserialize, Serialize};

const ESC: u8 = 0x1b;
const BACKSPACE: u8 = 0x08;

/// What the bytes so far leave to be seen to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[default]
    Plain,
    /// Behind a `\r`: what comes next tells whether it ends the line or begins it again.
    Returned,
    /// Behind an ESC.
    Escape,
    /// Behind an ESC and what says that its last byte only chooses something, as a character set.
    Choice,
    /// In `ESC [ … letter`.
    Control,
    /// In `ESC ] … BEL` or another string, as a window's title is.
    Text,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Screen {
    state: State,
    /// The numbers of a control sequence, and which of them is being read.
    numbers: [u16; 2],
    at: usize,
    /// Whether it is one of a terminal's own, or has more to it: none of those moves the cursor.
    is_private: bool,
}

/// A part of what was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text and lines' ends.
    Text(&'a [u8]),
    Move(Move),
}

/// What moves the cursor or erases text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// A string has ended, such as a title: what stands around it now stands together.
    Nothing,
    Return,
    Back,
    /// `ESC letter`.
    Escape(u8),
    /// `ESC [ numbers letter`.
    Control(u8, [u16; 2]),
}

/// Where in a block the next byte is that moves the cursor, or begins what may. Other controls do nothing, and are left out of what
/// is shown in the end.
#[inline]
fn find_control(block: &[u8]) -> Option<usize> {
    memchr::memchr3(ESC, b'\r', BACKSPACE, block)
}

impl Screen {
    /// Whether all of a block goes through as it is.
    #[inline]
    pub(crate) fn is_plain(&self, block: &[u8]) -> bool {
        self.state == State::Plain && find_control(block).is_none()
    }

    /// Adds to `text` what the beginning of `block` shows, as far as it colours its text alone and ends lines with `\r\n`; returns how
    /// much of the block that is. Nearly all logs with escape sequences are such, and need no pieces.
    pub(crate) fn take_coloured(&self, block: &[u8], text: &mut Vec<u8>) -> usize {
        let mut at = 0;
        if self.state != State::Plain {
            return at;
        }
        loop {
            let Some(length) = find_control(&block[at..]) else {
                text.extend_from_slice(&block[at..]);
                return block.len();
            };
            text.extend_from_slice(&block[at..at + length]);
            at += length;
            let rest = &block[at..];
            let numbers = rest.iter().skip(2).take_while(|byte| matches!(byte, b'0'..=b';')).count();
            match rest {
                [b'\r', b'\n', ..] => {
                    text.extend_from_slice(b"\r\n");
                    at += 2;
                }
                [ESC, b'[', ..] if rest.get(2 + numbers) == Some(&b'm') => at += numbers + 3,
                _ => return at,
            }
        }
    }

    /// The next piece of `block`, which is taken from its front; `None` at its end.
    pub(crate) fn next<'a>(&mut self, block: &mut &'a [u8]) -> Option<Piece<'a>> {
        loop {
            let (&first, rest) = block.split_first()?;
            match self.state {
                State::Plain => {
                    let end = find_control(block).unwrap_or(block.len());
                    if end > 0 {
                        let (piece, rest) = block.split_at(end);
                        *block = rest;
                        return Some(Piece::Text(piece));
                    }
                    *block = rest;
                    match first {
                        ESC => self.state = State::Escape,
                        BACKSPACE => return Some(Piece::Move(Move::Back)),
                        _ => self.state = State::Returned,
                    }
                }
                State::Returned => match first {
                    b'\r' => *block = rest,
                    b'\n' => {
                        self.state = State::Plain;
                        *block = rest;
                        return Some(Piece::Text(b"\r\n"));
                    }
                    _ => {
                        self.state = State::Plain;
                        return Some(Piece::Move(Move::Return));
                    }
                },
                // A line's end is never part of a sequence: a sequence that was cut off must not swallow the log.
                _ if first == b'\n' => self.state = State::Plain,
                State::Escape => {
                    *block = rest;
                    self.state = State::Plain;
                    match first {
                        b'[' => self.begin_control(),
                        b']' | b'P' | b'_' | b'^' | b'X' => self.state = State::Text,
                        ESC => self.state = State::Escape,
                        0x20..0x30 => self.state = State::Choice,
                        b'7' | b'8' | b'D' | b'E' | b'M' | b'c' => return Some(Piece::Move(Move::Escape(first))),
                        b'\\' => return Some(Piece::Move(Move::Nothing)),
                        _ => {}
                    }
                }
                State::Choice => {
                    self.state = if (0x20..0x30).contains(&first) { State::Choice } else { State::Plain };
                    *block = rest;
                }
                State::Control => {
                    *block = rest;
                    if let Some(moved) = self.control(first) {
                        return Some(Piece::Move(moved));
                    }
                }
                State::Text => {
                    *block = rest;
                    self.state = match first {
                        0x07 => State::Plain,
                        ESC => State::Escape,
                        _ => State::Text,
                    };
                    if first == 0x07 {
                        return Some(Piece::Move(Move::Nothing));
                    }
                }
            }
        }
    }

    fn begin_control(&mut self) {
        *self = Self { state: State::Control, ..Self::default() };
    }

    /// Takes a byte of a control sequence; its last one may say how the cursor moves.
    fn control(&mut self, byte: u8) -> Option<Move> {
        match byte {
            b'0'..=b'9' => {
                if let Some(number) = self.numbers.get_mut(self.at) {
                    *number = number.saturating_mul(10).saturating_add((byte - b'0').into());
                }
            }
            b';' => self.at += 1,
            0x20..0x40 => self.is_private = true,
            ESC => self.state = State::Escape,
            0x40..0x7f => {
                self.state = State::Plain;
                let moves = b"ABCDEFGHJKLMPSX@`adefrsu".contains(&byte) && !self.is_private;
                return moves.then_some(Move::Control(byte, self.numbers));
            }
            // Cancelled.
            0x18 | 0x1a => self.state = State::Plain,
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `log`, with the moves between angle brackets.
    fn pieces(blocks: &[&[u8]]) -> String {
        let (mut screen, mut shown) = (Screen::default(), Vec::new());
        for block in blocks {
            let mut block = *block;
            while let Some(piece) = screen.next(&mut block) {
                match piece {
                    Piece::Text(text) => shown.extend_from_slice(text),
                    Piece::Move(Move::Nothing) => {}
                    Piece::Move(Move::Return) => shown.push(b'<'),
                    Piece::Move(Move::Back) => shown.extend_from_slice(b"<b>"),
                    Piece::Move(Move::Escape(last)) => shown.extend([b'<', b'e', last, b'>']),
                    Piece::Move(Move::Control(last, [n, m])) => {
                        shown.extend(format!("<{}{n};{m}>", char::from(last)).into_bytes());
                    }
                }
            }
        }
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn what_moves_the_cursor_is_told_from_text_wherever_blocks_end() {
        let cases = [
            ("plain\n", "plain\n"),
            ("\x1b[1;31merror\x1b[0m: x\n", "error: x\n"),
            ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
            ("\x1bPq#0;2\x1b\\a\x1b_apc\x1b\\b", "ab"),
            ("\x1b(Ba\x1b=b\x1b[?25hc\x1b%Gd\x1b#8", "abcd"),
            ("10%\r20%\r100%\r\n", "10%<20%<100%\r\n"),
            ("a\r\r\nb\r\n", "a\r\nb\r\n"),
            ("\x1b[2K\r\x1b[32m5%", "<K2;0><5%"),
            ("last\r", "last"),
            ("cut \x1b[31\nnext\n", "cut \nnext\n"),
            ("\x1b[12;7Hx\x1b[3Ay\x1b[Bz\x1b7\x1b8", "<H12;7>x<A3;0>y<B0;0>z<e7><e8>"),
            ("\x1b[?1049h\x1b[>4;2m\x1b[1 q\x1b[99999999999Gx", "<G65535;0>x"),
            ("1/9\x08\x08\x082/9", "1/9<b><b><b>2/9"),
            ("\x1b\x1b[31mx\x1b[3\x1b[31my\x1b[3\x18z", "xyz"),
        ];
        for (log, want) in cases {
            let log = log.as_bytes();
            assert_eq!(pieces(&[log]), want);
            for cut in 0..log.len() {
                assert_eq!(pieces(&[&log[..cut], &log[cut..]]), want, "cut at {cut}");
            }
        }
    }
}
