//! How many columns text takes on a terminal. Bytes that are not UTF-8 take one each.

/// A tab goes on to the next multiple of this.
pub(crate) const TAB: usize = 8;

/// Characters that take two columns, and those that take none. The blocks of Unicode's `EastAsianWidth.txt` and of its combining
/// marks that logs have: what is missing here takes one.
const WIDE: [(u32, u32); 14] = [
    (0x1100, 0x115f),
    (0x231a, 0x231b),
    (0x23e9, 0x23ec),
    (0x26a1, 0x26a1),
    (0x2705, 0x2705),
    (0x2728, 0x2728),
    (0x274c, 0x274c),
    (0x2e80, 0x303e),
    (0x3041, 0xa4cf),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xff01, 0xff60),
    (0x1f300, 0x1faff),
    (0x20000, 0x3fffd),
];
const NARROW: [(u32, u32); 7] = [
    (0x0300, 0x036f),
    (0x0591, 0x05bd),
    (0x0610, 0x061a),
    (0x200b, 0x200f),
    (0x20d0, 0x20ff),
    (0xfe00, 0xfe0f),
    (0xe0100, 0xe01ef),
];

fn width(c: char) -> usize {
    let is_in = |blocks: &[(u32, u32)]| blocks.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)));
    match c {
        '\0'..'\u{300}' => 1,
        _ if is_in(&NARROW) => 0,
        _ if is_in(&WIDE) => 2,
        _ => 1,
    }
}

/// The characters of `text`, which begins at a column: where each ends, and in which column.
fn characters(text: &[u8], column: usize) -> impl Iterator<Item = (usize, usize)> {
    let whole = |chunk: std::str::Utf8Chunk<'_>| {
        let (valid, invalid) = (chunk.valid().chars().collect::<Vec<_>>(), chunk.invalid().len());
        valid.into_iter().map(|c| (c, c.len_utf8())).chain(std::iter::repeat_n(('\u{fffd}', 1), invalid))
    };
    text.utf8_chunks().flat_map(whole).scan((0, column), |(at, column), (c, length)| {
        *at += length;
        *column += if c == '\t' { TAB - *column % TAB } else { width(c) };
        Some((*at, *column))
    })
}

/// Whether each byte takes one column.
pub(crate) fn is_simple(text: &[u8]) -> bool {
    text.is_ascii() && memchr::memchr(b'\t', text).is_none()
}

/// How many columns `text` takes that begins at `column`.
pub(crate) fn columns(text: &[u8], column: usize) -> usize {
    if is_simple(text) {
        return text.len();
    }
    characters(text, column).last().map_or(0, |(_, end)| end - column)
}

/// Where the character at a column begins, and where it ends if it begins some columns before that: how many.
pub(crate) fn offset(text: &[u8], column: usize) -> (usize, usize, usize) {
    if is_simple(text) {
        let at = text.len().min(column);
        return (at, at, 0);
    }
    let (mut at, mut begin) = (0, 0);
    for (end, end_column) in characters(text, 0) {
        // What takes no column belongs to what is before it.
        if begin >= column && end_column > begin {
            return (at, at, 0);
        }
        if begin < column && end_column > column {
            return (at, end, column - begin);
        }
        (at, begin) = (end, end_column);
    }
    (at, at, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_take_their_columns() {
        for (text, wide) in [("abc", 3), ("äé", 2), ("日本", 4), ("a\tb", 9), ("e\u{301}x", 2), ("🚀", 2), ("█▌", 2)]
        {
            assert_eq!(columns(text.as_bytes(), 0), wide, "{text}");
        }
        assert_eq!(columns(b"a\xff\xc3", 0), 3);
        assert_eq!(columns(b"\t", 5), 3);
        assert_eq!(offset("日本x".as_bytes(), 2), (3, 3, 0));
        assert_eq!(offset("日本x".as_bytes(), 3), (3, 6, 1));
        assert_eq!(offset("e\u{301}x".as_bytes(), 1), (3, 3, 0));
        assert_eq!(offset("日".as_bytes(), 9), (3, 3, 0));
    }
}
