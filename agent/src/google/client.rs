//! The one way to call an API of Google's: with the VM's own token, and a deadline for each try. A request goes in; its answer
//! comes out, or an error that says whether another try may do better.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request, Uri, header::AUTHORIZATION, http::request::Builder};

use super::{CallError, Patience, check_endpoint};
use crate::{
    http::{Answer, Http},
    job::CallbackAuth,
    metadata::{Metadata, TokenError},
    waits::Waits,
};

/// How long the metadata server is asked for the service account's name, which is only for people.
const ACCOUNT_DEADLINE: Duration = Duration::from_secs(2);

/// The limits of one try.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the connection to the end of the answer.
    pub deadline: Duration,
    pub max_answer_bytes: usize,
}

/// The client of one API. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(super) http: Http,
    metadata: Metadata,
    /// What the API is called in messages.
    api: &'static str,
    /// Its base URL, without a slash at the end.
    endpoint: String,
    /// Where the token may go besides Google.
    allowed_hosts: Vec<String>,
    /// Hears of tries that failed.
    waits: Waits,
}

impl Client {
    pub fn new(http: &Http, metadata: &Metadata, api: &'static str, endpoint: &str, allowed_hosts: &[String]) -> Self {
        Self {
            http: http.clone(),
            metadata: metadata.clone(),
            api,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            allowed_hosts: allowed_hosts.to_vec(),
            waits: Waits::default(),
        }
    }

    /// The same for somebody who waits.
    #[must_use]
    pub fn with_waits(self, waits: &Waits) -> Self {
        Self { waits: waits.clone(), ..self }
    }

    /// Tries, for so long.
    pub fn patience(&self, all: Duration) -> Patience {
        Patience::new(all, &self.waits)
    }

    /// The e-mail address of the VM's service account, for people.
    pub async fn account(&self) -> String {
        let email = self.metadata.get_once("instance/service-accounts/default/email", ACCOUNT_DEADLINE).await;
        let email = email.ok().flatten().map(|email| String::from_utf8_lossy(&email).trim().to_owned());
        email.unwrap_or_else(|| "EMAIL".into())
    }

    /// A call without a body, once. `path` may carry a query.
    pub async fn call(&self, method: Method, path: &str, limits: Limits) -> Result<Answer, CallError> {
        let request = self.authorized(path).await?.method(method).body(Bytes::new());
        self.send(request.map_err(|error| CallError::refused(&error))?, limits).await
    }

    /// Sends a request once. An answer that is no success is an error.
    pub async fn send(&self, request: Request<Bytes>, limits: Limits) -> Result<Answer, CallError> {
        let answer = self.http.send(request, limits.deadline, limits.max_answer_bytes).await;
        self.judge(answer.map_err(|error| CallError::broken(&error))?)
    }

    pub(super) fn judge(&self, answer: Answer) -> Result<Answer, CallError> {
        // 308: an upload that goes on.
        if answer.status.is_success() || answer.status.as_u16() == 308 {
            return Ok(answer);
        }
        Err(CallError::of(self.api, &answer))
    }

    /// A request with the VM's token.
    pub async fn authorized(&self, path: &str) -> Result<Builder, CallError> {
        let uri = self.checked(&format!("{}{path}", self.endpoint))?;
        let token = self.metadata.access_token().await.map_err(|error| match error {
            TokenError::NoServiceAccount => CallError::NoAccount,
            error => CallError::broken(&error),
        })?;
        Ok(Request::builder()
            .uri(uri)
            .header(AUTHORIZATION, token.bearer().map_err(|error| CallError::broken(&error))?))
    }

    /// A URL that the VM's token, or its data, may go to.
    pub fn checked(&self, url: &str) -> Result<Uri, CallError> {
        let what = format!("the endpoint of {}", self.api);
        check_endpoint(&what, url, &CallbackAuth::AccessToken, &self.allowed_hosts)
            .map_err(|error| CallError::refused(&error))
    }
}
