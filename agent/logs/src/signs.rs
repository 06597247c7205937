//! A search for all signs at once that is cheaper than a search for one each. Of each sign a window of seven bytes is chosen that
//! other words rarely have. Every fourth position is looked at, as such a window has one in any case, with the three bytes that
//! follow (Wu and Manber, "A fast algorithm for multi-pattern searching", 1994). A table says whether windows have these four, and
//! where; only then the window is looked up, and the sign compared. Small letters are not told from capitals. What is found is judged
//! by the line around it.

use std::sync::OnceLock;

use crate::vocabulary::{GROUPS, Group};

const STEP: usize = 4;
const WINDOW: usize = 2 * STEP - 1;
/// The first look's table fits the nearest cache.
const PLACE_BITS: u32 = 15;
const BUCKET_BITS: u32 = 12;
/// Makes small letters of capitals, and other bytes of other bytes.
const FOLD: u128 = 0x2020_2020_2020_2020_2020_2020_2020_2020;

/// A sign in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: usize,
    pub(crate) sign: &'static str,
    pub(crate) group: &'static Group,
}

/// The window of a sign.
struct Spot {
    window: u64,
    sign: &'static str,
    group: &'static Group,
    /// One with a capital stands for itself alone.
    is_exact: bool,
    /// Of the window in the sign.
    offset: u8,
    next: u16,
}

struct Table {
    /// For each gram of four bytes a bit for each distance from the beginning of a window at which one has it. The upper four bits
    /// are for windows of six bytes; there the distance is from the byte before.
    places: [u8; 1 << PLACE_BITS],
    /// The first spot of each bucket of windows, from 1, and the spots.
    buckets: [u16; 1 << BUCKET_BITS],
    spots: Vec<Spot>,
    /// The signs that a line begins with.
    line_starts: Vec<(&'static str, &'static Group)>,
}

/// Made when it is first used: in the binary it would take more than what makes it.
static TABLE: OnceLock<Box<Table>> = OnceLock::new();

fn table() -> Table {
    let mut table = Table {
        places: [0; 1 << PLACE_BITS],
        buckets: [0; 1 << BUCKET_BITS],
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
const fn place(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - PLACE_BITS)) as usize
}

#[inline]
const fn bucket(window: u64) -> usize {
    (window.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BUCKET_BITS)) as usize
}

/// Where a sign is in `text` from `start` on: the first or one close to it.
pub(crate) fn find(text: &[u8], start: usize) -> Option<usize> {
    let table = TABLE.get_or_init(|| Box::new(table()));
    if start == 0 && table.at_line_start(text).is_some() {
        return Some(0);
    }
    let mut first = None;
    let mut take = |found: Found| {
        // A line begins behind its predecessor's end.
        first = Some(found.at + usize::from(found.sign.starts_with('\n')));
        true
    };
    let (chunks, rest) = text[start..].as_chunks::<{ 4 * STEP }>();
    let mut at = start;
    for chunk in chunks {
        let places = table.places_of(chunk);
        if places != [0; 4] && table.signs_at(text, start, at, places, &mut take) {
            return first;
        }
        at += 4 * STEP;
    }
    let mut chunk = [0; 4 * STEP];
    chunk[..rest.len()].copy_from_slice(rest);
    table.signs_at(text, start, at, table.places_of(&chunk), &mut take);
    first
}

/// All signs in a line.
pub(crate) fn all(line: &[u8], mut take: impl FnMut(Found)) {
    let table = TABLE.get_or_init(|| Box::new(table()));
    if let Some(found) = table.at_line_start(line) {
        take(found);
    }
    for (piece, at) in line.chunks(4 * STEP).zip((0..).step_by(4 * STEP)) {
        let mut chunk = [0; 4 * STEP];
        chunk[..piece.len()].copy_from_slice(piece);
        table.signs_at(line, 0, at, table.places_of(&chunk), &mut |found| {
            take(found);
            false
        });
    }
}

/// Up to eight bytes at `at`, folded.
#[inline]
fn eight(text: &[u8], at: usize) -> u64 {
    let eight = match text.get(at..at + 8) {
        Some(eight) => eight.try_into().unwrap_or_default(),
        None => std::array::from_fn(|offset| text.get(at + offset).copied().unwrap_or(0)),
    };
    u64::from_le_bytes(eight) | FOLD as u64
}

