//! Secret Manager's client: resource names of secret versions go in, their values come out, with the VM's own token.
//! Source: <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access>.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::{Request, Uri, header::AUTHORIZATION};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::{
    google::check_endpoint,
    http::{Answer, Http},
    job::{CallbackAuth, is_secret_version},
    metadata::{Metadata, TokenError},
    retry::Delays,
    waits::Waits,
};

/// One request, from the connection to the answer.
const TRY_DEADLINE: Duration = Duration::from_secs(10);
/// A payload has 64 KiB at most, and is a third longer in base64.
const MAX_ANSWER_BYTES: usize = 128 * 1024;
/// How many are fetched at a time.
const MAX_AT_ONCE: usize = 8;
/// How much of an error's own text is shown.
const MAX_PROBLEM_BYTES: usize = 512;

/// The value of a secret. It has no `Display`, and its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// The value itself, for the two places that need it: the job's environment, and the masking of its log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A value, and which version it is of: `latest` may be another one the next time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    pub version: String,
    pub value: SecretValue,
}

/// Why a secret cannot be had. Its value is not in it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to read secret {name}: {problem}")]
pub struct SecretError {
    pub name: String,
    pub problem: String,
    pub fix: Option<String>,
    /// Whether another try, later or elsewhere, may do better.
    pub retryable: bool,
}

/// What one try may fail with.
struct Try {
    problem: String,
    fix: Option<String>,
    retryable: bool,
    wait: Duration,
}

impl Try {
    fn again(problem: impl fmt::Display) -> Self {
        Self { problem: problem.to_string(), fix: None, retryable: true, wait: Duration::ZERO }
    }

    fn last(problem: impl fmt::Display, fix: Option<String>) -> Self {
        Self { problem: problem.to_string(), fix, retryable: false, wait: Duration::ZERO }
    }
}

/// Where the secrets are.
pub struct SecretManager<'a> {
    pub http: &'a Http,
    pub metadata: &'a Metadata,
    /// The API's base URL, ending in a slash.
    pub endpoint: &'a str,
    pub allowed_hosts: &'a [String],
    /// Hears of tries that failed.
    pub waits: &'a Waits,
}

impl SecretManager<'_> {
    /// The secrets of these names, a few at a time; the first that cannot be had is the error. What may pass is tried again until
    /// `patience` is over.
    pub async fn access(
        &self,
        names: BTreeSet<String>,
        patience: Duration,
    ) -> Result<BTreeMap<String, Secret>, SecretError> {
        let end = Instant::now() + patience;
        let fetches = names.into_iter().map(|name| async move {
            let secret = self.access_one(&name, end).await;
            secret.map(|secret| (name, secret))
        });
        let mut coming = stream::iter(fetches).buffer_unordered(MAX_AT_ONCE);
        let mut secrets = BTreeMap::new();
        while let Some(fetched) = coming.next().await {
            let (name, secret) = fetched?;
            secrets.insert(name, secret);
        }
        Ok(secrets)
    }

    async fn access_one(&self, name: &str, end: Instant) -> Result<Secret, SecretError> {
        let mut delays = Delays::new(Duration::from_millis(500), Duration::from_secs(15));
        loop {
            let failed = match self.try_to_access(name).await {
                Ok(secret) => return Ok(secret),
                Err(failed) => failed,
            };
            let delay = delays.next().unwrap_or_default().max(failed.wait);
            let error = SecretError {
                name: name.to_owned(),
                problem: failed.problem,
                fix: failed.fix,
                retryable: failed.retryable,
            };
            if !error.retryable || Instant::now() + delay >= end {
                return Err(error);
            }
            self.waits.failed(&error);
            warn!("{error}; trying again");
            sleep(delay).await;
        }
    }

    async fn try_to_access(&self, name: &str) -> Result<Secret, Try> {
        let url = format!("{}{name}:access", self.endpoint);
        let url: Uri =
            check_endpoint("the Secret Manager API's URL", &url, &CallbackAuth::AccessToken, self.allowed_hosts)
                .map_err(|problem| Try::last(problem, None))?;
        let token = self.metadata.access_token().await.map_err(|error| match error {
            TokenError::NoServiceAccount => {
                let fix = "create the VM with a service account that has `roles/secretmanager.secretAccessor`";
                Try::last(error, Some(fix.into()))
            }
            error => Try::again(error),
        })?;
        let bearer = token.bearer().map_err(Try::again)?;
        let request = Request::get(url).header(AUTHORIZATION, bearer).body(Bytes::new());
        let request = request.map_err(|error| Try::last(error, None))?;
        let answer = self.http.send(request, TRY_DEADLINE, MAX_ANSWER_BYTES).await.map_err(Try::again)?;
        if !answer.status.is_success() {
            return Err(self.refused(name, &answer).await);
        }
        let body = answer.body.map_err(Try::again)?;
        read(&body, name)
    }

    /// What an answer that is no success means. 401 is a token that has just expired, or that Google does not know yet.
    async fn refused(&self, name: &str, answer: &Answer) -> Try {
        let problem = format!("the Secret Manager API answered {}{}", answer.status, reason(answer));
        let (project, secret) = parts(name);
        let fix = match answer.status.as_u16() {
            401 | 408 | 429 | 500.. => {
                return Try { wait: answer.retry_after().unwrap_or_default(), ..Try::again(problem) };
            }
            403 => format!(
                "give the VM's service account `roles/secretmanager.secretAccessor`, and the VM the scope `cloud-platform`: \
                 gcloud secrets add-iam-policy-binding {secret} --project={project} --member=serviceAccount:{} \
                 --role=roles/secretmanager.secretAccessor",
                self.account().await
            ),
            404 => format!(
                "check project, name and version, and that the API is enabled: gcloud secrets versions list {secret} --project={project}"
            ),
            _ => format!("the version must be enabled: gcloud secrets versions list {secret} --project={project}"),
        };
        Try::last(problem, Some(fix))
    }

    async fn account(&self) -> String {
        let email = self.metadata.get_once("instance/service-accounts/default/email", TRY_DEADLINE).await;
        let email = email.ok().flatten().and_then(|email| String::from_utf8(email.to_vec()).ok());
        email.map_or_else(|| "ACCOUNT".into(), |email| email.trim().to_owned())
    }
}

