//! Names in Cloud Storage: `gs://BUCKET/OBJECT`, as parts of a URL, and as paths below a directory.
//! Source: <https://cloud.google.com/storage/docs/objects#naming>, <https://cloud.google.com/storage/docs/request-endpoints#encoding>.

use std::{fmt, fmt::Write as _, path::PathBuf};

use serde::{Deserialize, Serialize};

/// An object, or with a slash at the end a prefix of objects' names. Shown as `gs://BUCKET/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    pub bucket: String,
    pub name: String,
}

impl Location {
    /// Of a URI that the job's reader has checked.
    pub fn parse(uri: &str) -> Self {
        let (bucket, name) = uri.trim_start_matches("gs://").split_once('/').unwrap_or((uri, ""));
        Self { bucket: bucket.into(), name: name.into() }
    }

    pub fn is_prefix(&self) -> bool {
        self.name.is_empty() || self.name.ends_with('/')
    }

    /// The one with `name` behind this prefix.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let slash = if self.is_prefix() { "" } else { "/" };
        Self { bucket: self.bucket.clone(), name: format!("{}{slash}{name}", self.name) }
    }

    /// With another name in the same bucket.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        Self { bucket: self.bucket.clone(), name: name.into() }
    }

    /// The last part of the name.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// The path of the JSON API for this object.
    pub(super) fn object_path(&self) -> String {
        format!("/storage/v1/b/{}/o/{}", encoded(&self.bucket), encoded(&self.name))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gs://{}/{}", self.bucket, self.name)
    }
}

/// As one segment of a path, or one value of a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // A string takes whatever is written to it.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// The path that an object's name is below a directory; `None` where it would lead elsewhere, or nowhere. A name that ends in a
/// slash stands for a directory.
pub fn relative_path(name: &str) -> Option<PathBuf> {
    let parts = name.strip_suffix('/').unwrap_or(name).split('/');
    let is_good = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    parts.clone().all(is_good).then(|| parts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_put_together() {
        let location = Location::parse("gs://b/a dir/ü?#%.csv");
        assert_eq!(location.object_path(), "/storage/v1/b/b/o/a%20dir%2F%C3%BC%3F%23%25.csv");
        assert_eq!((location.file_name(), location.is_prefix()), ("ü?#%.csv", false));
        assert_eq!(location.to_string(), "gs://b/a dir/ü?#%.csv");
        for (uri, joined) in [("gs://b/", "gs://b/x"), ("gs://b/p/", "gs://b/p/x"), ("gs://b/p", "gs://b/p/x")] {
            assert_eq!(Location::parse(uri).join("x").to_string(), joined);
        }
    }

    #[test]
    fn no_name_leads_out_of_its_directory() {
        for (name, path) in [("a", "a"), ("a/b c/ü", "a/b c/ü"), ("a/", "a"), ("..a/...", "..a/...")] {
            assert_eq!(relative_path(name), Some(path.into()));
        }
        for name in ["", "/", "..", "../a", "a/../b", "a/..", "/etc/passwd", "a//b", "./a", "a\0b", "a/./b", "a//"] {
            assert_eq!(relative_path(name), None, "{name:?}");
        }
    }
}
