//! The calls on objects and lists.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Storage;
use super::object::Object;
use crate::http::{Reply, Request, percent_decode};
use crate::tokens::Tokens;

/// Source objects of one composition, at most.
const MAX_SOURCES: usize = 32;

pub(super) fn precondition_failed() -> Reply {
    Reply::api_error(412, "At least one of the pre-conditions you specified did not hold.")
}

impl Storage {
    pub(crate) fn answer(&mut self, tokens: &Tokens, request: &Request) -> Reply {
        // The URI of a session is a key itself.
        if let Some(id) = request.query("upload_id") {
            return match request.method.as_str() {
                "PUT" => self.continue_upload(request, &id, true),
                "DELETE" => self.cancel_upload(&id),
                _ => Reply::api_error(405, "Not for an upload."),
            };
        }
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let Some(scopes) = bearer.and_then(|token| tokens.scopes_of(token)) else {
            return Reply::api_error(401, "Invalid Credentials");
        };
        let is_scope = |scope: &String| scope.ends_with("/cloud-platform") || scope.contains("/devstorage.");
        if !scopes.iter().any(is_scope) {
            return Reply::api_error(403, "Provided scope(s) are not authorized");
        }
        let target = request.target.split('?').next().unwrap_or_default();
        let parts: Vec<String> = target.trim_start_matches('/').split('/').map(percent_decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (method, parts) = (request.method.as_str(), parts.as_slice());
        let (bucket, writes) = match (method, parts) {
            ("GET", ["storage", "v1", "b", bucket, "o", ..]) => (*bucket, false),
            ("POST", ["upload", "storage", "v1", "b", bucket, "o"]) | (_, ["storage", "v1", "b", bucket, "o", ..]) => {
                (*bucket, true)
            }
            _ => return Reply::api_error(404, "Not Found"),
        };
        let (permitted, right) = if writes { (self.may_write, "create") } else { (self.may_read, "get") };
        if !permitted {
            let message =
                format!("vm@fake does not have storage.objects.{right} access to the Google Cloud Storage object.");
            return Reply::api_error(403, &message);
        }
        if self.missing_buckets.contains(bucket) {
            return Reply::api_error(404, "The specified bucket does not exist.");
        }
        match (method, parts) {
            ("POST", ["upload", ..]) => self.begin_upload(request, bucket),
            ("GET", [.., "o"]) => self.list(request, bucket),
            ("GET", [.., "o", name]) => self.read(request, bucket, name),
            ("DELETE", [.., "o", name]) => match self.objects.remove(&(bucket.to_owned(), (*name).to_owned())) {
                Some(_) => Reply::empty(204),
                None => no_object(bucket, name),
            },
            ("POST", [.., "o", name, "compose"]) => self.compose(request, bucket, name),
            _ => Reply::api_error(405, "Not served here."),
        }
    }

    fn list(&self, request: &Request, bucket: &str) -> Reply {
        let prefix = request.query("prefix").unwrap_or_default();
        let after = request.query("pageToken").unwrap_or_default();
        let mut names = self.names(bucket);
        names.retain(|name| name.starts_with(&prefix) && *name > after);
        let more = names.len() > self.page_size;
        names.truncate(self.page_size);
        let items: Vec<Value> =
            names.iter().filter_map(|name| Some(self.get(bucket, name)?.resource(bucket, name))).collect();
        let mut page = json!({"kind": "storage#objects"});
        if !items.is_empty() {
            page["items"] = items.into();
        }
        if more {
            page["nextPageToken"] = names.last().map(String::as_str).into();
        }
        Reply::json(&page)
    }

    fn read(&self, request: &Request, bucket: &str, name: &str) -> Reply {
        let Some(object) = self.get(bucket, name) else { return no_object(bucket, name) };
        let only = request.query("ifGenerationMatch").and_then(|text| text.parse::<u64>().ok());
        if only.is_some_and(|wanted| wanted != object.generation) {
            return precondition_failed();
        }
        if request.query("alt").as_deref() != Some("media") {
            return Reply::json(&object.resource(bucket, name));
        }
        if object.content_encoding.is_some() && !request.header_contains("accept-encoding", "gzip") {
            return Reply::api_error(501, "Transcoding is not served here: accept gzip.");
        }
        let total = object.content.len();
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        let first: usize = range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0);
        if first >= total && first > 0 {
            return Reply::api_error(416, "The requested range cannot be satisfied.");
        }
        let reply = Reply::new(200, "application/octet-stream", object.content[first..].to_vec())
            .with("x-goog-hash", format!("crc32c={}", object.crc32c()))
            .with("x-goog-generation", object.generation.to_string());
        if first == 0 {
            return reply;
        }
        Reply { status: 206, ..reply }.with("Content-Range", format!("bytes {first}-{}/{total}", total - 1))
    }

    fn compose(&mut self, request: &Request, bucket: &str, name: &str) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let sources: Vec<&str> = body["sourceObjects"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|source| source["name"].as_str())
            .collect();
        if sources.is_empty() || sources.len() > MAX_SOURCES {
            return Reply::api_error(400, "The number of source components provided (0 or > 32) is invalid.");
        }
        let mut content = Vec::new();
        for source in sources {
            let Some(object) = self.get(bucket, source) else { return no_object(bucket, source) };
            content.extend_from_slice(&object.content);
        }
        let text = |key: &str| body["destination"][key].as_str().map(str::to_owned);
        let object = Object {
            content: Arc::new(content),
            content_type: text("contentType"),
            content_encoding: text("contentEncoding"),
            ..Object::default()
        };
        Reply::json(&self.put(bucket, name, object).resource(bucket, name))
    }
}

fn no_object(bucket: &str, name: &str) -> Reply {
    Reply::api_error(404, &format!("No such object: {bucket}/{name}"))
}
