//! The words by which a line looks like the reason of a failure, and a search for all of them at once that is cheaper than a
//! search for one each: every fourth position is looked at, as a sign of six bytes or more covers one in any case, with the three
//! bytes that follow (Wu and Manber, "A fast algorithm for multi-pattern searching", 1994).

/// What a line may contain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    text: &'static [u8],
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
    /// And then one more, which says what is wrong.
    AndOne,
}

const fn trace(goes_on: GoesOn, text: &'static str) -> Sign {
    Sign { text: text.as_bytes(), weight: 3, goes_on }
}

const fn line(weight: u8, text: &'static str) -> Sign {
    Sign { text: text.as_bytes(), weight, goes_on: GoesOn::No }
}

pub(crate) static SIGNS: [Sign; 53] = [
    trace(GoesOn::AndOne, "Traceback (most recent call last)"),
    trace(GoesOn::AndOne, "panicked at"),
    trace(GoesOn::AndOne, "panic: "),
    trace(GoesOn::Indented, "Exception in thread"),
    trace(GoesOn::Indented, "Caused by: "),
    trace(GoesOn::Indented, "terminate called "),
    trace(GoesOn::Indented, "Uncaught "),
    trace(GoesOn::Indented, "Unhandled "),
    trace(GoesOn::Indented, "unhandled "),
    trace(GoesOn::Indented, "*** stack smashing"),
    trace(GoesOn::Indented, "AddressSanitizer"),
    line(3, "Segmentation fault"),
    line(3, "segfault"),
    line(3, "(core dumped)"),
    line(3, "out of memory"),
    line(3, "Out of memory"),
    line(3, "OutOfMemory"),
    line(3, "Cannot allocate memory"),
    line(3, "No space left on device"),
    line(3, "fatal:"),
    line(3, "fatal "),
    line(3, "Fatal "),
    line(3, "FATAL:"),
    line(3, "FATAL "),
    line(3, "FATAL]"),
    line(3, "\"FATAL"),
    line(3, "CRITICAL"),
    line(3, "Assertion "),
    line(3, ":\"fatal\""),
    line(3, ": \"fatal\""),
    line(2, "Error: "),
    line(2, "error: "),
    line(2, "ERROR:"),
    line(2, "ERROR "),
    line(2, "ERROR]"),
    line(2, "\"ERROR"),
    line(2, "Exception: "),
    line(2, "error["),
    line(2, "level=error"),
    line(2, ":\"error\""),
    line(2, ": \"error\""),
    line(2, "npm ERR!"),
    line(2, "npm error"),
    line(2, ": *** ["),
    line(2, ": *** No rule"),
    line(2, "Killed"),
    line(2, "Aborted"),
    line(2, "Bus error"),
    line(1, "No such file or directory"),
    line(1, "Permission denied"),
    line(1, "Connection refused"),
    line(1, "not found"),
    line(1, "failed"),
];

const STEP: usize = 4;
const GRAM: usize = 3;
const SHORTEST: usize = STEP + GRAM - 1;
const BUCKET_BITS: u32 = 12;

/// Where in a sign a gram stands, and the next that falls into the same bucket.
#[derive(Clone, Copy)]
struct Spot {
    sign: u8,
    offset: u8,
    next: u8,
}

struct Table {
    /// The first spot of each bucket, from 1; 0 is none.
    buckets: [u8; 1 << BUCKET_BITS],
    spots: [Spot; SIGNS.len() * STEP + 1],
}

static TABLE: Table = table();

const fn table() -> Table {
    let mut table =
        Table { buckets: [0; 1 << BUCKET_BITS], spots: [Spot { sign: 0, offset: 0, next: 0 }; SIGNS.len() * STEP + 1] };
    let mut at = 1;
    let mut sign = 0;
    while sign < SIGNS.len() {
        let text = SIGNS[sign].text;
        assert!(text.len() >= SHORTEST);
        let mut offset = 0;
        while offset < STEP {
            let gram = u32::from_le_bytes([text[offset], text[offset + 1], text[offset + 2], 0]);
            let bucket = bucket(gram);
            #[expect(clippy::cast_possible_truncation, reason = "at most 63 signs, or the next line does not compile")]
            {
                table.spots[at] = Spot { sign: sign as u8, offset: offset as u8, next: table.buckets[bucket] };
                table.buckets[bucket] = at as u8;
            }
            assert!(at <= u8::MAX as usize);
            at += 1;
            offset += 1;
        }
        sign += 1;
    }
    table
}

/// The bucket of three bytes; a fourth does not matter.
#[inline]
const fn bucket(gram: u32) -> usize {
    ((gram << 8).wrapping_mul(0x9e37_79b1) >> (32 - BUCKET_BITS)) as usize
}

/// The first sign in `text` from `start` on: where it begins, and which it is.
pub(crate) fn find(text: &[u8], start: usize) -> Option<(usize, &'static Sign)> {
    let mut at = start;
    for grams in text[start..].chunks_exact(4 * STEP) {
        let (a, b, c, d) = (gram(grams, 0), gram(grams, 4), gram(grams, 8), gram(grams, 12));
        let buckets = &TABLE.buckets;
        if (buckets[bucket(a)] | buckets[bucket(b)] | buckets[bucket(c)] | buckets[bucket(d)]) != 0
            && let Some(found) =
                [a, b, c, d].into_iter().zip(0..).find_map(|(gram, n)| sign_at(text, start, at + n * STEP, gram))
        {
            return Some(found);
        }
        at += 4 * STEP;
    }
    while let Some(&[a, b, c]) = text.get(at..).and_then(<[u8]>::first_chunk) {
        if let Some(found) = sign_at(text, start, at, u32::from_le_bytes([a, b, c, 0])) {
            return Some(found);
        }
        at += STEP;
    }
    None
}

#[inline]
fn gram(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The sign that has `gram` at `at`.
#[inline]
fn sign_at(text: &[u8], start: usize, at: usize, gram: u32) -> Option<(usize, &'static Sign)> {
    let mut spot = TABLE.buckets[bucket(gram)];
    while spot != 0 {
        let Spot { sign, offset, next } = TABLE.spots[usize::from(spot)];
        let sign = &SIGNS[usize::from(sign)];
        let begin = at.wrapping_sub(usize::from(offset));
        if begin >= start && text.get(begin..).is_some_and(|text| text.starts_with(sign.text)) {
            return Some((begin, sign));
        }
        spot = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sign_is_missed_wherever_it_stands() {
        for sign in &SIGNS {
            for before in 0..40 {
                for after in [0, 1, 30] {
                    let text = [&vec![b'.'; before][..], sign.text, &vec![b'.'; after]].concat();
                    assert_eq!(find(&text, 0), Some((before, sign)), "{}", String::from_utf8_lossy(&text));
                    assert_eq!(find(&text, before).map(|found| found.0), Some(before));
                    assert_eq!(find(&text, before + 1), None);
                    assert_eq!(find(&text[..before + sign.text.len() - 1], 0), None, "a part is no sign");
                }
            }
        }
        assert_eq!(find(b"step 100 of 200: loss 0.123, all is well", 0), None);
    }
}
