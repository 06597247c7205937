//! What Cloud Storage knows of objects: looked up by name or by prefix.
//! Source: <https://cloud.google.com/storage/docs/json_api/v1/objects>.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::{Location, Storage, StorageError, client::broken, location::encoded};
use crate::http::Answer;

/// An object as the API lists it.
#[derive(Debug, Clone, Deserialize)]
pub struct Object {
    pub name: String,
    /// Which of the contents that the name has had.
    pub generation: String,
    size: String,
    crc32c: Option<String>,
}

/// A part of a list, and how to get the next.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Page {
    pub items: Vec<Object>,
    pub next_page_token: Option<String>,
}

const FIELDS: &str = "name,generation,size,crc32c";

impl Object {
    pub fn size(&self) -> u64 {
        self.size.parse().unwrap_or_default()
    }

    /// In the API it is base64 of the big-endian bytes.
    pub fn crc32c(&self) -> Option<u32> {
        let bytes = STANDARD.decode(self.crc32c.as_ref()?).ok()?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn of(doing: &str, answer: Answer) -> Result<Self, StorageError> {
        let body = answer.body.map_err(|error| broken(doing, &error))?;
        serde_json::from_slice(&body).map_err(|error| broken(doing, &format!("the answer is not understood: {error}")))
    }
}

impl Storage {
    pub async fn object(&self, location: &Location) -> Result<Object, StorageError> {
        let doing = format!("look up {location}");
        let path = format!("{}?fields={FIELDS}", location.object_path());
        Object::of(&doing, self.call(&doing, Method::GET, &path, &Value::Null).await?)
    }

    /// A page of the objects whose names begin with `prefix`'s.
    pub async fn list(&self, prefix: &Location, page_token: Option<&str>) -> Result<Page, StorageError> {
        let doing = format!("list {prefix}");
        let mut path = format!(
            "/storage/v1/b/{}/o?prefix={}&fields=items({FIELDS}),nextPageToken",
            encoded(&prefix.bucket),
            encoded(&prefix.name)
        );
        if let Some(token) = page_token {
            path = format!("{path}&pageToken={}", encoded(token));
        }
        let body =
            self.call(&doing, Method::GET, &path, &Value::Null).await?.body.map_err(|error| broken(&doing, &error))?;
        serde_json::from_slice(&body).map_err(|error| broken(&doing, &format!("the answer is not understood: {error}")))
    }

    /// Deletes an object; one that is gone already is fine.
    pub async fn delete(&self, location: &Location) -> Result<(), StorageError> {
        let doing = format!("delete {location}");
        match self.call(&doing, Method::DELETE, &location.object_path(), &Value::Null).await {
            Err(error) if !error.is_status(StatusCode::NOT_FOUND) => Err(error),
            _ => Ok(()),
        }
    }
}
