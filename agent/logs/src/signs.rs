//! The words by which a line looks like the reason of a failure, and a search for all of them at once that is cheaper than a
//! search for one each: every fourth position is looked at, as a sign of six bytes or more covers one in any case, with the three
//! bytes that follow (Wu and Manber, "A fast algorithm for multi-pattern searching", 1994).

use std::{ops::Range, sync::OnceLock};

/// What a line may contain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    text: &'static str,
    /// How much it tells: 3 names a crash, 2 an error, 1 a hint.
    pub(crate) weight: u8,
    /// Which of the lines that follow belong to it.
    pub(crate) goes_on: GoesOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoesOn {
    No,
    /// Those that are indented or empty, as a stack trace is.
    Indented,
    /// And then one more, which says what is wrong, and what is indented behind it.
    AndOne,
}

const fn trace(weight: u8, goes_on: GoesOn, text: &'static str) -> Sign {
    Sign { text, weight, goes_on }
}

const fn line(weight: u8, text: &'static str) -> Sign {
    Sign { text, weight, goes_on: GoesOn::No }
}

/// A sign of small letters stands for capitals too, and for one capital at its beginning. None is part of another.
pub(crate) static SIGNS: [Sign; 77] = [
    trace(3, GoesOn::AndOne, "Traceback (most recent call last)"),
    trace(3, GoesOn::AndOne, "panicked at"),
    trace(3, GoesOn::AndOne, "panic: "),
    trace(3, GoesOn::Indented, "Exception in thread"),
    trace(3, GoesOn::Indented, "caused by:"),
    trace(3, GoesOn::Indented, "terminate called "),
    trace(3, GoesOn::Indented, "uncaught "),
    trace(3, GoesOn::Indented, "unhandled "),
    trace(3, GoesOn::Indented, "smashing detected"),
    trace(3, GoesOn::Indented, "Sanitizer:"),
    trace(3, GoesOn::Indented, "r [ERR_"),
    trace(2, GoesOn::Indented, "Error)"),
    trace(2, GoesOn::Indented, "Error in "),
    trace(2, GoesOn::Indented, "Exception: "),
    trace(2, GoesOn::Indented, "Exception\n"),
    line(3, "segmentation fault"),
    line(3, "segfault"),
    line(3, "SIGSEGV"),
    line(3, "SIGABRT"),
    line(3, "SIGBUS"),
    line(3, "caught signal"),
    line(3, "illegal instruction"),
    line(3, "floating point exception"),
    line(3, "(core dumped)"),
    line(3, "free(): "),
    line(3, "loc(): "),
    line(3, "out of memory"),
    line(3, "OutOfMemory"),
    line(3, "cannot allocate memory"),
    line(3, "no space left on device"),
    line(3, "fatal:"),
    line(3, "fatal "),
    line(3, "fatal]"),
    line(3, "FATAL\t"),
    line(3, "\"FATAL"),
    line(3, ":\"fatal\""),
    line(3, ": \"fatal\""),
    line(3, "level=fatal"),
    line(3, "\"level\":60"),
    line(3, "CRITICAL"),
    line(3, "[crit]"),
    line(3, "[emerg]"),
    line(3, "Assertion "),
    line(3, "MPI_ABORT"),
    line(2, "error: "),
    line(2, "ERROR:"),
    line(2, "ERROR "),
    line(2, "ERROR\t"),
    line(2, "error]"),
    line(2, "\"ERROR"),
    line(2, "error["),
    line(2, "level=error"),
    line(2, ":\"error\""),
    line(2, ": \"error\""),
    line(2, "\"level\":50"),
    line(2, "SEVERE:"),
    line(2, "npm ERR!"),
    line(2, "npm error"),
    line(2, "] Error "),
    line(2, ".  Stop."),
    line(2, "BUILD FAIL"),
    line(2, "undefined reference"),
    line(2, "unbound variable"),
    line(2, "syntax error"),
    line(2, "exec format error"),
    line(2, "invalid pointer"),
    line(2, "Killed"),
    line(2, "Aborted"),
    line(2, "Bus error"),
    line(1, "such file or directory"),
    line(1, "permission denied"),
    line(1, "connection refused"),
    line(1, "connection reset"),
    line(1, "Read timed out"),
    line(1, "connection timed out"),
    line(1, "not found"),
    line(1, "failed"),
];