/// The window of so many bytes that `eight` begins with.
#[inline]
const fn window_of(eight: u64, bytes: usize) -> u64 {
    eight << (64 - 8 * bytes) | if bytes < WINDOW { 1 } else { 0 }
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
    /// Adds a sign: of its windows the one that other words have least. One of six bytes is its own; the first of its grams has
    /// whatever is before it.
    fn add(&mut self, group: &'static Group, sign: &'static str) {
        if let Some(rest) = sign.strip_prefix('\n') {
            self.line_starts.push((rest, group));
        }
        let bytes = sign.as_bytes();
        let cost = |from: &usize| -> u32 {
            let grams = bytes[*from..from + WINDOW].windows(STEP);
            grams.map(|gram| gram.iter().copied().map(commonness).product::<u32>()).sum()
        };
        let length = bytes.len().min(WINDOW);
        let offset = (0..=bytes.len() - length).min_by_key(|from| if length < WINDOW { 0 } else { cost(from) });
        let offset = offset.unwrap_or(0);
        let eight = eight(bytes, offset);
        if length == WINDOW {
            (0..STEP).for_each(|distance| self.places[place((eight >> (8 * distance)) as u32)] |= 1 << distance);
        } else {
            for before in 0x20..=u8::MAX {
                self.places[place((eight << 8) as u32 | u32::from(before | 0x20))] |= 0x10;
            }
            (1..STEP).for_each(|distance| self.places[place((eight >> (8 * (distance - 1))) as u32)] |= 0x10 << distance);
        }
        let window = window_of(eight, length);
        let is_exact = bytes.iter().any(u8::is_ascii_uppercase);
        let next = &mut self.buckets[bucket(window)];
        self.spots.push(Spot { window, sign, group, is_exact, offset: offset as u8, next: *next });
        *next = u16::try_from(self.spots.len()).unwrap_or(0);
    }

    /// What there is of the grams at every fourth byte.
    #[inline]
    fn places_of(&self, chunk: &[u8; 4 * STEP]) -> [u8; 4] {
        let folded = u128::from_le_bytes(*chunk) | FOLD;
        [0, 32, 64, 96].map(|shift| self.places[place((folded >> shift) as u32)])
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

    /// Takes each sign whose window has one of the four positions from `at` on, until `take` has enough; then it is true. Apart from
    /// the search, which needs all registers.
    #[inline(never)]
    fn signs_at(
        &self,
        text: &[u8],
        start: usize,
        at: usize,
        places: [u8; 4],
        take: &mut impl FnMut(Found) -> bool,
    ) -> bool {
        let mut places = u32::from_le_bytes(places);
        while places != 0 {
            let place = places.trailing_zeros() as usize;
            places &= places - 1;
            let (position, distance, length) = match place % 8 {
                distance @ 0..STEP => (at + place / 8 * STEP, distance, WINDOW),
                distance => (at + place / 8 * STEP + 1, distance - STEP, WINDOW - 1),
            };
            let Some(from) = position.checked_sub(distance) else { continue };
            let window = window_of(eight(text, from), length);
            let mut next = self.buckets[bucket(window)];
            while next > 0 {
                let spot = &self.spots[usize::from(next) - 1];
                next = spot.next;
                if spot.window == window
                    && let Some(found) = spot.sign_at(text, start, from)
                    && take(found)
                {
                    return true;
                }
            }
        }
        false
    }
}

impl Spot {
    /// Its sign, if that is where its window begins at `from`.
    fn sign_at(&self, text: &[u8], start: usize, from: usize) -> Option<Found> {
        let (at, sign) = (from.checked_sub(self.offset.into())?, self.sign.as_bytes());
        let there = text.get(at..at + sign.len())?;
        // What a line begins with has the newline before it, which is not of this line.
        let is_there = at + usize::from(sign[0] == b'\n') >= start
            && (there == sign || !self.is_exact && there.eq_ignore_ascii_case(sign));
        is_there.then_some(Found { at, sign: self.sign, group: self.group })
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
            assert!(sign.len() >= WINDOW - 1, "{sign}");
        }
    }
}
