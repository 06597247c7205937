//! What a message may show of a job, as it goes to the report, the console and the log.
//!
//! In: a piece of the job's text. Out: the same with `…` in place of what may be a secret.

use std::borrow::Cow;

/// How the names of options and variables with secrets go on or end.
const SECRET_NAMES: [&str; 9] = ["token", "secret", "passw", "pwd", "apikey", "_key", "-key", "credential", "auth"];
/// How the secrets of well-known services begin.
const SECRET_STARTS: [&str; 20] = [
    "hf_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk-",
    "sk_",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "npm_",
    "pypi-",
    "dckr_pat_",
    "-----BEGIN",
];

/// Hides the values of assignments to secret names, the words after options with such names, the user and query of URLs, and
/// words that begin as known secrets do.
pub(super) fn without_secrets(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut follows_secret_name = false;
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        let space = &piece[word.len()..];
        let hidden =
            if follows_secret_name && !word.starts_with('-') { Cow::Borrowed("…") } else { hidden_word(word) };
        follows_secret_name = word.starts_with('-') && !word.contains('=') && is_secret_name(word);
        shown += &hidden;
        shown += space;
    }
    if shown == text { Cow::Borrowed(text) } else { Cow::Owned(shown) }
}

fn hidden_word(word: &str) -> Cow<'_, str> {
    let bare_at = word.find(|c: char| c.is_alphanumeric() || c == '-').unwrap_or(0);
    let bare = &word[bare_at..];
    if let Some(start) = SECRET_STARTS.iter().find(|start| bare.starts_with(**start) && bare.len() > start.len()) {
        return format!("{}{start}…", &word[..bare_at]).into();
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
        let query = rest.find('?').unwrap_or(rest.len());
        let user = if host > 0 { "…@" } else { "" };
        let rest_shown = &rest[host.min(query)..query];
        let tail = if query < rest.len() { "?…" } else { "" };
        return format!("{scheme}://{user}{rest_shown}{tail}").into();
    }
    // As in a URL without its scheme; a digest stands after an @ too.
    if let Some((user, host)) = word.rsplit_once('@')
        && user.contains(':')
        && !host.starts_with("sha")
    {
        return format!("…@{host}").into();
    }
    match word.split_once(['=', ':']) {
        Some((name, value)) if !value.is_empty() && is_secret_name(name) => format!("{}…", &word[..=name.len()]).into(),
        _ => word.into(),
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part)) || name == "key"
}

/// What may be shown of a word in which `=` begins a value: what comes before that.
pub(super) fn up_to_equals(word: &str) -> Cow<'_, str> {
    match word.split_once('=') {
        Some((name, value)) if !value.is_empty() => format!("{name}=…").into(),
        _ => word.into(),
    }
}

/// The first of several words, and a second that is a file: the others may hold anything.
pub(super) fn first_word(text: &str) -> Cow<'_, str> {
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(first), Some(second), None) if is_file_like(first) && is_file_like(second) && second.contains('.') => {
            text.into()
        }
        (Some(first), Some(_), _) => format!("{} …", up_to_equals(first)).into(),
        _ => text.into(),
    }
}

/// Whether the text is a program or a file, by its looks.
pub(super) fn is_file_like(text: &str) -> bool {
    text.len() <= 40 && text.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'/' | b'_'))
}

/// Whether the text can only be a variable's name, and not the value that somebody wrote in its place.
pub(super) fn is_surely_a_name(text: &str) -> bool {
    let is_one_case = |is_other: fn(&u8) -> bool| !text.as_bytes().iter().any(is_other);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    text.len() <= 40
        && digits <= 4
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && (is_one_case(u8::is_ascii_lowercase) || is_one_case(u8::is_ascii_uppercase))
        && !SECRET_STARTS.iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let cases = [
            ("hf_abcdef", "hf_…"),
            ("--token=abc", "--token=…"),
            ("train.py --token abc --epochs 3", "train.py --token … --epochs 3"),
            ("DB_PASSWORD=x y", "DB_PASSWORD=… y"),
            ("https://bot:pw@ghcr.io/p/i", "https://…@ghcr.io/p/i"),
            ("bot:pw@ghcr.io/p/i", "…@ghcr.io/p/i"),
            ("//bot:p@w@host/share:/x", "…@host/share:/x"),
            ("h:5000/p:1@sha256:0", "h:5000/p:1@sha256:0"),
            ("root@host", "root@host"),
            ("https://storage.googleapis.com/b/o?X-Goog-Signature=1", "https://storage.googleapis.com/b/o?…"),
            ("https://a?x@b", "https://a?…"),
            ("'ghp_x'", "'ghp_…"),
            ("Authorization: x", "Authorization: x"),
            ("authorization:x", "authorization:…"),
            ("seccomp=p.json", "seccomp=p.json"),
            ("gs://bucket/dir/", "gs://bucket/dir/"),
            ("a:1", "a:1"),
            (" two  spaces ", " two  spaces "),
            ("", ""),
        ];
        for (text, shown) in cases {
            assert_eq!(without_secrets(text), shown, "{text}");
        }
        assert_eq!(up_to_equals("A=hunter2"), "A=…");
        assert_eq!(first_word("A=hunter2 x"), "A=… …");
        assert_eq!(first_word("python train.py --key x"), "python …");
        assert_eq!(first_word("python train.py"), "python train.py");
        assert_eq!(first_word("htpasswd hunter"), "htpasswd …");
    }

    #[test]
    fn a_name_is_told_from_a_value() {
        for name in ["HF_TOKEN", "http_proxy", "A1", "_X"] {
            assert!(is_surely_a_name(name), "{name}");
        }
        for value in ["hf_SECRET", "ghp_abc", "d41d8cd98f00b204e9800998ecf8427e", "a b", "Hunter2", "p4s$", ""] {
            assert!(!is_surely_a_name(value), "{value}");
        }
    }
}
