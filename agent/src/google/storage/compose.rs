//! Many objects made one, without their bytes going over the wire again.
//! Source: <https://cloud.google.com/storage/docs/composite-objects>.

use hyper::Method;
use serde_json::{Value, json};

use super::{Location, Storage, StorageError, Traits};

/// Of one call, at most.
pub const MAX_SOURCES: usize = 32;

impl Storage {
    /// Makes `to` of the objects `sources` of its bucket, in their order: at most [`MAX_SOURCES`]. Doing it again is harmless.
    pub async fn compose(&self, sources: &[&str], to: &Location, traits: Traits<'_>) -> Result<(), StorageError> {
        let doing = format!("compose {to}");
        let sources: Vec<Value> = sources.iter().map(|name| json!({"name": name})).collect();
        let traits = json!({"contentType": traits.content_type, "contentEncoding": traits.content_encoding});
        let body = json!({"sourceObjects": sources, "destination": traits});
        self.call(&doing, Method::POST, &format!("{}/compose", to.object_path()), &body).await.map(drop)
    }
}