const STEP: usize = 4;
const BUCKET_BITS: u32 = 14;
const FOUR_BITS: u32 = 17;

/// Where in a sign a gram stands.
struct Spot {
    /// With the byte that follows, as far as `mask` has it.
    gram: u32,
    mask: u32,
    /// One of the ways to write the sign.
    text: &'static [u8],
    sign: &'static Sign,
    offset: usize,
    next: u16,
}

struct Table {
    /// Where the spots of each bucket are; 0 is none. A byte each, as wider ones are slower: so some share a place.
    buckets: [u8; 1 << BUCKET_BITS],
    /// The first spot of each place, from 1, and the spots.
    places: [u16; 256],
    spots: Vec<Spot>,
    used: u8,
    /// Which grams with their fourth byte there are: a look here, before any at the spots, spares most of those.
    fours: [u8; 1 << (FOUR_BITS - 3)],
}

/// Made when it is first used: in the binary it would take more than what makes it.
static TABLE: OnceLock<Box<Table>> = OnceLock::new();

fn table() -> Table {
    let mut table = Table {
        buckets: [0; 1 << BUCKET_BITS],
        places: [0; 256],
        spots: Vec::with_capacity(SIGNS.len() * 3 * STEP),
        used: 0,
        fours: [0; 1 << (FOUR_BITS - 3)],
    };
    for sign in &SIGNS {
        let upper = sign.text.to_ascii_uppercase();
        let title = upper[..1].to_owned() + &sign.text[1..];
        let is_exact = sign.text != sign.text.to_ascii_lowercase();
        for text in [sign.text.to_owned(), title, upper].into_iter().take(if is_exact { 1 } else { 3 }) {
            table.add(sign, text.leak().as_bytes());
        }
    }
    table
}

/// The bucket of three bytes; a fourth does not matter.
#[inline]
const fn bucket(gram: u32) -> usize {
    ((gram << 8).wrapping_mul(0x9e37_79b1) >> (32 - BUCKET_BITS)) as usize
}

/// The place of four bytes, a bit.
#[inline]
const fn four(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - FOUR_BITS)) as usize
}

/// The first sign in `text` from `start` on: where it begins, and which it is.
pub(crate) fn find(text: &[u8], start: usize) -> Option<(usize, &'static Sign)> {
    let table = TABLE.get_or_init(|| Box::new(table()));
    let three = |grams: &[u8], at| table.buckets[bucket(gram(grams, at))];
    let four = |grams: &[u8], at| {
        let place = four(gram(grams, at));
        table.fours[place / 8] >> (place % 8) & 1
    };
    let mut at = start;
    for grams in text[start..].chunks_exact(4 * STEP) {
        if (three(grams, 0) | three(grams, 4) | three(grams, 8) | three(grams, 12)) != 0
            && (four(grams, 0) | four(grams, 4) | four(grams, 8) | four(grams, 12)) != 0
            && let Some(found) = table.sign_at(text, start, at..at + 4 * STEP)
        {
            return Some(found);
        }
        at += 4 * STEP;
    }
    table.sign_at(text, start, at..text.len())
}

#[inline]
fn gram(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(gram) => u32::from_le_bytes([gram[0], gram[1], gram[2], gram[3]]),
        None => bytes[at..].iter().rev().fold(0, |gram, byte| gram << 8 | u32::from(*byte)),
    }
}

