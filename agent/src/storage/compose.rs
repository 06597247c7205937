//! Many objects made one, without their bytes going over the wire again.
//! Source: <https://cloud.google.com/storage/docs/composite-objects>.

use hyper::Method;
use serde_json::{Value, json};

use super::{Location, Storage, StorageError, Traits};

/// Of one call, at most.
const MAX_SOURCES: usize = 32;

impl Storage {
    /// Makes `to` of the objects `sources` of its bucket, in their order. Of more than one call takes, some are made one before, under
    /// `between` and a number: those are returned, and no longer needed. Doing it again, or in part, is harmless.
    pub async fn compose(
        &self,
        sources: Vec<String>,
        between: &str,
        to: &Location,
        traits: Traits<'_>,
    ) -> Result<Vec<String>, StorageError> {
        let (mut sources, mut made) = (sources, Vec::new());
        while sources.len() > MAX_SOURCES {
            let mut next = Vec::new();
            for some in sources.chunks(MAX_SOURCES) {
                let name = format!("{between}{:06}", made.len());
                self.compose_some(some, &to.sibling(&name), traits).await?;
                made.push(name.clone());
                next.push(name);
            }
            sources = next;
        }
        self.compose_some(&sources, to, traits).await?;
        Ok(made)
    }

    async fn compose_some(&self, sources: &[String], to: &Location, traits: Traits<'_>) -> Result<(), StorageError> {
        let doing = format!("compose {to}");
        let sources: Vec<Value> = sources.iter().map(|name| json!({"name": name})).collect();
        let traits = json!({"contentType": traits.content_type, "contentEncoding": traits.content_encoding});
        let body = json!({"sourceObjects": sources, "destination": traits});
        self.call(&doing, Method::POST, &format!("{}/compose", to.object_path()), &body).await.map(drop)
    }
}
