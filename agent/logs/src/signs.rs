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
const PLACE_BITS: u32 = 16;
const WINDOW_BITS: u32 = 15;
const BUCKET_BITS: u32 = 9;
/// Makes small letters of capitals, and other bytes of other bytes.
const FOLD: u64 = 0x2020_2020_2020_2020;

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
    /// are for windows of short signs, whose first and last byte match any.
    places: Box<[u8; 1 << PLACE_BITS]>,
    /// Which windows there are, a bit each.
    windows: Box<[u32; 1 << (WINDOW_BITS - 5)]>,
    /// The first spot of each bucket of windows, from 1, and the spots.
    buckets: Box<[u16; 1 << BUCKET_BITS]>,
    spots: Vec<Spot>,
    /// The signs that a line begins with; and by their first two bytes, in small letters or capitals, whether there is one.
    line_starts: Vec<(&'static str, &'static Group)>,
    line_start_pairs: [u32; 32],
}

/// Made when it is first used: in the binary it would take more than what makes it.
static TABLE: OnceLock<Table> = OnceLock::new();

fn table() -> Table {
    let mut table = Table {
        places: zeros(),
        windows: zeros(),
        buckets: zeros(),
        spots: Vec::new(),
        line_starts: Vec::new(),
        line_start_pairs: [0; 32],
    };
    let mut ordinary = vec![0; 1 << (PLACE_BITS - 2)];
    for at in 0..ORDINARY.len() - STEP {
        ordinary[place(gram(eight(ORDINARY, at), 0)) / 4] += 4096;
    }
    for group in &GROUPS {
        for sign in group.signs() {
            table.add(&ordinary, group, sign);
        }
    }
    table
}

/// An array that never was on the stack.
#[expect(clippy::unnecessary_box_returns, reason = "the array is too large for the stack")]
fn zeros<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    vec![T::default(); N].try_into().unwrap_or_else(|_| unreachable!("the vector has this very length"))
}

/// The four bytes of `eight` from this one on.
#[inline]
fn gram(eight: u64, distance: usize) -> u32 {
    let [a, b, c, d, ..] = (eight >> (8 * distance)).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[inline]
const fn place(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - PLACE_BITS)) as usize
}

#[inline]
const fn hash(window: u64) -> u32 {
    (window.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

#[inline]
const fn bucket(window: u64) -> usize {
    (hash(window) >> (32 - BUCKET_BITS)) as usize
}

/// Where the bit of a window is.
#[inline]
const fn window_place(window: u64) -> (usize, u32) {
    let place = hash(window) >> (32 - WINDOW_BITS);
    ((place / 32) as usize, 1 << (place % 32))
}

/// Where a sign is in `text` from `start` on: the first or one close to it.
pub(crate) fn find(text: &[u8], start: usize) -> Option<usize> {
    let table = TABLE.get_or_init(table);
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
        let [one, two, three, four] = table.places_of(chunk);
        if one | two | three | four != 0 {
            let places = table.narrow(text, at, u32::from_le_bytes([one, two, three, four]));
            if places != 0 && table.signs_at(text, start, at, places, &mut take) {
                return first;
            }
        }
        at += 4 * STEP;
    }
    let mut chunk = [0; 4 * STEP];
    chunk[..rest.len()].copy_from_slice(rest);
    table.signs_at(text, start, at, u32::from_le_bytes(table.places_of(&chunk)), &mut take);
    first
}

/// All signs in a line.
pub(crate) fn all(line: &[u8], mut take: impl FnMut(Found)) {
    let table = TABLE.get_or_init(table);
    if let Some(found) = table.at_line_start(line) {
        take(found);
    }
    for (piece, at) in line.chunks(4 * STEP).zip((0..).step_by(4 * STEP)) {
        let mut chunk = [0; 4 * STEP];
        chunk[..piece.len()].copy_from_slice(piece);
        let places = table.narrow(line, at, u32::from_le_bytes(table.places_of(&chunk)));
        table.signs_at(line, 0, at, places, &mut |found| {
            take(found);
            false
        });
    }
}

/// What a folded byte may be.
fn folded_bytes() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|byte| byte & 0x20 > 0)
}

