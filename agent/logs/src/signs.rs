//! A search for all signs at once that is cheaper than a search for one each: every fourth position is looked at, as a sign covers
//! one in any case, with the three bytes that follow (Wu and Manber, "A fast algorithm for multi-pattern searching", 1994). It does
//! not tell small letters from capitals. What it finds is judged by the line around it.

use std::{ops::Range, sync::OnceLock};

use crate::vocabulary::{GROUPS, Group};

const STEP: usize = 4;
const BUCKET_BITS: u32 = 14;
const GRAM_BITS: u32 = 17;
/// Makes small letters of capitals, and other bytes of other bytes.
const FOLD: u32 = 0x2020_2020;

/// A sign in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: usize,
    pub(crate) sign: &'static str,
    pub(crate) group: &'static Group,
}

/// Where in a sign a gram of four bytes stands.
struct Spot {
    gram: u32,
    sign: &'static str,
    group: &'static Group,
    /// One with a capital stands for itself alone.
    is_exact: bool,
    offset: usize,
    next: u16,
}

struct Table {
    /// Which grams' first three bytes there are, a byte each: the first look.
    threes: [bool; 1 << BUCKET_BITS],
    /// Which grams there are: a look here spares most of those at the spots.
    grams: [u8; 1 << (GRAM_BITS - 3)],
    /// The first spot of each bucket, from 1, and the spots.
    buckets: Vec<u16>,
    spots: Vec<Spot>,
    /// The signs that a line begins with.
    line_starts: Vec<(&'static str, &'static Group)>,
}

/// Made when it is first used: in the binary it would take more than what makes it.
static TABLE: OnceLock<Box<Table>> = OnceLock::new();

fn table() -> Table {
    let mut table = Table {
        threes: [false; 1 << BUCKET_BITS],
        grams: [0; 1 << (GRAM_BITS - 3)],
        buckets: vec![0; 1 << BUCKET_BITS],
        spots: Vec::new(),
        line_starts: Vec::new(),
    };
    for group in &GROUPS {
        for sign in group.signs {
            table.add(group, sign);
        }
    }
    table
}

#[inline]
const fn bucket(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - BUCKET_BITS)) as usize
}

/// The place of a gram, a bit.
#[inline]
const fn place(gram: u32) -> usize {
    (gram.wrapping_mul(0x85eb_ca6b) >> (32 - GRAM_BITS)) as usize
}

/// Where a sign is in `text` from `start` on: the first or one close to it.
pub(crate) fn find(text: &[u8], start: usize) -> Option<usize> {
    let table = TABLE.get_or_init(|| Box::new(table()));
    if start == 0 && table.at_line_start(text).is_some() {
        return Some(0);
    }
    let three = |grams: &[u8], at| table.threes[bucket(gram(grams, at) << 8)];
    let known = |grams: &[u8], at| {
        let place = place(gram(grams, at));
        table.grams[place / 8] >> (place % 8) & 1
    };
    let mut at = start;
    for grams in text[start..].chunks_exact(4 * STEP) {
        if (three(grams, 0) | three(grams, 4) | three(grams, 8) | three(grams, 12))
            && (known(grams, 0) | known(grams, 4) | known(grams, 8) | known(grams, 12)) != 0
            && let Some(found) = table.sign_at(text, start, at..at + 4 * STEP)
        {
            return Some(found);
        }
        at += 4 * STEP;
    }
    table.sign_at(text, start, at..text.len())
}

/// All signs in a line.
pub(crate) fn all(line: &[u8], mut take: impl FnMut(Found)) {
    let table = TABLE.get_or_init(|| Box::new(table()));
    if let Some(found) = table.at_line_start(line) {
        take(found);
    }
    for at in (0..line.len()).step_by(STEP) {
        table.signs_at(line, 0, at, |found| {
            take(found);
            false
        });
    }
}

#[inline]
fn gram(bytes: &[u8], at: usize) -> u32 {
    let gram = match bytes.get(at..at + 4) {
        Some(gram) => u32::from_le_bytes([gram[0], gram[1], gram[2], gram[3]]),
        None => bytes[at..].iter().rev().fold(0, |gram, byte| gram << 8 | u32::from(*byte)),
    };
    gram | FOLD
}

/// How often a byte is in ordinary text, roughly.
fn commonness(byte: u8) -> u32 {
    match byte.to_ascii_lowercase() {
        b' ' | b'e' => 10,
        b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 7,
        b'h' | b'd' | b'l' | b'c' => 4,
        b'u' | b'm' | b'f' | b'p' | b'g' => 3,
        _ => 1,
    }
}

