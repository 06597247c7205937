//! The callback endpoint of a Workflows execution.
//!
//! In: POSTs to `/v1/projects/…/callbacks/ID`. Out: the rules of
//! <https://cloud.google.com/workflows/docs/creating-callback-endpoints>: an OAuth token with scope `cloud-platform` and
//! the permission `workflows.callbacks.send`, the method that the endpoint was made for, a queue of one payload, an empty
//! body on success, 404 once the execution is over.

use crate::config::{CLOUD_PLATFORM, Config};
use crate::google::compute;
use crate::google::secret_manager;
use crate::http::{Reply, Request};
use crate::shared::Shared;
use crate::tokens::{Tokens, random};

#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Path of the endpoint.
    pub(crate) path: String,
    method: String,
    pub(crate) max_bytes: usize,
    retry_after_s: Option<u32>,
    /// Whether the service account has `workflows.callbacks.send`.
    pub(crate) permitted: bool,
    /// Whether the execution is over.
    pub(crate) ended: bool,
    /// The payload that the workflow has not awaited yet.
    queued: Option<Vec<u8>>,
    /// How many payloads the workflow already waits for.
    awaited: usize,
}

/// Answers a request, and notes in its record whether the payload was taken.
pub(crate) fn answer(shared: &Shared, id: u64, request: &Request) -> Reply {
    if request.path().starts_with(compute::PATH) {
        return shared.change(|state| state.instance.answer(&state.tokens, request));
    }
    if request.path().starts_with(secret_manager::PATH) {
        return shared.with(|state| state.secrets.answer(&state.tokens, request));
    }
    shared.change(|state| match state.endpoint.take(&state.tokens, request) {
        Ok(()) => {
            state.accept(id);
            Reply::empty(200)
        }
        Err(refusal) => refusal,
    })
}

impl Endpoint {
    pub(crate) fn new(config: &Config) -> Self {
        let path = format!(
            "/v1/projects/{}/locations/{}/workflows/{}/executions/{:016x}/callbacks/{:016x}{:016x}",
            config.numeric_project_id,
            config.region(),
            config.workflow,
            random(),
            random(),
            random()
        );
        Self {
            path,
            method: config.callback_method.clone(),
            max_bytes: config.callback_max_bytes,
            retry_after_s: config.callback_retry_after_s,
            permitted: true,
            ended: false,
            queued: None,
            awaited: 0,
        }
    }

    /// The workflow awaits one payload: the queued one, or else the next to come.
    pub(crate) fn consume(&mut self) -> Option<Vec<u8>> {
        let payload = self.queued.take();
        if payload.is_none() {
            self.awaited += 1;
        }
        payload
    }

    fn take(&mut self, tokens: &Tokens, request: &Request) -> Result<(), Reply> {
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let Some(scopes) = bearer.and_then(|token| tokens.scopes_of(token)) else {
            let refusal = Reply::api_error(401, "Request had invalid authentication credentials.");
            return Err(refusal.with("WWW-Authenticate", r#"Bearer realm="https://accounts.google.com/""#));
        };
        if !scopes.iter().any(|scope| scope == CLOUD_PLATFORM) {
            return Err(Reply::api_error(403, "Request had insufficient authentication scopes."));
        }
        if !self.permitted {
            let message = "Permission 'workflows.callbacks.send' denied on resource (or it may not exist).";
            return Err(Reply::api_error(403, message));
        }
        if self.ended || request.path() != self.path {
            return Err(Reply::api_error(404, "Requested entity was not found."));
        }
        if request.method != self.method {
            return Err(
                Reply::api_error(405, "The callback endpoint expects another HTTP method.").with("Allow", &self.method)
            );
        }
        if request.body_bytes > self.max_bytes {
            return Err(Reply::api_error(413, "Request payload size exceeds the limit."));
        }
        if self.awaited > 0 {
            self.awaited -= 1;
        } else if self.queued.is_some() {
            let refusal = Reply::api_error(429, "The callback already has a payload that is not processed yet.");
            return Err(match self.retry_after_s {
                Some(seconds) => refusal.with("Retry-After", seconds.to_string()),
                None => refusal,
            });
        } else {
            self.queued = Some(request.body.clone());
        }
        Ok(())
    }
}