impl Table {
    /// Adds the places of a sign, which may be written so.
    fn add(&mut self, sign: &'static Sign, text: &'static [u8]) {
        for offset in 0..STEP {
            let gram = gram(text, offset);
            let (mask, fourths) = if offset + 4 > text.len() { (u32::MAX >> 8, 256) } else { (u32::MAX, 1) };
            for fourth in 0..fourths {
                let place = four(gram | fourth << 24);
                self.fours[place / 8] |= 1 << (place % 8);
            }
            let place = &mut self.buckets[bucket(gram)];
            if *place == 0 {
                self.used = self.used % u8::MAX + 1;
                *place = self.used;
            }
            let next = &mut self.places[usize::from(*place)];
            self.spots.push(Spot { gram, mask, text, sign, offset, next: *next });
            *next = u16::try_from(self.spots.len()).unwrap_or(0);
        }
    }

    /// The sign that covers one of the looked-at positions in `range`. Apart from the search, which needs all registers.
    #[inline(never)]
    fn sign_at(&self, text: &[u8], start: usize, range: Range<usize>) -> Option<(usize, &'static Sign)> {
        for at in range.step_by(STEP) {
            let gram = gram(text, at);
            let mut next = self.places[usize::from(self.buckets[bucket(gram)])];
            while next > 0 {
                let spot = &self.spots[usize::from(next) - 1];
                let begin = at.wrapping_sub(spot.offset);
                if (spot.gram ^ gram) & spot.mask == 0
                    && begin >= start
                    && let Some(after) = text.get(begin..).and_then(|text| text.strip_prefix(spot.text))
                    && !spot.sign.is_denied(&text[..begin], after)
                {
                    return Some((begin, spot.sign));
                }
                next = spot.next;
            }
        }
        None
    }
}

impl Sign {
    /// Whether what stands around it says that it is not so: `non-fatal`, and of a hint `0 failed` or `failed=0`.
    fn is_denied(&self, before: &[u8], after: &[u8]) -> bool {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
        let is_none_before = match before {
            [before @ .., b'0', b' '] => !before.last().is_some_and(is_part),
            _ => false,
        };
        let value = after.iter().position(|byte| !b" \":=".contains(byte)).unwrap_or(0);
        let is_none_after = value > 0 && after[value] == b'0' && !after.get(value + 1).is_some_and(is_part);
        before.last_chunk().is_some_and(|before: &[u8; 4]| before.eq_ignore_ascii_case(b"non-"))
            || self.weight == 1 && (is_none_before || is_none_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sign_is_missed_wherever_it_stands() {
        for sign in &SIGNS {
            for before in 0..40 {
                for after in [0, 1, 30] {
                    let text = [&vec![b'.'; before][..], sign.text.as_bytes(), &vec![b'.'; after]].concat();
                    assert_eq!(find(&text, 0), Some((before, sign)), "{}", String::from_utf8_lossy(&text));
                    assert_eq!(find(&text, before).map(|found| found.0), Some(before));
                    assert_eq!(find(&text, before + 1), None);
                    assert_eq!(find(&text[..before + sign.text.len() - 1], 0), None, "a part is no sign");
                }
            }
        }
        for (text, is_sign) in [
            ("Failed to", true),
            ("FAILED: x", true),
            ("fAiled to", false),
            ("Killed", true),
            ("unskilled, killed", false),
            ("10 passed, 0 failed", false),
            ("10 passed, 10 failed", true),
            ("loss 1.0 failed", true),
            ("ok=3 failed=0", false),
            ("ok=3 failed=01", true),
            ("{\"failed\": 0, \"ok\": 1}", false),
            ("rank 0 ERROR: 0", true),
            ("a Non-fatal problem", false),
            ("a fatal problem", true),
        ] {
            assert_eq!(find(text.as_bytes(), 0).is_some(), is_sign, "{text}");
        }
        assert_eq!(find(b"step 100 of 200: loss 0.123, all is well", 0), None);
    }
}
