//! The metadata server's client: paths go in, values come out. Values are read with retries, watched with
//! `wait_for_change`, and never polled.
//! Protocol: <https://cloud.google.com/compute/docs/metadata/querying-metadata>.

mod account;
mod token;
mod vm;
mod watch;

use std::{net::Ipv6Addr, time::Duration};

use bytes::Bytes;
use hyper::{Method, Request, StatusCode};
use tracing::{debug, warn};

pub use self::{
    account::Account,
    token::{Token, TokenError, percent_encode},
    vm::Vm,
    watch::{Watch, Watched},
};
use crate::{
    http::{Answer, Http, HttpError},
    retry::Delays,
};

/// All attributes of a VM together are at most 512 KB; JSON escapes make six bytes of one at the most.
const MAX_BODY_BYTES: usize = 4 << 20;
/// One request that does not hang on purpose: the server is on this very host.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error("failed to reach the metadata server at {host}: {source}")]
    Unreachable { host: String, source: HttpError },
    #[error("the metadata server answered {status} for {path}")]
    Refused { path: String, status: StatusCode },
    #[error("{host} does not answer as a metadata server does (no `Metadata-Flavor: Google`)")]
    NotMetadata { host: String },
    #[error("the metadata server's answer for {path} is not understood")]
    Malformed { path: String },
}

/// A value and the tag of its version.
#[derive(Debug, Clone)]
pub struct Value {
    pub bytes: Bytes,
    pub etag: Option<String>,
}

#[derive(Clone)]
pub struct Metadata {
    http: Http,
    host: String,
}

impl Metadata {
    /// `host` is `ADDRESS` or `ADDRESS:PORT`, as in `GCE_METADATA_HOST`; an IPv6 address with a port is in brackets.
    pub fn new(http: Http, host: &str) -> Self {
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        Self { http, host }
    }

    /// The value at `path` below `/computeMetadata/v1/`; `None` if there is none (404, which is final). Everything else
    /// is tried again until `patience` is over.
    pub async fn get(&self, path: &str, patience: Duration) -> Result<Option<Bytes>, MetadataError> {
        let end = tokio::time::Instant::now() + patience;
        for (tried, delay) in Delays::new(Duration::from_millis(250), Duration::from_secs(10)).enumerate() {
            match self.request(path, REQUEST_DEADLINE).await {
                Ok(value) => return Ok(value.map(|value| value.bytes)),
                Err(error) if tokio::time::Instant::now() + delay >= end => return Err(error),
                Err(error) if tried == 3 => warn!("{error}; still trying for {} s", patience.as_secs()),
                Err(error) => debug!("{error}; trying again"),
            }
            tokio::time::sleep(delay).await;
        }
        unreachable!("the delays never end")
    }

    /// As [`get`](Self::get), in one try of at most `deadline`.
    pub async fn get_once(&self, path: &str, deadline: Duration) -> Result<Option<Bytes>, MetadataError> {
        Ok(self.request(path, deadline).await?.map(|value| value.bytes))
    }

    /// Writes a value, which only guest attributes allow, in one try.
    pub async fn put(&self, path: &str, value: Bytes) -> Result<(), MetadataError> {
        let request = self.to(Method::PUT, path, value)?;
        let answer = self.send(request, REQUEST_DEADLINE).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(MetadataError::Refused { path: path.to_owned(), status: answer.status })
    }

    /// One GET. `path` may carry a query.
    async fn request(&self, path: &str, deadline: Duration) -> Result<Option<Value>, MetadataError> {
        let answer = self.send(self.to(Method::GET, path, Bytes::new())?, deadline).await?;
        match answer.status {
            StatusCode::OK => {
                let etag = answer.headers.get("etag").and_then(|etag| etag.to_str().ok());
                let etag = etag.map(str::to_owned);
                let bytes = answer.body.map_err(|source| self.unreachable(source))?;
                Ok(Some(Value { bytes, etag }))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(MetadataError::Refused { path: path.to_owned(), status }),
        }
    }

    fn to(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Bytes>, MetadataError> {
        Request::builder()
            .method(method)
            .uri(format!("http://{}/computeMetadata/v1/{path}", self.host))
            .header("Metadata-Flavor", "Google")
            .body(body)
            .map_err(|_| MetadataError::NotMetadata { host: self.host.clone() })
    }

    async fn send(&self, request: Request<Bytes>, deadline: Duration) -> Result<Answer, MetadataError> {
        let answer =
            self.http.send(request, deadline, MAX_BODY_BYTES).await.map_err(|source| self.unreachable(source))?;
        if answer.headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
            return Err(MetadataError::NotMetadata { host: self.host.clone() });
        }
        if let Some(now) = answer.date() {
            self.http.set_time(now);
        }
        Ok(answer)
    }

    fn unreachable(&self, source: HttpError) -> MetadataError {
        MetadataError::Unreachable { host: self.host.clone(), source }
    }
}
