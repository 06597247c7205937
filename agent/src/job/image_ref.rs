//! Whether a text can be an image reference: `[host[:port]/]path[:tag][@digest]`.
//!
//! In: the text. Out: nothing, or what is wrong with it. Grammar:
//! <https://github.com/distribution/reference/blob/main/reference.go>

use super::error::{Problem, quote};

const EXAMPLE: &str = r#"write for example "europe-docker.pkg.dev/project/repository/image:tag""#;

pub(super) fn check(text: &str) -> Result<String, Problem> {
    let wrong = |why: &str| Problem::new(format!("{} is not an image reference: {why}", quote(text))).fix(EXAMPLE);
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    if text.contains(char::is_whitespace) {
        return Err(wrong("it has a space in it"));
    }
    if text.contains("://") {
        return Err(wrong("it is a URL; a reference begins with the host"));
    }
    let (name_and_tag, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err(wrong("what follows @ is not a digest such as sha256:… with 64 hexadecimal digits"));
    }
    // A colon before the last slash belongs to the port.
    let path_start = name_and_tag.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match name_and_tag[path_start..].find(':') {
        Some(colon) => (&name_and_tag[..path_start + colon], Some(&name_and_tag[path_start + colon + 1..])),
        None => (name_and_tag, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(wrong("its tag is not 1 to 128 of the characters A-Z a-z 0-9 _ . -"));
    }
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if is_host_like(first) => (Some(first), rest),
        _ => (None, name),
    };
    if host.is_some_and(|host| !is_host(host)) {
        return Err(wrong("what stands before the first / is not a host"));
    }
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        let lower = text.replacen(path, &path.to_lowercase(), 1);
        return Err(Problem::new(format!(
            "{} is not an image reference: repository names have no upper case",
            quote(text)
        ))
        .fix(if check(&lower).is_ok() {
            format!("did you mean {}?", quote(&lower))
        } else {
            EXAMPLE.to_owned()
        }));
    }
    if name.len() > 255 {
        return Err(wrong("its name is longer than 255 characters"));
    }
    if !path.split('/').all(is_component) {
        return Err(wrong("each part of its name is made of a-z 0-9, with . _ - between them"));
    }
    Ok(text.to_owned())
}

/// The first part is a host when it could not be part of a name on Docker Hub.
fn is_host_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_ok = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    port_ok && host_ok
}

/// Letters and digits, with single `.`, one or two `_`, or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separators_ok = separators
        .clone()
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'));
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(text.chars().next()) && edge(text.chars().last()) && separators_ok
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match text.split_once(':') {
        Some(("sha256", digits)) => digits.len() == 64 && hex(digits),
        Some((algorithm, digits)) => !algorithm.is_empty() && digits.len() >= 32 && hex(digits),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("alpine@sha256:{}", "0a".repeat(32));
        let good = [
            "alpine",
            "alpine:3.20",
            "library/alpine",
            "localhost/x",
            "localhost:5000/x/y:T-1_a.b",
            "a__b/c--d/e.f",
            "europe-docker.pkg.dev/p/r/train:1",
            "gcr.io/project/image",
            "10.0.0.1:5000/x",
            "[::1]:5000/x",
            "EXAMPLE.com/x",
            &digest,
            &digest.replace("alpine", "gcr.io/p/alpine:3"),
        ];
        for text in good {
            assert_eq!(check(text), Ok(text.to_owned()));
        }
        let bad = [
            ("", "it is empty"),
            ("alpine latest", "it has a space"),
            ("https://gcr.io/p/x", "it is a URL"),
            ("alpine:", "its tag"),
            ("alpine:-x", "its tag"),
            ("alpine@sha256:123", "what follows @"),
            ("-x.com/a", "not a host"),
            ("x.com:/a", "not a host"),
            ("gcr.io//a", "each part"),
            ("a___b", "each part"),
            ("a..b/c", "not a host"),
            ("-it", "each part"),
            ("_a", "each part"),
            ("x/é", "each part"),
            (&"a".repeat(256), "longer than 255"),
        ];
        for (text, why) in bad {
            let error = check(text).unwrap_err().at("a", "").to_string();
            assert!(error.contains(why) && error.ends_with(EXAMPLE), "{error}");
        }
        assert_eq!(
            check("gcr.io/p/Train:V1").unwrap_err().at("a", "").to_string(),
            r#"a: "gcr.io/p/Train:V1" is not an image reference: repository names have no upper case; did you mean "gcr.io/p/train:V1"?"#
        );
    }
}
