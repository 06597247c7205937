//! Waiting for a metadata value to change: a request that hangs, not a poll.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use tracing::debug;

use super::{Metadata, MetadataError};
use crate::retry::Delays;

/// How long the server may hold a request. It then answers with the old value, so connections that died unnoticed
/// are replaced.
const HOLD: Duration = Duration::from_mins(10);

/// What is under a watched path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    Value,
    /// All that is below it, as JSON.
    Directory,
}

/// A path of the metadata server under watch. It goes on until it is dropped.
pub struct Watch {
    metadata: Metadata,
    path: String,
    what: Watched,
    etag: Option<String>,
    /// Between tries that fail, and answers that tell no version.
    delays: Delays,
}

impl Metadata {
    pub fn watch(&self, path: &str, what: Watched) -> Watch {
        Watch { metadata: self.clone(), path: path.to_owned(), what, etag: None, delays: delays() }
    }
}

impl Watch {
    /// The current value at the first call, each changed one after that. A try that fails is made again until it succeeds.
    pub async fn next(&mut self) -> Bytes {
        loop {
            match self.try_next().await {
                Ok(value) => return value,
                Err(error) => debug!("{error}; watching again"),
            }
        }
    }

    /// As [`Watch::next`], but an error where a try failed, after a pause that grows from one such error to the next.
    pub async fn try_next(&mut self) -> Result<Bytes, MetadataError> {
        loop {
            let mut query =
                String::from(if self.what == Watched::Directory { "?recursive=true&alt=json" } else { "?alt=text" });
            let mut deadline = super::REQUEST_DEADLINE;
            if let Some(etag) = &self.etag {
                query = format!("{query}&wait_for_change=true&timeout_sec={}&last_etag={etag}", HOLD.as_secs());
                deadline = HOLD + Duration::from_secs(30);
            }
            let answer = self.metadata.request(&format!("{}{query}", self.path), deadline).await;
            match answer {
                // At its time limit the server answers 200 with the old value: only the tag tells.
                Ok(Some(value)) if value.etag.is_some() && value.etag == self.etag => continue,
                Ok(Some(value)) => {
                    // Without a tag the next request could not hang: start over, at the pace of the delays.
                    if value.etag.is_none() {
                        self.pause().await;
                    } else {
                        self.delays = delays();
                    }
                    self.etag = value.etag;
                    return Ok(value.bytes);
                }
                Ok(None) => debug!("{} is not there", self.path),
                Err(error) => {
                    self.etag = None;
                    self.pause().await;
                    return Err(error);
                }
            }
            self.etag = None;
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        sleep(self.delays.next().unwrap_or_default()).await;
    }
}

fn delays() -> Delays {
    Delays::new(Duration::from_secs(1), Duration::from_mins(1))
}
