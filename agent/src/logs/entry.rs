//! One entry of Docker's json-file log: `{"log":"…","stream":"stdout","time":"…"}`, keys in any order, more keys possible.
//! A line goes in; the stream and the job's own bytes come out, without an allocation.
//! Source: moby `daemon/logger/jsonfilelog/jsonlog/jsonlogbytes.go`.

use super::Stream;

/// Decodes `line` into `text` (cleared first). `None` if it is no such entry.
pub fn decode(line: &[u8], text: &mut Vec<u8>) -> Option<Stream> {
    text.clear();
    let mut stream = None;
    let mut has_log = false;
    let mut rest = line.trim_ascii().strip_prefix(b"{")?;
    loop {
        let (key, after) = raw_string(rest.trim_ascii_start())?;
        rest = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        match key {
            b"log" => {
                let (raw, after) = raw_string(rest)?;
                unescape(raw, text)?;
                has_log = true;
                rest = after;
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

/// Appends what a JSON string stands for. Docker writes an invalid byte of the job as the escape `\ufffd` and a real U+FFFD as
/// itself: so the escape becomes one byte (0xFF, which is never valid UTF-8), and byte counts stay true.
fn unescape(mut raw: &[u8], text: &mut Vec<u8>) -> Option<()> {
    while let Some(at) = memchr::memchr(b'\\', raw) {
        text.extend_from_slice(&raw[..at]);
        let (escape, after) = raw[at + 1..].split_first()?;
        raw = after;
        let byte = match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'u' => {
                let (code, after) = utf16_unit(raw)?;
                raw = after;
                let c = match code {
                    0xfffd => None,
                    0xd800..0xdc00 => match raw.strip_prefix(b"\\u").and_then(utf16_unit) {
                        Some((low @ 0xdc00..0xe000, after)) => {
                            raw = after;
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
                continue;
            }
            other => *other,
        };
        text.push(byte);
    }
    text.extend_from_slice(raw);
    Some(())
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
        decode(line.as_bytes(), &mut text).map(|stream| (stream, text))
    }

    #[test]
    fn entries_are_read_whatever_their_keys() {
        type Decoded<'a> = Option<(Stream, &'a [u8])>;
        let cases: [(&str, Decoded); 12] = [
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
    fn what_serde_writes_is_read_back() {
        for text in ["", "plain", "\u{0}\u{1f}\u{7f}\u{2028}", "\"\\/\n\r\t", "é😀"] {
            let line = serde_json::json!({"time": "t", "log": text, "stream": "stderr", "n": 1.5e3}).to_string();
            assert_eq!(decoded(&line), Some((Stream::Stderr, text.as_bytes().to_vec())));
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
