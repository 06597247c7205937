//! The forms in which a secret may turn up in a log: as it is, line by line, base64, URL-encoded, as a JSON string.

use base64::{Engine, prelude::BASE64_STANDARD};

/// A shorter secret would be found all over the log.
pub(super) const MIN_SECRET_BYTES: usize = 4;
/// A shorter line of a secret with several says little, and would be found all over the log.
const MIN_LINE_BYTES: usize = 8;
/// The shortest encoded form: that of the shortest secret.
const MIN_ENCODED_BYTES: usize = 6;
/// Where `base64` and PEM break lines.
const BASE64_LINES: [usize; 2] = [76, 64];
/// What is not encoded besides letters and digits: by RFC 3986, Python's `quote`, JavaScript's `encodeURIComponent`, and in forms.
const UNENCODED: [&str; 4] = ["-._~", "-._~/", "-_.!~*'()", "*-._+"];

pub(super) fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    // Many a secret ends with a newline that somebody's `echo` has left, and is used without.
    for text in [secret, secret.trim()] {
        if text.len() < MIN_SECRET_BYTES {
            continue;
        }
        forms.push(text.as_bytes().to_vec());
        // As a terminal shows it.
        forms.push(text.replace('\n', "\r\n").into_bytes());
        forms.push(serde_json::Value::from(text).to_string().trim_matches('"').into());
        for unencoded in UNENCODED {
            forms.extend(
                [b"0123456789ABCDEF", b"0123456789abcdef"].map(|digits| percent_encoded(text, unencoded, digits)),
            );
        }
        forms.extend(base64_forms(text.as_bytes()));
    }
    forms.extend(
        secret.lines().map(|line| line.trim().as_bytes()).filter(|line| line.len() >= MIN_LINE_BYTES).map(Vec::from),
    );
    forms
}

/// The base64 of `secret`, and what is the same in the base64 of any longer text with it inside: that depends on where in a group of
/// three bytes it begins.
fn base64_forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let whole = BASE64_STANDARD.encode(secret);
    let whole = whole.trim_end_matches('=');
    let mut forms = vec![whole.to_owned()];
    for before in 0..3 {
        let text = BASE64_STANDARD.encode([&[0].repeat(before), secret].concat());
        forms.push(text[(before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6].to_owned());
    }
    for width in BASE64_LINES {
        forms.extend(whole.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned()));
    }
    let url_safe: Vec<String> = forms.iter().map(|form| form.replace('+', "-").replace('/', "_")).collect();
    forms.extend(url_safe);
    forms.into_iter().filter(|form| form.len() >= MIN_ENCODED_BYTES).map(String::into_bytes).collect()
}

/// Everything but letters, digits and `unencoded` as `%XX`; a space as `+` where that is among them.
fn percent_encoded(text: &str, unencoded: &str, digits: &[u8; 16]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' if unencoded.contains('+') => encoded.push(b'+'),
            byte if byte.is_ascii_alphanumeric() || (byte != b'+' && unencoded.as_bytes().contains(&byte)) => {
                encoded.push(byte);
            }
            byte => encoded.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]),
        }
    }
    encoded
}
