//! Calls to Cloud Storage's JSON API: a request goes in, its answer comes out, or an error that says whether to try again.
//! Source: <https://cloud.google.com/storage/docs/json_api>.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    Method, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
    http::request::Builder,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::StorageError;
use crate::{
    files::Workers,
    google::check_endpoint,
    http::{Answer, Http},
    job::CallbackAuth,
    metadata::{Metadata, TokenError},
    retry::Delays,
    waits::Waits,
};

/// A call that moves no data.
const CALL_DEADLINE: Duration = Duration::from_mins(1);
/// A page of a thousand names of a kilobyte, with escapes.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Without a byte in this time a transfer is broken off, and begun again from there.
const STALL: Duration = Duration::from_mins(1);

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    pub(super) http: Http,
    metadata: Metadata,
    /// Such as `https://storage.googleapis.com`, without a slash at the end.
    endpoint: String,
    allowed_hosts: Vec<String>,
    /// How long to go on trying while nothing moves.
    patience: Duration,
    /// Read and write what is transferred.
    pub(super) workers: Workers,
    /// Hears of tries that failed.
    waits: Waits,
}

impl Storage {
    pub fn new(
        http: Http,
        metadata: Metadata,
        endpoint: &str,
        allowed_hosts: &[String],
        patience: Duration,
        workers: Workers,
    ) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self {
            http,
            metadata,
            endpoint,
            allowed_hosts: allowed_hosts.to_vec(),
            patience,
            workers,
            waits: Waits::default(),
        }
    }

    /// The same for somebody who waits.
    #[must_use]
    pub fn with_waits(self, waits: &Waits) -> Self {
        Self { waits: waits.clone(), ..self }
    }

    /// The same with another patience, if that is less.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: self.patience.min(patience), ..self }
    }

    /// The e-mail address of the VM's service account, for people.
    pub async fn account(&self) -> String {
        let path = "instance/service-accounts/default/email";
        let answer = self.metadata.get_once(path, Duration::from_secs(2)).await;
        let email = answer.ok().flatten().map(|email| String::from_utf8_lossy(&email).trim().to_owned());
        email.unwrap_or_else(|| "EMAIL".into())
    }

    /// One call, tried again for as long as the client's patience lasts.
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
                Err(error) => patience.after(error).await?,
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
        let request = request.map_err(|error| refused(doing, &error.to_string()))?;
        self.answer_to(doing, request).await
    }

    /// The answer to a request that moves no data, where it is a good one.
    pub(super) async fn answer_to(&self, doing: &str, request: Request<Bytes>) -> Result<Answer, StorageError> {
        let answer = self.http.send(request, CALL_DEADLINE.min(self.patience / 4), MAX_ANSWER_BYTES).await;
        let answer = answer.map_err(|error| broken(doing, &error))?;
        // 308: an upload that goes on.
        if answer.status.is_success() || answer.status.as_u16() == 308 {
            return Ok(answer);
        }
        Err(StorageError::status(doing, &answer))
    }

    /// A request with the VM's token.
    pub(super) async fn authorized(&self, doing: &str, path: &str) -> Result<Builder, StorageError> {
        let uri = self.checked(doing, &format!("{}{path}", self.endpoint))?;
        let token = self.metadata.access_token().await.map_err(|error| match error {
            TokenError::NoServiceAccount => StorageError::NoAccount { doing: doing.to_owned() },
            error => broken(doing, &error),
        })?;
        let bearer = token.bearer().map_err(|error| broken(doing, &error))?;
        Ok(Request::builder().uri(uri).header(AUTHORIZATION, bearer))
    }

    /// A URL that the VM's token, or its data, may go to.
    pub(super) fn checked(&self, doing: &str, url: &str) -> Result<Uri, StorageError> {
        check_endpoint("the endpoint of Cloud Storage", url, &CallbackAuth::AccessToken, &self.allowed_hosts)
            .map_err(|problem| refused(doing, &problem))
    }

    /// How long a transfer may stand still.
    pub(super) fn stall(&self) -> Duration {
        stall(self.patience)
    }

    pub(super) fn patience(&self) -> Patience {
        Patience {
            all: self.patience,
            end: Instant::now() + self.patience,
            delays: delays(self.patience),
            tries: 0,
            waits: self.waits.clone(),
        }
    }
}

/// How long a transfer, or a file system, may stand still.
pub fn stall(patience: Duration) -> Duration {
    STALL.min(patience / 4)
}

/// How long to go on trying, and the pauses between.
pub(super) struct Patience {
    all: Duration,
    end: Instant,
    delays: Delays,
    tries: u32,
    waits: Waits,
}

impl Patience {
    /// After a try that failed: waits for the next one, or gives the error back where there is none to come.
    pub(super) async fn after(&mut self, error: StorageError) -> Result<(), StorageError> {
        let now = Instant::now();
        if !error.is_transient() || now >= self.end {
            return Err(error);
        }
        // The last try comes at the end, whatever the delay, and whatever Cloud Storage wants.
        let delay = self.delays.next().unwrap_or_default().max(error.wait()).min(self.end - now);
        self.tries += 1;
        self.waits.failed(&error);
        if self.tries == 3 {
            warn!("{error}; still trying for {} s", self.all.as_secs());
        } else {
            debug!("{error}; trying again");
        }
        sleep(delay).await;
        Ok(())
    }

    /// Something has moved: the patience is fresh.
    pub(super) fn moved(&mut self) {
        (self.end, self.delays, self.tries) = (Instant::now() + self.all, delays(self.all), 0);
    }
}

fn delays(patience: Duration) -> Delays {
    Delays::new(Duration::from_millis(500), Duration::from_secs(30).min(patience / 10))
}

pub(super) fn broken(doing: &str, reason: &impl ToString) -> StorageError {
    StorageError::Broken { doing: doing.to_owned(), reason: reason.to_string() }
}

pub(super) fn refused(doing: &str, reason: &str) -> StorageError {
    StorageError::Refused { doing: doing.to_owned(), reason: reason.to_owned() }
}
