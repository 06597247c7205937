//! Calls to Cloud Storage's JSON API: a request goes in, its answer comes out, or an error that says whether to try again.
//! Source: <https://cloud.google.com/storage/docs/json_api>.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request, Uri, header::CONTENT_TYPE, http::request::Builder};
use serde_json::Value;

use super::StorageError;
use crate::{
    files::Workers,
    google::{CallError, Client, Limits, Patience},
    http::{Answer, Http},
    metadata::Metadata,
    waits::Waits,
};

/// A call that moves no data.
const CALL_DEADLINE: Duration = Duration::from_mins(1);
/// A page of a thousand names of a kilobyte, with escapes.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// A transfer that moves no byte for this long is aborted and resumed.
const STALL: Duration = Duration::from_mins(1);

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    pub(super) client: Client,
    /// How long to go on trying while nothing moves.
    patience: Duration,
    /// Read and write what is transferred.
    pub(super) workers: Workers,
}

impl Storage {
    /// `endpoint`: such as `https://storage.googleapis.com`.
    pub fn new(
        http: &Http,
        metadata: &Metadata,
        endpoint: &str,
        allowed_hosts: &[String],
        patience: Duration,
        workers: Workers,
    ) -> Self {
        let client = Client::new(http, metadata, "Cloud Storage", endpoint, allowed_hosts);
        Self { client, patience, workers }
    }

    /// The same for somebody who waits.
    #[must_use]
    pub fn with_waits(self, waits: &Waits) -> Self {
        Self { client: self.client.with_waits(waits), ..self }
    }

    /// The same client with this patience, if it is shorter.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: self.patience.min(patience), ..self }
    }

    /// The e-mail address of the VM's service account, for people.
    pub async fn account(&self) -> String {
        self.client.account().await
    }

    /// Makes one call and retries it within the client's patience.
    pub(super) async fn call(
        &self,
        doing: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Answer, StorageError> {
        let mut patience = self.patience();
        loop {
            match self.try_call(doing, method.clone(), path, &[], body).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error.unless_tried_again(&mut patience).await?,
            }
        }
    }

    /// One call, once. `path` may carry a query; a body that is null is none.
    pub(super) async fn try_call(
        &self,
        doing: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, StorageError> {
        let mut request = self.authorized(doing, path).await?.method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let request = request.map_err(|error| refused(doing, &error))?;
        self.answer_to(doing, request).await
    }

    /// The answer to a request that moves no data, where it is a good one.
    pub(super) async fn answer_to(&self, doing: &str, request: Request<Bytes>) -> Result<Answer, StorageError> {
        let deadline = CALL_DEADLINE.min(self.patience / 4);
        let answer = self.client.send(request, Limits { deadline, max_answer_bytes: MAX_ANSWER_BYTES }).await;
        answer.map_err(|error| StorageError::call(doing, error))
    }

    /// A request with the VM's token.
    pub(super) async fn authorized(&self, doing: &str, path: &str) -> Result<Builder, StorageError> {
        self.client.authorized(path).await.map_err(|error| StorageError::call(doing, error))
    }

    /// A URL that the VM's data may go to.
    pub(super) fn checked(&self, doing: &str, url: &str) -> Result<Uri, StorageError> {
        self.client.checked(url).map_err(|error| StorageError::call(doing, error))
    }

    /// How long a transfer may stand still.
    pub(super) fn stall(&self) -> Duration {
        stall(self.patience)
    }

    pub(super) fn patience(&self) -> Patience {
        self.client.patience(self.patience)
    }
}

/// How long a transfer, or a file system, may stand still.
pub fn stall(patience: Duration) -> Duration {
    STALL.min(patience / 4)
}

pub(super) fn broken(doing: &str, reason: &impl ToString) -> StorageError {
    StorageError::call(doing, CallError::broken(reason))
}

pub(super) fn refused(doing: &str, reason: &impl ToString) -> StorageError {
    StorageError::call(doing, CallError::refused(reason))
}
