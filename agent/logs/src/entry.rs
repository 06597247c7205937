//! One entry of Docker's json-file log: `{"log":"…","stream":"stdout","time":"…"}`, keys in any order, more keys possible.
//! A line of the file stands for a stream and the job's own bytes: both ways, without an allocation.
//! Source: moby `daemon/logger/jsonfilelog/jsonlog/jsonlogbytes.go`.

use memchr::memmem;

use crate::Stream;

/// Appends the entry for `text`, with its newline. `time` is put down as it is. What is no UTF-8 is written as Docker does, `\ufffd`,
/// but once for each byte, so that the bytes can be counted.
pub fn encode(stream: Stream, text: &[u8], time: &str, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"log\":\"");
    for chunk in text.utf8_chunks() {
        escape(chunk.valid().as_bytes(), line);
        for _ in chunk.invalid() {
            line.extend_from_slice(b"\\ufffd");
        }
    }
    line.extend_from_slice(match stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\",\"time\":\"",
        Stream::Stderr => b"\",\"stream\":\"stderr\",\"time\":\"",
    });
    line.extend_from_slice(time.as_bytes());
    line.extend_from_slice(b"\"}\n");
}

/// Appends the inside of a JSON string.
fn escape(mut text: &[u8], line: &mut Vec<u8>) {
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    loop {
        // Without a branch a byte, so that many are compared at once.
        let mut plain = 0;
        while let Some(bytes) = text.get(plain..plain + 16)
            && !bytes.iter().fold(false, |some, byte| some | is_special(byte))
        {
            plain += 16;
        }
        let special = text[plain..].iter().position(is_special).map(|at| plain + at);
        let Some(at) = special else { return line.extend_from_slice(text) };
        line.extend_from_slice(&text[..at]);
        match text[at] {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            special @ (b'"' | b'\\') => line.extend_from_slice(&[b'\\', special]),
            control => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                line.extend_from_slice(b"\\u00");
                line.extend_from_slice(&[DIGITS[usize::from(control >> 4)], DIGITS[usize::from(control & 15)]]);
            }
        }
        text = &text[at + 1..];
    }
}

/// How long an entry's time is without its `Z`: the engine leaves out zeros at its end, so the longest is the most frequent. None is
/// so long that the end of the next entry could be taken for that of this one.
const LONGEST_TIME: usize = "2006-01-02T15:04:05.999999999".len();
const SHORTEST_TIME: usize = "2006-01-02T15:04:05".len();

/// The entry that `bytes` begin with, if it is written as the engine writes nearly all: appends its text to `text` and returns its
/// length with the newline. `None`, with `text` in any state, is for [`decode`] to look at.
#[inline]
pub(crate) fn decode_usual(bytes: &[u8], text: &mut Vec<u8>) -> Option<(Stream, usize)> {
    let log = bytes.strip_prefix(b"{\"log\":\"")?;
    let rest = unescape(log, text)?.strip_prefix(b",\"stream\":\"std")?;
    let stream = match rest.first_chunk()? {
        b"out\",\"time\":\"" => Stream::Stdout,
        b"err\",\"time\":\"" => Stream::Stderr,
        _ => return None,
    };
    let time = &rest[b"out\",\"time\":\"".len()..];
    for length in (SHORTEST_TIME..=LONGEST_TIME).rev() {
        if time.get(length..)?.starts_with(b"Z\"}\n") {
            return Some((stream, bytes.len() - time.len() + length + b"Z\"}\n".len()));
        }
    }
    None
}

/// What `bytes` begin with, to the end of the line or to where another entry begins in it: behind one that was torn, or behind a
/// block of zeros. In an entry's text there is no such beginning, as its quotes are escaped. `None` where the line has no end yet.
pub(crate) fn piece(bytes: &[u8]) -> Option<&[u8]> {
    let line = &bytes[..=memchr::memchr(b'\n', bytes)?];
    let next = memmem::find(&line[1..], b"{\"log\":\"").map_or(line.len(), |at| at + 1);
    Some(&line[..next])
}

/// A piece without its line's end and the zeros around it; nothing where zeros stand within it.
pub(crate) fn content(piece: &[u8]) -> &[u8] {
    let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
    let start = piece.iter().position(|byte| *byte != 0).unwrap_or(piece.len());
    let end = piece.iter().rposition(|byte| *byte != 0).map_or(start, |at| at + 1);
    if memchr::memchr(0, &piece[start..end]).is_some() { &[] } else { &piece[start..end] }
}

