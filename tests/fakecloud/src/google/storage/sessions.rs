//! Resumable uploads: <https://cloud.google.com/storage/docs/performing-resumable-uploads>.

use std::sync::Arc;

use super::object::Object;
use super::{Storage, api};
use crate::http::{Reply, Request};
use crate::tokens::random;

/// Of a request that breaks off, only whole steps are kept.
const STEP_BYTES: usize = 256 << 10;

/// An upload under way.
#[derive(Debug)]
pub(super) struct Session {
    bucket: String,
    name: String,
    only_generation: Option<u64>,
    object: Object,
    content: Vec<u8>,
    done: bool,
    cancelled: bool,
}

impl Storage {
    pub(super) fn begin_upload(&mut self, request: &Request, bucket: &str) -> Reply {
        let Some(name) = request.query("name") else { return Reply::api_error(400, "Required parameter: name") };
        if name.is_empty() || name.len() > 1024 || name.contains(['\r', '\n']) {
            return Reply::api_error(400, "Invalid object name.");
        }
        if request.query("uploadType").as_deref() != Some("resumable") {
            return Reply::api_error(400, "Only resumable uploads are served here.");
        }
        let only_generation = request.query("ifGenerationMatch").and_then(|text| text.parse().ok());
        if let Some(refusal) = self.precondition(bucket, &name, only_generation) {
            return refusal;
        }
        let traits: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let text = |key: &str| traits[key].as_str().map(str::to_owned);
        let object = Object {
            content_type: text("contentType"),
            content_encoding: text("contentEncoding"),
            ..Object::default()
        };
        let id = format!("{:016x}{:016x}", random(), random());
        let host = request.header("host").unwrap_or_default().to_owned();
        let raw_name = request.target.split(['?', '&']).find_map(|pair| pair.strip_prefix("name=")).unwrap_or_default();
        let uri =
            format!("http://{host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={raw_name}&upload_id={id}");
        let (bucket, content) = (bucket.to_owned(), Vec::new());
        self.sessions
            .insert(id, Session { bucket, name, only_generation, object, content, done: false, cancelled: false });
        Reply::empty(200).with("Location", uri)
    }

    /// A PUT to a session. `is_whole`: its body is as long as it said.
    pub(super) fn continue_upload(&mut self, request: &Request, id: &str, is_whole: bool) -> Reply {
        let Some(session) = self.sessions.get_mut(id) else { return Reply::api_error(404, "Upload not found.") };
        if session.cancelled {
            return Reply::api_error(410, "The upload was cancelled.");
        }
        if session.done {
            let (bucket, name) = (session.bucket.clone(), session.name.clone());
            return match self.get(&bucket, &name) {
                Some(object) => Reply::json(&object.resource(&bucket, &name)),
                None => Reply::api_error(404, "Upload not found."),
            };
        }
        let range = request.header("content-range").unwrap_or_default().trim_start_matches("bytes ").to_owned();
        let Some((place, total)) = range.split_once('/') else { return Reply::api_error(400, "Bad Content-Range.") };
        let total: Option<usize> = total.parse().ok();
        if let Some((first, last)) = place.split_once('-') {
            let (first, last): (usize, usize) = (first.parse().unwrap_or(usize::MAX), last.parse().unwrap_or(0));
            if first > session.content.len() || (is_whole && last + 1 - first != request.body.len()) {
                return Reply::api_error(400, "Content-Range and body do not fit what is stored.");
            }
            // What was stored already is passed over.
            let known = session.content.len() - first;
            session.content.extend_from_slice(request.body.get(known..).unwrap_or_default());
        }
        if !is_whole || total != Some(session.content.len()) {
            let kept = session.content.len() / STEP_BYTES * STEP_BYTES;
            session.content.truncate(kept);
            return match kept {
                0 => Reply::empty(308),
                kept => Reply::empty(308).with("Range", format!("bytes=0-{}", kept - 1)),
            };
        }
        let (bucket, name, only) = (session.bucket.clone(), session.name.clone(), session.only_generation);
        let mut content = std::mem::take(&mut session.content);
        let object = session.object.clone();
        session.done = true;
        if let Some(refusal) = self.precondition(&bucket, &name, only) {
            return refusal;
        }
        if std::mem::take(&mut self.damage_next)
            && let Some(byte) = content.last_mut()
        {
            *byte ^= 1;
        }
        self.stored += 1;
        let object = self.put(&bucket, &name, Object { content: Arc::new(content), ..object });
        Reply::json(&object.resource(&bucket, &name))
    }

    /// What has come of a body whose connection is about to break.
    pub(crate) fn take_part(&mut self, request: &Request) {
        if let Some(id) = request.query("upload_id") {
            self.continue_upload(request, &id, false);
        }
    }

    pub(super) fn cancel_upload(&mut self, id: &str) -> Reply {
        match self.sessions.get_mut(id) {
            Some(session) => {
                session.cancelled = true;
                Reply::empty(499)
            }
            None => Reply::api_error(404, "Upload not found."),
        }
    }

    /// Forgets all uploads, as the service may after a week.
    pub(crate) fn forget_uploads(&mut self) {
        self.sessions.clear();
    }

    pub(super) fn precondition(&self, bucket: &str, name: &str, only: Option<u64>) -> Option<Reply> {
        let now = self.get(bucket, name).map_or(0, |object| object.generation);
        only.is_some_and(|wanted| wanted != now).then(api::precondition_failed)
    }
}
