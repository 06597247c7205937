//! The bytes of an attribute as text.
//!
//! In: what the metadata server answered. Out: UTF-8 of a bounded size that is not empty, or the reason why not.

use super::error::Problem;

/// Compute Engine's own limit for one metadata value.
/// <https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations>
const MOST_BYTES: usize = 256 * 1024;

/// `example` is what to write when there is nothing.
pub(super) fn decode<'a>(bytes: &'a [u8], example: &str) -> Result<&'a str, Problem> {
    if bytes.len() > MOST_BYTES {
        return Err(Problem::new(format!("the text has {} bytes, more than {MOST_BYTES}", bytes.len()))
            .fix("keep large data in the image or in a bucket"));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Problem::new("the text is UTF-16, not UTF-8")
            .fix("save it as UTF-8; in PowerShell, with Out-File -Encoding utf8"));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        Problem::new(format!("the text is not UTF-8 at byte {}", error.valid_up_to() + 1)).fix("save it as UTF-8")
    })?;
    // Editors on Windows like to put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Problem::new("the text is empty").fix(format!("write for example {example}")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_say_why() {
        let long = vec![b'x'; MOST_BYTES + 1];
        let cases: [(&[u8], &str); 4] = [
            (
                b"\xff\xfe{\0",
                "a: the text is UTF-16, not UTF-8; save it as UTF-8; in PowerShell, with Out-File -Encoding utf8",
            ),
            (b" \n", "a: the text is empty; write for example X"),
            (b"{\"id\": \"\xff\"}", "a: the text is not UTF-8 at byte 9; save it as UTF-8"),
            (&long, "a: the text has 262145 bytes, more than 262144; keep large data in the image or in a bucket"),
        ];
        for (bytes, error) in cases {
            assert_eq!(decode(bytes, "X").unwrap_err().at("a", "").to_string(), error);
        }
        assert_eq!(decode("\u{feff}{}".as_bytes(), "X"), Ok("{}"));
    }
}