/// Up to eight bytes at `at`, folded.
#[inline]
fn eight(text: &[u8], at: usize) -> u64 {
    let eight = match text.get(at..at + 8) {
        Some(eight) => eight.try_into().unwrap_or_default(),
        None => std::array::from_fn(|offset| text.get(at + offset).copied().unwrap_or(0)),
    };
    u64::from_le_bytes(eight) | FOLD
}

/// The window that `eight` begins with. Of a short sign's its first and its last byte do not count.
#[inline]
const fn window_of(eight: u64, is_short: u64) -> u64 {
    eight << 8 & !(is_short * 0xff00_0000_0000_ff00) | is_short
}

/// For a bit of what [`Table::places_of`] says of the chunk at `at`: where from `at - 4` on the window begins, and whether it is a
/// short sign's.
#[inline]
const fn window_at(bit: u32) -> (usize, u64) {
    (STEP + (bit / 8) as usize * STEP - bit as usize % STEP, (bit / 4 % 2) as u64)
}

/// Words that ordinary lines have. A window with their grams would be met often.
const ORDINARY: &[u8] = b" the connection to a server is complete and reading the default output of this request with its result \
    on device for input file processing: time, status, session, response, version, value, table, using, message, image, \
    training, checking, loading, started, finished, written, created, opened, point, memory, model, packages, stream, options, \
    checkpoint, config, batch, size, unused, user, work, worker, task, token, lines, install, available, are not in use, code ";

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
    /// Adds a sign: of its windows the one that other words have least. A short one is its own, with what stands around it.
    fn add(&mut self, ordinary: &[u32], group: &'static Group, sign: &'static str) {
        if let Some(rest) = sign.strip_prefix('\n') {
            self.line_starts.push((rest, group));
            self.line_start_pairs[usize::from(rest.as_bytes()[0] % 32)] |= 1 << (rest.as_bytes()[1] % 32);
        }
        let bytes = sign.as_bytes();
        // What the table has for another sign already costs nothing.
        let cost = |from: &usize| -> u32 {
            let window = &bytes[*from..from + WINDOW];
            let grams = (0..STEP).map(|distance| {
                let gram = gram(eight(window, 0), distance);
                let is_there = self.places[place(gram)] >> distance & 1 > 0;
                let letters = window[distance..][..STEP].iter().copied().map(commonness).product::<u32>();
                if is_there { 0 } else { letters + ordinary[place(gram) / 4] }
            });
            let is_ordinary = (0..STEP).all(|distance| ordinary[place(gram(eight(window, 0), distance)) / 4] > 0);
            grams.sum::<u32>() + if is_ordinary { 1 << 20 } else { 0 }
        };
        let offset = (0..=bytes.len().saturating_sub(WINDOW)).filter(|_| bytes.len() >= WINDOW).min_by_key(cost);
        let is_short = offset.is_none();
        let offset = offset.unwrap_or(0);
        let eight = eight(bytes, offset) << if is_short { 8 } else { 0 };
        for distance in 0..STEP {
            let gram = gram(eight, distance);
            let bit = 1 << (distance + if is_short { STEP } else { 0 });
            let mut set = |gram| self.places[place(gram)] |= bit;
            if is_short && distance == 0 {
                // A letter stands before no word but the names of errors.
                let is_name = bytes[..5].eq_ignore_ascii_case(b"error") || !bytes[0].is_ascii_alphanumeric();
                let before = folded_bytes().filter(|before| is_name || !before.is_ascii_alphanumeric());
                before.for_each(|before| set(gram & !0xff | u32::from(before)));
            } else if distance == STEP - 1 && bytes.len() < WINDOW - 1 {
                folded_bytes().for_each(|behind| set(gram & !(0xff << 24) | u32::from(behind) << 24));
            } else {
                set(gram);
            }
        }
        let window = window_of(eight, is_short.into());
        let (word, bit) = window_place(window);
        self.windows[word] |= bit;
        let is_exact = bytes.iter().any(u8::is_ascii_uppercase);
        let next = &mut self.buckets[bucket(window)];
        self.spots.push(Spot {
            window,
            sign,
            group,
            is_exact,
            offset: u8::try_from(offset).unwrap_or(u8::MAX),
            next: *next,
        });
        *next = u16::try_from(self.spots.len()).unwrap_or(0);
    }

    /// What there is of the grams at every fourth byte.
    #[inline]
    fn places_of(&self, chunk: &[u8; 4 * STEP]) -> [u8; 4] {
        let (halves, _) = chunk.as_chunks::<8>();
        let [low, high] = [0, 1].map(|half: usize| u64::from_le_bytes(halves[half]) | FOLD);
        [(low, 0), (low, 4), (high, 0), (high, 4)].map(|(half, from)| self.places[place(gram(half, from))])
    }

    /// The sign that a line begins with, where nothing is before it that could be looked at.
    fn at_line_start(&self, line: &[u8]) -> Option<Found> {
        let [first, second, ..] = *line else { return None };
        if self.line_start_pairs[usize::from(first % 32)] >> (second % 32) & 1 == 0 {
            return None;
        }
        let is_start = |sign: &str| {
            let is_exact = sign.bytes().any(|byte| byte.is_ascii_uppercase());
            line.get(..sign.len())
                .is_some_and(|line| line == sign.as_bytes() || !is_exact && line.eq_ignore_ascii_case(sign.as_bytes()))
        };
        let (sign, group) = self.line_starts.iter().find(|(sign, _)| is_start(sign))?;
        Some(Found { at: 0, sign, group })
    }

    /// Leaves of the places of the chunk at `at` those with a window.
    #[inline]
    fn narrow(&self, text: &[u8], at: usize, mut places: u32) -> u32 {
        let Some(around) = at.checked_sub(STEP).and_then(|from| text[from..].first_chunk::<{ 8 * STEP }>()) else {
            return places;
        };
        let mut narrowed = 0;
        while places != 0 {
            let (offset, is_short) = window_at(places.trailing_zeros());
            let (word, bit) = window_place(window_of(eight(around, offset), is_short));
            if self.windows[word] & bit != 0 {
                narrowed |= places & places.wrapping_neg();
            }
            places &= places - 1;
        }
        narrowed
    }

    /// Takes each sign with a window at one of the places of the chunk at `at`, until `take` has enough; then it is true. Apart from
    /// the search, which needs all registers.
    #[inline(never)]
    fn signs_at(
        &self,
        text: &[u8],
        start: usize,
        at: usize,
        mut places: u32,
        take: &mut impl FnMut(Found) -> bool,
    ) -> bool {
        while places != 0 {
            let (offset, is_short) = window_at(places.trailing_zeros());
            places &= places - 1;
            // Where any byte may stand before a sign, that may be the text's beginning.
            let Some(from) = (at + offset + usize::from(is_short > 0)).checked_sub(STEP) else { continue };
            let window = window_of(eight(text, from) << (8 * is_short), is_short);
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
        for sign in GROUPS.iter().flat_map(Group::signs) {
            let begin = usize::from(sign.starts_with('\n'));
            for before in 0..20 {
                for after in [0, 1, 30] {
                    // What begins with a space or a mark stands behind letters too.
                    let filler = if sign.as_bytes()[0].is_ascii_alphanumeric() { b'.' } else { b'x' };
                    let text = [&vec![filler; before][..], sign.as_bytes(), &vec![b'.'; after]].concat();
                    // Wherever the search begins, what it meets first is the sign or one within it.
                    let within = before..before + sign.len();
                    for start in 0..=before {
                        let found = find(&text, start);
                        assert!(
                            found.is_some_and(|at| within.contains(&at)),
                            "{sign} at {before} from {start}: {found:?}"
                        );
                    }
                    let mut found = Vec::new();
                    all(&text, |sign| found.push((sign.at, sign.sign)));
                    assert!(found.contains(&(before, sign)), "{sign} in {found:?}");
                    assert!(found.iter().all(|(at, _)| within.contains(at)), "{sign} at {before}: {found:?}");
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
        for sign in GROUPS.iter().flat_map(Group::signs) {
            assert!(sign.len() >= WINDOW - 2, "{sign}");
        }
    }
}
