//! Parts of a log as text: bytes go in, whole characters come out.

use serde::Serialize;

/// Stands where lines are left out.
pub(crate) const CUT: &str = "\n…";

/// A part of the log as text, and how many of the job's bytes it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) raw_bytes: u64,
}

impl Text {
    /// At most `budget` bytes from the beginning, without a character that was cut at the end.
    pub(crate) fn beginning(bytes: &[u8], budget: usize) -> Self {
        let bytes = &bytes[..bytes.len().min(budget)];
        // Up to three bytes at the very end may be the beginning of a character; others are simply invalid.
        Self::of(&bytes[..bytes.len() - cut_character(bytes)])
    }

    /// At most `budget` bytes from the end, without the rest of a character that was cut at the beginning. `whole`: the
    /// bytes begin where the log, or a character, does.
    pub(crate) fn end(bytes: &[u8], budget: usize, whole: bool) -> Self {
        let start = bytes.len().saturating_sub(budget);
        let is_continuation = |byte: &&u8| (0x80..0xc0).contains(*byte);
        let cut = bytes[start..].iter().take(3).take_while(is_continuation).count();
        Self::of(&bytes[if start > 0 || !whole { start + cut } else { 0 }..])
    }

    fn of(bytes: &[u8]) -> Self {
        let text = without_controls(String::from_utf8_lossy(bytes).into_owned());
        Self { text, raw_bytes: bytes.len() as u64 }
    }
}

/// Where to cut so that at most `most` bytes come before, and no character is torn.
pub fn char_boundary(bytes: &[u8], most: usize) -> usize {
    if bytes.len() <= most {
        return bytes.len();
    }
    let is_inside = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    (most.saturating_sub(3)..=most).rev().find(|at| !is_inside(at)).unwrap_or(most)
}

/// How many bytes at the end of `bytes` are the beginning of a character.
pub(crate) fn cut_character(bytes: &[u8]) -> usize {
    let end = &bytes[bytes.len().saturating_sub(3)..];
    end.utf8_chunks()
        .last()
        .map_or(0, |chunk| if is_cut_character(chunk.invalid()) { chunk.invalid().len() } else { 0 })
}

/// Whether these bytes, which stand at the end of a text, are the beginning of a character.
fn is_cut_character(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(0xc2..0xe0) => bytes.len() < 2,
        Some(0xe0..0xf0) => bytes.len() < 3,
        Some(0xf0..0xf5) => bytes.len() < 4,
        _ => false,
    }
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Cuts a text down to its first line and its end.
pub(crate) fn shorten(text: &mut String, room: usize) {
    text.truncate(text.trim_ascii_end().len());
    if text.len() > room {
        let first = text.find('\n').unwrap_or(room).min(room / 3);
        let end = text.ceil_char_boundary(text.len() - (room - room / 3).saturating_sub(CUT.len()));
        if text.contains('\n') {
            text.replace_range(text.floor_char_boundary(first)..end, CUT);
        }
        // Where there is but one line, its beginning tells most.
        text.truncate(text.floor_char_boundary(room));
    }
}

/// How far two texts are alike, where one number is as good as another.
pub(crate) fn alike(a: &[u8], b: &[u8]) -> (usize, usize) {
    let (mut i, mut j) = (0, 0);
    loop {
        // Eight at once, as errors may come in floods.
        let eights =
            a[i..].as_chunks::<8>().0.iter().zip(b[j..].as_chunks::<8>().0).take_while(|(x, y)| x == y).count();
        let rest = a[i + 8 * eights..].iter().zip(&b[j + 8 * eights..]);
        let same = 8 * eights + rest.take_while(|(x, y)| x == y).count();
        if (a.len(), b.len()) == (i + same, j + same) {
            return (a.len(), b.len());
        }
        // The word in which they begin to differ.
        let word = a[i..i + same].iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let length = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let ends = [&a[i + same - word..], &b[j + same - word..]];
        let lengths = ends.map(length);
        (i, j) = (i + same, j + same);
        if lengths[0].max(lengths[1]) <= word || !ends.iter().all(|end| end.first().is_some_and(u8::is_ascii_digit)) {
            return (i, j);
        }
        (i, j) = (i + lengths[0] - word, j + lengths[1] - word);
    }
}

/// Whole characters: a line may have been cut.
pub(crate) fn text_of(content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) => without_controls(text.to_owned()),
        Err(_) => Text::beginning(content, content.len()).text,
    }
}

/// A terminal shows nothing of the others.
pub(crate) fn is_shown(c: char) -> bool {
    !c.is_control() || matches!(c, '\n' | '\t')
}

fn without_controls(mut text: String) -> String {
    // A line may end with `\r\n`; within one there is no `\r`.
    text.retain(|c| is_shown(c) || c == '\r');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_make_no_kind() {
        for (a, b, ends) in [
            ("at 10:00:07 x", "at 10:00:8 x", (13, 12)),
            ("id 5", "id 57f", (4, 6)),
            ("Error1", "Error2", (5, 5)),
            ("a 1,", "a 1;", (3, 3)),
            ("a", "ab", (1, 1)),
            ("", "1", (0, 0)),
        ] {
            assert_eq!(alike(a.as_bytes(), b.as_bytes()), ends, "{a} {b}");
        }
    }

    #[test]
    fn no_character_is_torn() {
        let text = "aä€😀z".as_bytes();
        let cuts: Vec<usize> = (1..=text.len()).map(|most| char_boundary(text, most)).collect();
        assert_eq!(cuts, [1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11]);
        assert_eq!(char_boundary(&[0x80; 20], 10), 10, "what is no text is cut where it has to be");
    }
}
