//! The forms in which a secret may turn up in a log: as it is, line by line, base64, URL-encoded, as a JSON string.

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use vmjob_logs::{Form, visible};

/// A shorter secret would be found all over the log.
const MIN_SECRET_BYTES: usize = 4;
/// A shorter line of a secret with several says little, and would be found all over the log.
const MIN_LINE_BYTES: usize = 8;
/// The shortest encoded form: that of the shortest secret.
const MIN_ENCODED_BYTES: usize = 6;
/// Where `base64` and PEM break lines.
const BASE64_LINES: [usize; 2] = [76, 64];
/// What is escaped in JSON besides what has to be, by Python's `json`, Go's `encoding/json` and PHP's `json_encode`.
const ESCAPED: [fn(char) -> bool; 3] =
    [|c| !c.is_ascii(), |c| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'), |c| !c.is_ascii() || c == '/'];
/// What is not encoded besides letters and digits: by RFC 3986, Python's `quote`, JavaScript's `encodeURIComponent`, and in forms.
const UNENCODED: [&str; 4] = ["-._~", "-._~/", "-_.!~*'()", "*-._+"];

/// Whether a text can be told from others.
pub(super) fn is_long_enough(text: &str) -> bool {
    visible(text.as_bytes()).len() >= MIN_SECRET_BYTES
}

pub(super) fn forms(secret: &str) -> Vec<Form> {
    let (mut forms, mut encoded) = (Vec::new(), Vec::new());
    // Many a secret ends with a newline that somebody's `echo` has left, and is used without.
    for text in [secret, secret.trim()] {
        if !is_long_enough(text) {
            continue;
        }
        forms.push(text.as_bytes().to_vec());
        // As a terminal shows it.
        forms.push(text.replace('\n', "\r\n").into_bytes());
        let json = json_string(text);
        forms.extend(ESCAPED.map(|is_escaped| escaped(&json, is_escaped)));
        forms.push(json.into_bytes());
        for unencoded in UNENCODED {
            forms.extend(
                [b"0123456789ABCDEF", b"0123456789abcdef"].map(|digits| percent_encoded(text, unencoded, digits)),
            );
        }
        encoded.extend(base64_forms(text.as_bytes()));
        forms.extend(base64_lines(text.as_bytes()));
    }
    forms.extend(
        secret.lines().map(|line| line.trim().as_bytes()).filter(|line| line.len() >= MIN_LINE_BYTES).map(Vec::from),
    );
    for form in &mut forms {
        *form = visible(form);
    }
    forms.retain(|form| form.len() >= MIN_SECRET_BYTES);
    let in_lines = encoded.into_iter().map(|bytes| Form { bytes, in_lines: true });
    let mut all: Vec<Form> = in_lines.chain(forms.into_iter().map(|bytes| Form { bytes, in_lines: false })).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What stands between the quotes.
fn json_string(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn escaped(json: &str, is_escaped: fn(char) -> bool) -> Vec<u8> {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '/' if is_escaped(c) => text.push_str("\\/"),
            c if is_escaped(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            c => text.push(c),
        }
    }
    text.into_bytes()
}

/// The base64 of `secret`, and what is the same in the base64 of any longer text with it inside: that depends on where in a group of
/// three bytes it begins.
fn base64_forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let whole = BASE64_STANDARD.encode(secret);
    let mut forms = vec![whole.trim_end_matches('=').to_owned()];
    for before in 0..3 {
        let text = BASE64_STANDARD.encode([&[0].repeat(before), secret].concat());
        forms.push(text[(before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6].to_owned());
    }
    with_url_safe(forms)
}

/// The lines of its base64, should something come between them.
fn base64_lines(secret: &[u8]) -> Vec<Vec<u8>> {
    let whole = BASE64_STANDARD.encode(secret);
    let lines = |width| {
        whole.trim_end_matches('=').as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned())
    };
    with_url_safe(BASE64_LINES.into_iter().flat_map(lines).collect())
}

fn with_url_safe(mut forms: Vec<String>) -> Vec<Vec<u8>> {
    forms.retain(|form| form.len() >= MIN_ENCODED_BYTES);
    let url_safe: Vec<String> = forms.iter().map(|form| form.replace('+', "-").replace('/', "_")).collect();
    forms.extend(url_safe);
    forms.into_iter().map(String::into_bytes).collect()
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
