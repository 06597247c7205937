//! HTTP/1.1 requests, each once and on a connection of its own: no pool and no silent retries, so that an error says what it
//! means. A request goes in; its answer comes out, or an error that knows whether the request may have arrived.

mod chain;
mod connect;
mod provider;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    body::{Body, Incoming},
    client::conn::http1,
    header::{CONNECTION, DATE, HOST, HeaderValue, RETRY_AFTER},
    http::uri::PathAndQuery,
};
use jiff::Timestamp;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::chain::chain;
use self::connect::{Connector, Io, connect_unix};
use crate::gate::Gate;

/// The longest wait that an answer can ask for: a later time may not exist for the clock.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// What a request may fail with before there is an answer.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct HttpError {
    reason: String,
    /// Whether the other side may have got the request, and acted on it.
    pub may_have_arrived: bool,
}

/// An answer: its head, and its body as far as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// An error where the body broke off, was larger than the bound, or missed the deadline.
    pub body: Result<Bytes, HttpError>,
}

impl Answer {
    /// When it was made by the other side's clock, if that says so.
    pub fn date(&self) -> Option<Timestamp> {
        self.headers.get(DATE)?.to_str().ok().and_then(parse_date)
    }

    /// `Retry-After`, at most a day, in either form: seconds, or a date (RFC 9110, 10.2.3). A date is held against the
    /// sender's own clock where the answer has it, as the VM's may be wrong.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let wanted = if let Ok(seconds) = text.parse() {
            Duration::from_secs(seconds)
        } else {
            let now = self.date().unwrap_or_else(Timestamp::now);
            Duration::try_from(parse_date(text)?.duration_since(now)).ok()?
        };
        Some(wanted.min(LONGEST_RETRY_AFTER))
    }
}

/// A time as headers have it (RFC 9110, 5.6.7).
fn parse_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|at| at.timestamp())
}

/// The client for `http` and `https` URLs. Cheap to clone. It knows no proxies, and follows no redirects.
#[derive(Clone, Default)]
pub struct Http {
    connector: Connector,
    gate: Gate,
}

impl Http {
    /// With a gate that knows what an error's text must not repeat.
    pub fn new(gate: Gate) -> Self {
        Self { connector: Connector::default(), gate }
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The body of an answer as it may be shown where that is a refusal: one may repeat what it was asked with, the token too. As a whole, before
    /// anybody cuts it.
    pub fn shown(&self, status: StatusCode, body: Bytes) -> Bytes {
        if status.is_success() || body.is_empty() {
            return body;
        }
        let text = String::from_utf8_lossy(&body);
        let masked = self.gate.mask(&text);
        if masked == text { body } else { masked.into_owned().into() }
    }

    /// Sends `request` and waits for the answer and its body, for `deadline` in all. Of the body at most
    /// `max_body_bytes` are taken.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        max_body_bytes: usize,
    ) -> Result<Answer, HttpError> {
        let end = Instant::now() + deadline;
        let late = |may_have_arrived| late(deadline, may_have_arrived);
        let io = self.connect(request.uri(), deadline).await?;

        let lost = |reason| HttpError { reason, may_have_arrived: true };
        let response = timeout_at(end, exchange(io, request.map(Full::new))).await;
        let response = response.map_err(|_| late(true))?.map_err(|error| lost(chain(&error)))?;
        let (head, body) = response.into_parts();
        let body = match timeout_at(end, read_body(body, max_body_bytes)).await {
            Ok(body) => body.map(|body| self.shown(head.status, body)).map_err(lost),
            Err(_) => Err(late(true)),
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// What time it is by a clock that the job cannot set: certificates are judged by it from now on.
    pub fn set_time(&self, now: Timestamp) {
        self.connector.set_time(now);
    }

    /// Makes a connection as for a request, TLS included, and sends nothing on it.
    pub async fn reach(&self, uri: &Uri, deadline: Duration) -> Result<(), HttpError> {
        self.connect(uri, deadline).await.map(drop)
    }

    async fn connect(&self, uri: &Uri, deadline: Duration) -> Result<Box<dyn Io>, HttpError> {
        let connected = timeout(deadline, self.connector.connect(uri.clone())).await;
        let not_sent = |reason| HttpError { reason, may_have_arrived: false };
        connected.map_err(|_| late(deadline, false))?.map_err(not_sent)
    }
}

fn late(deadline: Duration, may_have_arrived: bool) -> HttpError {
    HttpError { reason: format!("no answer within {} s", deadline.as_secs_f32()), may_have_arrived }
}

impl Http {
    /// Sends `request`, whose body comes as it is sent, and waits for the head of the answer. Of the connecting alone `deadline` is
    /// the limit: the rest is the caller's, who drops this.
    pub async fn open<B>(&self, request: Request<B>, deadline: Duration) -> Result<Response<Incoming>, HttpError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let unreached = |reason| HttpError { reason, may_have_arrived: false };
        let io = timeout(deadline, self.connector.connect(request.uri().clone())).await;
        let io = io.map_err(|_| unreached(format!("no connection within {} s", deadline.as_secs_f32())))?;
        let response = exchange(io.map_err(unreached)?, request).await;
        response.map_err(|error| HttpError { reason: chain(&error), may_have_arrived: true })
    }
}

/// Sends `request` over the unix socket at `path`. Without a deadline: that is the caller's.
pub async fn send_unix<B>(path: &Path, request: Request<B>) -> Result<Response<Incoming>, UnixError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = connect_unix(path).await.map_err(UnixError::Connect)?;
    exchange(io, request).await.map_err(UnixError::Exchange)
}

