//! One recorded request: what came in, when, and what was answered.

use std::time::{Instant, SystemTime};

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// The metadata server.
    Metadata,
    /// The Workflows callback endpoint.
    Callback,
    /// Cloud Storage.
    Storage,
}

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Counts up from 0 for each server, in order of arrival.
    pub id: u64,
    /// When its head had been read.
    pub at: Instant,
    /// The same by the wall clock.
    pub wall: SystemTime,
    /// Method, upper case.
    pub method: String,
    /// Path with its query, as sent.
    pub path: String,
    /// Headers as sent; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, at most 2 MiB of it.
    pub body: Vec<u8>,
    /// What was answered.
    pub answer: Answer,
    /// Callback endpoint only: the payload went into the workflow's queue. True also where the answer then got lost.
    pub accepted: bool,
}

/// What a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet: being worked on, or held by `wait_for_change`.
    Pending,
    /// A whole answer with this status.
    Status(u16),
    /// Nothing, as scripted, for as long as the client stayed.
    Hung,
    /// Nothing: the client left before the answer was ready, as from a long poll.
    Abandoned,
    /// The connection was reset, or closed as the server went down.
    Reset,
    /// An answer with this status that ended too early.
    Truncated(u16),
    /// Bytes that are not HTTP.
    Garbage,
}

/// A request that has been dealt with, as sent to watchers.
#[derive(Clone, Debug)]
pub struct Event {
    /// The server it came to.
    pub site: Site,
    /// The request and its answer.
    pub request: Recorded,
}

impl Recorded {
    /// First value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, invalid bytes replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
