//! What the VM's service account may be used for, and the server's clock.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::sleep;

use super::{Metadata, MetadataError};
use crate::retry::Delays;

/// The service account that the VM was made with.
#[derive(Debug, Clone, Deserialize)]
pub struct Account {
    pub email: String,
    /// The access scopes, as URLs. They bound what the account's roles allow.
    pub scopes: Vec<String>,
}

impl Metadata {
    /// The VM's service account; `None` if it has none. Tries as [`Metadata::get`] does.
    pub async fn account(&self, patience: Duration) -> Result<Option<Account>, MetadataError> {
        let path = "instance/service-accounts/default/?recursive=true";
        let Some(text) = self.get(path, patience).await? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|_| MetadataError::Malformed { path: path.to_owned() })
    }

    /// What time it is by the server's clock, to a second, in a few tries; `None` if it does not say.
    pub async fn time(&self, deadline: Duration) -> Result<Option<Timestamp>, MetadataError> {
        let mut delays = Delays::new(Duration::from_millis(250), Duration::from_secs(1)).take(2);
        loop {
            let answer = self.send(self.to(Method::GET, "instance/id", Bytes::new())?, deadline).await;
            match (answer, delays.next()) {
                (Err(_), Some(delay)) => sleep(delay).await,
                (answer, _) => return Ok(answer?.date()),
            }
        }
    }
}