#[derive(Debug, thiserror::Error)]
pub enum UnixError {
    #[error(transparent)]
    Connect(std::io::Error),
    #[error(transparent)]
    Exchange(hyper::Error),
}

/// One request and the head of its answer. The connection lives on in a task of its own until the body has been read, or dropped,
/// or for as long as an upgraded connection is used.
async fn exchange<B>(io: Box<dyn Io>, mut request: Request<B>) -> Result<Response<Incoming>, hyper::Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // On the wire a request names only the path; the host goes into a header.
    let uri = std::mem::take(request.uri_mut());
    let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let headers = request.headers_mut();
    headers.entry(HOST).or_insert(host.unwrap_or(HeaderValue::from_static("localhost")));
    headers.entry(CONNECTION).or_insert(HeaderValue::from_static("close"));

    let body = request.map(BodyExt::boxed_unsync);
    let (mut sender, connection) = http1::handshake(io).await?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(body).await
}

/// The whole of a body, of `max_bytes` at most, in as much memory: a body that comes a byte at a time takes no more.
///
/// # Errors
/// Why it is not whole.
pub async fn read_body(mut body: Incoming, max_bytes: usize) -> Result<Bytes, String> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off: {}", chain(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > max_bytes - whole.len() {
            return Err(format!("the answer is larger than {max_bytes} bytes"));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let wait = |text: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            headers.extend(date.map(|date| (DATE, date.parse().unwrap())));
            Answer { status: StatusCode::OK, headers, body: Ok(Bytes::new()) }.retry_after()
        };
        assert_eq!(wait("7", None), Some(Duration::from_secs(7)));
        for longest in ["Fri, 31 Dec 2100 23:59:59 GMT", "18446744073709551615", "86401"] {
            assert_eq!(wait(longest, None), Some(LONGEST_RETRY_AFTER), "{longest}");
        }
        assert_eq!(wait("18446744073709551616", None), None);
        let in_seven = wait("Fri, 31 Dec 2100 23:59:59 GMT", Some("Fri, 31 Dec 2100 23:59:52 GMT"));
        assert_eq!(in_seven, Some(Duration::from_secs(7)), "by the sender's clock");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", None), None);
        assert_eq!(wait("soon", None), None);
    }
}
