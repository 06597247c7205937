//! Questions to the Docker engine, which change nothing.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, header::CONTENT_TYPE};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::{
    EngineError,
    ask_again::ask_again,
    docker::{CALL_DEADLINE, DockerEngine},
    inspect::{ErrorAnswer, Found},
    sieve::Sieve,
};
use crate::{
    http::{chain, send_unix},
    retry::Delays,
};

/// What is kept of an answer: a container with thousands of mounts is a few hundred KB.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// How often it is asked again for what it failed to look up.
const LOOKS_AGAIN: usize = 4;
/// After so long without an answer to a call that changes a container, the engine is asked about that.
const LOOK_AFTER: Duration = Duration::from_secs(30);
impl DockerEngine {
    /// One look-up. Where the engine fails it is asked again, as looking changes nothing: Podman fails over a container that ends, or is
    /// removed, at this very moment.
    pub(super) async fn get<T: DeserializeOwned>(&self, call: &'static str, path: &str) -> Result<T, EngineError> {
        let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(1)).take(LOOKS_AGAIN);
        let answer = loop {
            match (self.ask(call, path).await, delays.next()) {
                (Err(EngineError::Refused { status: 500.., .. }), Some(delay)) => sleep(delay).await,
                (answer, _) => break answer?,
            }
        };
        serde_json::from_slice(&answer)
            .map_err(|error| EngineError::Failed(format!("the engine's answer to `{call}` is not understood: {error}")))
    }

    /// What the engine answers, asked again where it does not.
    pub(super) async fn ask(&self, call: &'static str, path: &str) -> Result<Vec<u8>, EngineError> {
        ask_again(call, CALL_DEADLINE, || self.ask_once(call, path)).await
    }

    /// What the engine answers, at the negotiated version of the API.
    async fn ask_once(&self, call: &'static str, path: &str) -> Result<Vec<u8>, EngineError> {
        let version = self.docker.client_version();
        let path = format!("/v{}.{}{path}", version.major_version, version.minor_version);
        let request = Request::get(path).body(Full::<Bytes>::default());
        let request = request.map_err(|error| EngineError::Failed(error.to_string()))?;
        let unreachable = |error: &dyn std::error::Error| EngineError::Unreachable(chain(error));
        let answer = send_unix(&self.socket, request).await.map_err(|error| unreachable(&error))?;
        let (head, mut body) = answer.into_parts();
        // An archive is no JSON, and is kept as it is.
        let is_json = head.headers.get(CONTENT_TYPE).is_some_and(|is| is.as_bytes().starts_with(b"application/json"));
        let mut sieve = Sieve::new(MAX_ANSWER_BYTES);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unreachable(&error))?;
            if frame.data_ref().is_some_and(|data| !(if is_json { sieve.push(data) } else { sieve.keep(data) })) {
                // Asked again it would be as large.
                let problem = format!("the engine's answer to `{call}` is larger than {MAX_ANSWER_BYTES} bytes");
                return Err(EngineError::Failed(problem));
            }
        }
        let (status, body) = (head.status, sieve.finish());
        if status.is_success() {
            return Ok(body);
        }
        let message = serde_json::from_slice(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |ErrorAnswer { message }| message);
        Err(EngineError::Refused { status: status.as_u16(), message })
    }

    /// The answer to a call about `container`, unless a look tells that the engine is not at it: `is_lost` of what was found.
    pub(super) async fn unless_lost<T>(
        &self,
        call: &'static str,
        container: &str,
        is_lost: impl Fn(Found) -> bool,
        answer: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let looks = async {
            loop {
                sleep(LOOK_AFTER).await;
                if self.inspect(container).await.is_ok_and(&is_lost) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = looks => Err(EngineError::Late { call, deadline: LOOK_AFTER }),
        }
    }
}
