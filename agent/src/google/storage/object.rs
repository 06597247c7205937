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
struct Page {
    items: Vec<Object>,
    next_page_token: Option<String>,
}

/// How many pages in a row may be empty: a list that goes on and on without an object does not end.
const MAX_EMPTY_PAGES: u32 = 1000;

/// A list of objects, as far as it was read.
#[derive(Debug, Default)]
pub struct Listing {
    page_token: Option<String>,
    empty_pages: u32,
}

impl Listing {
    /// Whether another page follows.
    pub fn goes_on(&self) -> bool {
        self.page_token.is_some()
    }
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

    /// The next page of the objects whose names begin with `prefix`'s.
    pub async fn list(&self, prefix: &Location, listing: &mut Listing) -> Result<Vec<Object>, StorageError> {
        let doing = format!("list {prefix}");
        let mut path = format!(
            "/storage/v1/b/{}/o?prefix={}&fields=items({FIELDS}),nextPageToken",
            encoded(&prefix.bucket),
            encoded(&prefix.name)
        );
        if let Some(token) = &listing.page_token {
            path = format!("{path}&pageToken={}", encoded(token));
        }
        let body =
            self.call(&doing, Method::GET, &path, &Value::Null).await?.body.map_err(|error| broken(&doing, &error))?;
        let Page { items, next_page_token } = serde_json::from_slice(&body)
            .map_err(|error| broken(&doing, &format!("the answer is not understood: {error}")))?;
        listing.empty_pages = if items.is_empty() { listing.empty_pages + 1 } else { 0 };
        let repeats = next_page_token.is_some() && next_page_token == listing.page_token;
        if repeats || listing.empty_pages > MAX_EMPTY_PAGES {
            return Err(broken(&doing, &"the list does not end: its pages repeat, or are empty"));
        }
        listing.page_token = next_page_token.filter(|token| !token.is_empty());
        Ok(items)
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
