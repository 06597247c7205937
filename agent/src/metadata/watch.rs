//! Waiting for a metadata value to change: a request that hangs, not a poll.

use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use super::Metadata;
use crate::retry::Delays;

/// How long the server may hold a request. It then answers with the old value, so connections that died unnoticed
/// are replaced.
const HOLD: Duration = Duration::from_mins(10);

/// A path of the metadata server under watch. A watch never fails: it goes on until it is dropped.
pub struct Watch {
    metadata: Metadata,
    path: String,
    recursive: bool,
    etag: Option<String>,
}

impl Metadata {
    /// Watches a value, or with `recursive` a directory, which comes as JSON.
    pub fn watch(&self, path: &str, recursive: bool) -> Watch {
        Watch { metadata: self.clone(), path: path.to_owned(), recursive, etag: None }
    }
}

impl Watch {
    /// The current value at the first call, each changed one after that.
    pub async fn next(&mut self) -> Bytes {
        let mut delays = Delays::new(Duration::from_secs(1), Duration::from_mins(1));
        loop {
            let mut query = String::from(if self.recursive { "?recursive=true&alt=json" } else { "?alt=text" });
            let mut deadline = super::REQUEST_DEADLINE;
            if let Some(etag) = &self.etag {
                query = format!("{query}&wait_for_change=true&timeout_sec={}&last_etag={etag}", HOLD.as_secs());
                deadline = HOLD + Duration::from_secs(30);
            }
            match self.metadata.request(&format!("{}{query}", self.path), deadline).await {
                // At its time limit the server answers 200 with the old value: only the tag tells.
                Ok(Some(value)) if value.etag.is_some() && value.etag == self.etag => continue,
                Ok(Some(value)) => {
                    // Without a tag the next request could not hang: start over, at the pace of the delays.
                    let paced = value.etag.is_none();
                    self.etag = value.etag;
                    if paced && let Some(delay) = delays.next() {
                        tokio::time::sleep(delay).await;
                    }
                    return value.bytes;
                }
                Ok(None) => debug!("{} is not there", self.path),
                Err(error) => debug!("{error}; watching again"),
            }
            self.etag = None;
            if let Some(delay) = delays.next() {
                tokio::time::sleep(delay).await;
            }
        }
    }
}