/// Appends what the entry `line` says to `text`. `None`, with `text` in any state, if it is no entry.
pub fn decode(line: &[u8], text: &mut Vec<u8>) -> Option<Stream> {
    let mut stream = None;
    let mut has_log = false;
    let mut rest = line.trim_ascii().strip_prefix(b"{")?;
    loop {
        let (key, after) = raw_string(rest.trim_ascii_start())?;
        rest = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        match key {
            b"log" => {
                rest = unescape(rest.strip_prefix(b"\"")?, text)?;
                has_log = true;
            }
            b"stream" => {
                let (raw, after) = raw_string(rest)?;
                stream = Some(if raw == b"stderr" { Stream::Stderr } else { Stream::Stdout });
                rest = after;
            }
            _ => rest = skip_value(rest)?,
        }
        match rest.trim_ascii_start() {
            [b',', after @ ..] => rest = after,
            [b'}'] => break,
            _ => return None,
        }
    }
    stream.filter(|_| has_log)
}

/// The content of the string that `text` begins with, escapes untouched, and what follows it.
fn raw_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let body = text.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &body[at..])?;
        if body[at] == b'"' {
            return Some((&body[..at], &body[at + 1..]));
        }
        at += 2;
        if at > body.len() {
            return None;
        }
    }
}

/// What follows the value that `text` begins with.
fn skip_value(mut text: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    loop {
        match text.first()? {
            b'"' => text = raw_string(text)?.1,
            b'{' | b'[' => {
                depth += 1;
                text = &text[1..];
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                text = &text[1..];
            }
            _ => text = &text[1..],
        }
        if depth == 0 && matches!(text.trim_ascii_start().first(), Some(b',' | b'}')) {
            return Some(text);
        }
    }
}

/// Appends what a JSON string stands for, from behind its first quote on; returns what follows its last. Docker writes an invalid
/// byte of the job as the escape `\ufffd` and a real U+FFFD as itself: so the escape becomes one byte (0xFF, which is never valid
/// UTF-8), and byte counts stay true.
fn unescape<'a>(mut raw: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        if let [b'"', after @ ..] = raw {
            return Some(after);
        }
        let at = memchr::memchr2(b'"', b'\\', raw)?;
        append(raw, at, text);
        let (first, after) = raw[at..].split_first()?;
        if *first == b'"' {
            return Some(after);
        }
        let (escape, after) = after.split_first()?;
        raw = after;
        text.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'u' => {
                raw = unescape_unicode(raw, text)?;
                continue;
            }
            other => *other,
        });
    }
}

/// Appends the first `length` bytes of `raw`: by blocks of a fixed size, of which the last brings too much at first. A line's text
/// is short, and a call of `memcpy` for it would cost more than all the rest.
#[inline]
fn append(mut raw: &[u8], length: usize, text: &mut Vec<u8>) {
    let end = text.len() + length;
    while text.len() < end {
        let Some((block, after)) = raw.split_first_chunk::<32>() else {
            text.extend_from_slice(&raw[..end - text.len()]);
            return;
        };
        text.extend_from_slice(block);
        raw = after;
    }
    text.truncate(end);
}

/// Appends the character whose code `raw` begins with, behind `\u`; returns what follows.
fn unescape_unicode<'a>(raw: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (code, mut after) = utf16_unit(raw)?;
    let c = match code {
        0xfffd => None,
        0xd800..0xdc00 => match after.strip_prefix(b"\\u").and_then(utf16_unit) {
            Some((low @ 0xdc00..0xe000, behind)) => {
                after = behind;
                char::from_u32(0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00))
            }
            _ => None,
        },
        code => char::from_u32(code),
    };
    match c {
        Some(c) => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => text.push(0xff),
    }
    Some(after)
}