impl Table {
    /// Adds the spots of a sign: of the grams at four offsets in a row, those that other words have least.
    fn add(&mut self, group: &'static Group, sign: &'static str) {
        if let Some(rest) = sign.strip_prefix('\n') {
            self.line_starts.push((rest, group));
        }
        let bytes = sign.as_bytes();
        let cost = |from: &usize| bytes[*from..from + 2 * STEP - 1].iter().copied().map(commonness).sum::<u32>();
        let first = (0..=bytes.len().saturating_sub(2 * STEP - 1))
            .filter(|from| from + 2 * STEP - 1 <= bytes.len())
            .min_by_key(cost);
        for offset in (0..STEP).map(|offset| first.unwrap_or(0) + offset) {
            let whole = offset + STEP <= bytes.len();
            // A shorter sign stands before any byte.
            for fourth in (0..=if whole { 0 } else { u32::from(u8::MAX) }).filter(|fourth| whole || fourth & 0x20 > 0) {
                let gram = if whole {
                    gram(bytes, offset)
                } else {
                    (gram(bytes, offset) & u32::MAX >> 8 | fourth << 24) | FOLD
                };
                self.threes[bucket(gram << 8)] = true;
                let bit = place(gram);
                self.grams[bit / 8] |= 1 << (bit % 8);
                let next = &mut self.buckets[bucket(gram)];
                let is_exact = sign.bytes().any(|byte| byte.is_ascii_uppercase());
                self.spots.push(Spot { gram, sign, group, is_exact, offset, next: *next });
                *next = u16::try_from(self.spots.len()).unwrap_or(0);
            }
        }
    }

    /// The sign that a line begins with, where nothing is before it that could be looked at.
    fn at_line_start(&self, line: &[u8]) -> Option<Found> {
        let is_start = |sign: &str| {
            let is_exact = sign.bytes().any(|byte| byte.is_ascii_uppercase());
            line.get(..sign.len())
                .is_some_and(|line| line == sign.as_bytes() || !is_exact && line.eq_ignore_ascii_case(sign.as_bytes()))
        };
        let (sign, group) = self.line_starts.iter().find(|(sign, _)| is_start(sign))?;
        Some(Found { at: 0, sign, group })
    }

    /// A sign that covers one of the looked-at positions in `range`. Apart from the search, which needs all registers.
    #[inline(never)]
    fn sign_at(&self, text: &[u8], start: usize, range: Range<usize>) -> Option<usize> {
        let mut first = None;
        for at in range.step_by(STEP) {
            self.signs_at(text, start, at, |found| {
                // A line begins behind its predecessor's end.
                first = Some(found.at + usize::from(found.sign.starts_with('\n')));
                true
            });
            if first.is_some() {
                break;
            }
        }
        first
    }

    /// Takes each sign that covers the position `at`, until `take` has enough.
    #[inline]
    fn signs_at(&self, text: &[u8], start: usize, at: usize, mut take: impl FnMut(Found) -> bool) {
        let gram = gram(text, at);
        let mut next = self.buckets[bucket(gram)];
        while next > 0 {
            let spot = &self.spots[usize::from(next) - 1];
            next = spot.next;
            if spot.gram != gram {
                continue;
            }
            let begin = at.wrapping_sub(spot.offset);
            let sign = spot.sign.as_bytes();
            // What a line begins with has the newline before it, which is not of this line.
            if begin.wrapping_add(usize::from(sign[0] == b'\n')) >= start
                && begin < text.len()
                && let Some(text) = text.get(begin..begin + sign.len())
                && (text == sign || !spot.is_exact && text.eq_ignore_ascii_case(sign))
                && take(Found { at: begin, sign: spot.sign, group: spot.group })
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sign_is_missed_wherever_it_stands() {
        for sign in GROUPS.iter().flat_map(|group| group.signs) {
            let begin = usize::from(sign.starts_with('\n'));
            for before in 0..20 {
                for after in [0, 1, 30] {
                    let text = [&vec![b'.'; before][..], sign.as_bytes(), &vec![b'.'; after]].concat();
                    assert!(find(&text, 0).is_some(), "{}", String::from_utf8_lossy(&text));
                    let mut found = Vec::new();
                    all(&text, |sign| found.push((sign.at, sign.sign)));
                    assert!(found.contains(&(before, sign)), "{sign} in {found:?}");
                    assert_eq!(find(&text, before + sign.len()), None);
                }
            }
            if begin > 0 {
                assert_eq!(find(&sign.as_bytes()[1..], 0), Some(0), "the log begins with it");
            }
        }
        assert_eq!(find(b"step 100 of 200: loss 0.123, all is well", 0), None);
        assert!(find(b"a PERMISSION Denied", 0).is_some() && find(b"sigsegv", 0).is_none());
    }

    #[test]
    fn every_sign_is_long_enough_to_be_found() {
        for sign in GROUPS.iter().flat_map(|group| group.signs) {
            assert!(sign.len() >= STEP + 2, "{sign}");
        }
    }
}
