//! Guest attributes: what the VM writes and others read.
//!
//! <https://cloud.google.com/compute/docs/metadata/manage-guest-attributes>: off unless `enable-guest-attributes` is
//! `TRUE`, two levels (namespace and key), ten writes a minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::UNKNOWN;
use crate::http::{Reply, Request};
use crate::state::State;

const WRITES_PER_MINUTE: usize = 10;
const MINUTE: Duration = Duration::from_mins(1);
/// The limits of metadata entries: <https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations>.
const MAX_VALUE_BYTES: usize = 256 << 10;
const MAX_TOTAL_BYTES: usize = 512 << 10;
const MAX_NAME_BYTES: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct GuestAttributes {
    /// By `namespace/key`.
    pub(crate) values: BTreeMap<String, Vec<u8>>,
    /// When the last minute's writes came.
    writes: VecDeque<Instant>,
}

/// Answers a request for `guest-attributes/PATH`.
pub(crate) fn answer(state: &mut State, path: &str, request: &Request) -> Reply {
    if !enabled(state) {
        return Reply::html_error(403, "Guest attributes endpoint access is disabled.");
    }
    let attributes = &mut state.guest_attributes;
    match request.method.as_str() {
        "GET" | "HEAD" => attributes.get(path),
        "PUT" | "DELETE" if !is_key(path) => Reply::html_error(400, "Invalid guest attribute: use NAMESPACE/KEY."),
        "PUT" | "DELETE" if !attributes.may_write() => Reply::html_error(429, "Rate limit exceeded."),
        "PUT" => attributes.put(path, request),
        "DELETE" if attributes.values.remove(path).is_some() => Reply::empty(200),
        "DELETE" => Reply::html_error(404, UNKNOWN),
        _ => Reply::html_error(405, "The request method is inappropriate for the URL."),
    }
}

/// The instance's own attribute wins over the project's.
fn enabled(state: &State) -> bool {
    let value = |level| state.tree.value(&format!("{level}/attributes/enable-guest-attributes"));
    value("instance").or_else(|| value("project")).is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
}

fn is_key(path: &str) -> bool {
    let good = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
    };
    path.split_once('/').is_some_and(|(namespace, key)| good(namespace) && good(key))
}

impl GuestAttributes {
    /// A value, or what stands below a directory, one name a line.
    fn get(&self, path: &str) -> Reply {
        if let Some(value) = self.values.get(path) {
            return Reply::new(200, "application/text", value.clone());
        }
        let directory = path.trim_end_matches('/');
        let below = |key: &String| match directory {
            "" => key.split_once('/').map(|(namespace, _)| format!("{namespace}/\n")),
            _ => key.strip_prefix(directory)?.strip_prefix('/').map(|key| format!("{key}\n")),
        };
        let mut names: Vec<String> = self.values.keys().filter_map(below).collect();
        names.dedup();
        if names.is_empty() && !directory.is_empty() {
            return Reply::html_error(404, UNKNOWN);
        }
        Reply::new(200, "application/text", names.concat())
    }

    fn put(&mut self, path: &str, request: &Request) -> Reply {
        let others: usize = self.values.iter().filter(|(key, _)| *key != path).map(|(_, value)| value.len()).sum();
        if request.body_bytes > MAX_VALUE_BYTES || others + request.body_bytes > MAX_TOTAL_BYTES {
            return Reply::html_error(413, "The guest attribute is too large.");
        }
        self.values.insert(path.into(), request.body.clone());
        Reply::empty(200)
    }

    /// Counts a write, unless the last minute has seen too many.
    fn may_write(&mut self) -> bool {
        let now = Instant::now();
        self.writes.retain(|at| now.duration_since(*at) < MINUTE);
        let free = self.writes.len() < WRITES_PER_MINUTE;
        if free {
            self.writes.push_back(now);
        }
        free
    }
}