/// The four hexadecimal digits that `text` begins with.
fn utf16_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, after) = text.split_at_checked(4)?;
    let code = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    Some((code, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(line: &str) -> Option<(Stream, Vec<u8>)> {
        let mut text = Vec::new();
        let decoded = decode(line.as_bytes(), &mut text).map(|stream| (stream, text));
        let (mut text, whole) = (Vec::new(), format!("{line}\n"));
        if let Some((stream, length)) = decode_usual(whole.as_bytes(), &mut text) {
            assert_eq!((Some((stream, text)), length), (decoded.clone(), whole.len()), "the quick way agrees: {line}");
        }
        decoded
    }

    #[test]
    fn entries_are_read_whatever_their_keys() {
        type Decoded<'a> = Option<(Stream, &'a [u8])>;
        let cases: [(&str, Decoded); 13] = [
            (r#"{"log":"one","stream":"stderr","time":"2026-11-24T04:23:55.706Z"}"#, Some((Stream::Stderr, b"one"))),
            (r#"{"log":"hi\n","stream":"stdout","time":"t"}"#, Some((Stream::Stdout, b"hi\n"))),
            (r#"{ "time":"t", "stream":"stderr", "log":"a\"b\\" }"#, Some((Stream::Stderr, b"a\"b\\"))),
            (
                r#"{"log":"x","stream":"stdout","attrs":{"tag":"}\"],","n":[1,{"a":2}]},"time":"t"}"#,
                Some((Stream::Stdout, b"x")),
            ),
            (r#"{"log":"\u003ca\u003e \u0026","stream":"stdout"}"#, Some((Stream::Stdout, b"<a> &"))),
            (r#"{"log":"\ud83d\ude00","stream":"stdout"}"#, Some((Stream::Stdout, "😀".as_bytes()))),
            (r#"{"log":"\ufffd|�","stream":"stdout"}"#, Some((Stream::Stdout, b"\xff|\xef\xbf\xbd"))),
            (r#"{"log":"","stream":"stdout"}"#, Some((Stream::Stdout, b""))),
            (r#"{"log":"x"}"#, None),
            (r#"{"stream":"stdout"}"#, None),
            (r#"{"log":"x","stream":"stdout""#, None),
            (r#"{"log":"x\"#, None),
            ("", None),
        ];
        for (line, want) in cases {
            assert_eq!(decoded(line), want.map(|(stream, text)| (stream, text.to_vec())), "{line}");
        }
    }

    #[test]
    fn entries_as_the_engine_writes_them_go_the_quick_way() {
        for digits in 0..=9 {
            for text in ["", "\n", &"x".repeat(31), &"y".repeat(32), &"z\t".repeat(100)] {
                let time = format!("2026-11-24T04:23:55{}Z", &".123456789"[..if digits > 0 { digits + 1 } else { 0 }]);
                let mut log = Vec::new();
                encode(Stream::Stderr, text.as_bytes(), &time, &mut log);
                let length = log.len();
                for next in ["", r#"{"log":"","stream":"stdout","time":"2026-11-24T04:23:55Z"}"#] {
                    log.truncate(length);
                    log.extend_from_slice(next.as_bytes());
                    let mut found = Vec::new();
                    let usual = decode_usual(&log, &mut found);
                    // Of the last in a buffer, a time that is not the longest cannot be told from one that is cut.
                    if usual.is_some() || !next.is_empty() {
                        assert_eq!((usual, &found[..]), (Some((Stream::Stderr, length)), text.as_bytes()), "{time}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_serde_writes_is_read_back() {
        for text in ["", "plain", "\u{0}\u{1f}\u{7f}\u{2028}", "\"\\/\n\r\t", "é😀"] {
            let line = serde_json::json!({"time": "t", "log": text, "stream": "stderr", "n": 1.5e3}).to_string();
            assert_eq!(decoded(&line), Some((Stream::Stderr, text.as_bytes().to_vec())));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let all: Vec<u8> = (0..=0xff).cycle().take(1000).collect();
        for text in [&b""[..], b"plain\n", "é😀 \"quoted\" \\ \u{7f}\t\r\n".as_bytes(), b"\xff\xc3(\xf0\x9f", &all] {
            for cut in 0..text.len() {
                let mut line = Vec::new();
                encode(Stream::Stderr, &text[cut..], "2026-11-24T04:23:55.706Z", &mut line);
                let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
                assert_eq!(
                    (value["stream"].as_str(), value["time"].as_str()),
                    (Some("stderr"), Some("2026-11-24T04:23:55.706Z"))
                );
                let (stream, found) = decoded(str::from_utf8(line.trim_ascii_end()).unwrap()).unwrap();
                let valid =
                    |bytes: &[u8]| bytes.utf8_chunks().map(|chunk| chunk.valid().to_owned()).collect::<Vec<_>>();
                assert_eq!(
                    (stream, found.len(), valid(&found).concat()),
                    (Stream::Stderr, text.len() - cut, valid(&text[cut..]).concat())
                );
            }
        }
    }

    #[test]
    fn no_cut_of_an_entry_is_misread() {
        let line = r#"{"log":"a\u0041\n","stream":"stdout","attrs":{"k":["v"]},"time":"t"}"#;
        for end in 0..line.len() {
            assert_eq!(decoded(&line[..end]), None, "cut at {end}");
        }
    }
}