/// Project and short name of `projects/P/secrets/S/versions/V`.
fn parts(name: &str) -> (&str, &str) {
    let mut parts = name.split('/').skip(1).step_by(2);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Google's own words, in `{"error": {"message": "…"}}`.
fn reason(answer: &Answer) -> String {
    let body = answer.body.as_ref().ok().and_then(|body| serde_json::from_slice::<Value>(body).ok());
    let message = body.as_ref().and_then(|body| body["error"]["message"].as_str()).unwrap_or_default();
    let message = &message[..message.floor_char_boundary(MAX_PROBLEM_BYTES)];
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// The secret in an answer. What is wrong with it is said without it.
fn read(body: &[u8], name: &str) -> Result<Secret, Try> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| Try::again("its answer is no JSON"))?;
    let payload = &answer["payload"];
    // An empty payload is left out, as all empty fields are.
    let bytes = BASE64_STANDARD.decode(payload["data"].as_str().unwrap_or_default());
    let bytes = bytes.map_err(|_| Try::again("its answer is no base64"))?;
    // A 64-bit number, as a text.
    let expected = payload["dataCrc32c"].as_str().and_then(|sum| sum.parse::<u32>().ok());
    if expected.is_some_and(|expected| expected != crc32c(&bytes)) {
        return Err(Try::again("it was damaged on the way (the checksum is another)"));
    }
    let value = String::from_utf8(bytes).ok().filter(|value| !value.contains('\0')).ok_or_else(|| {
        let fix = "an environment variable holds text: store the secret as base64, say, and let the job decode it";
        Try::last("its value is no UTF-8 text, or has a NUL in it", Some(fix.into()))
    })?;
    let version = answer["name"].as_str().filter(|version| is_secret_version(version)).unwrap_or(name);
    Ok(Secret { version: version.to_owned(), value: SecretValue(value) })
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit: there is little of it.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_checksum_is_that_of_the_rfc() {
        for (bytes, sum) in
            [(vec![0_u8; 32], 0x8a91_36aa), (vec![0xff; 32], 0x62a8_ab43), (b"123456789".to_vec(), 0xe306_9283)]
        {
            assert_eq!(crc32c(&bytes), sum);
        }
    }

    #[test]
    fn an_answer_is_read_or_it_is_said_why_not() {
        let (name, version) = ("projects/p/secrets/s/versions/latest", "projects/1/secrets/s/versions/7");
        let read = |answer: Value| {
            read(answer.to_string().as_bytes(), name)
                .map(|s| (s.version, s.value.0))
                .map_err(|t| (t.problem, t.retryable))
        };
        let good = json!({"name": version, "payload": {"data": "MTIzNDU2Nzg5", "dataCrc32c": "3808858755"}});
        assert_eq!(read(good), Ok((version.into(), "123456789".into())));
        assert_eq!(read(json!({"name": "../x", "payload": {}})), Ok((name.into(), String::new())));
        for (payload, word, retryable) in [
            (json!({"data": "MTIzNDU2Nzg5", "dataCrc32c": "1"}), "checksum", true),
            (json!({"data": "?"}), "base64", true),
            (json!({"data": "/w=="}), "UTF-8", false),
            (json!({"data": "AA=="}), "NUL", false),
        ] {
            let error = read(json!({"name": version, "payload": payload})).unwrap_err();
            assert!(error.0.contains(word) && error.1 == retryable, "{error:?}");
        }
    }

    #[test]
    fn a_value_does_not_show_itself() {
        let secret = Secret { version: "v".into(), value: SecretValue("hidden".into()) };
        assert!(!format!("{secret:?}").contains("hidden"));
    }
}
