//! Secret Manager's client: resource names of secret versions go in, their values come out, with the VM's own token.
//! Source: <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access>.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, stream};
use hyper::Method;
use serde_json::Value;

use super::{CallError, Client, Limits};
use crate::{crc::Crc32c, http::Http, job::is_secret_version, metadata::Metadata, waits::Waits};

/// A payload has 64 KiB at most, and is a third longer in base64.
const LIMITS: Limits = Limits { deadline: Duration::from_secs(10), max_answer_bytes: 128 * 1024 };
/// How many are fetched at a time.
const MAX_AT_ONCE: usize = 8;
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

/// Why there is no secret. Its value is not in it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to read secret {name}: {problem}")]
pub struct SecretError {
    pub name: String,
    pub problem: SecretProblem,
    pub fix: Option<String>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum SecretProblem {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("its answer is no JSON")]
    NoJson,
    #[error("its answer is no base64")]
    NoBase64,
    #[error("it was damaged on the way (the checksum is another)")]
    Damaged,
    #[error("its value is no UTF-8 text, or has a NUL in it")]
    NoText,
    #[error("the job's secrets are larger than {max_kib} KiB together")]
    TooLarge { max_kib: usize },
    #[error("the job is to be stopped, and there is no time to wait for it")]
    Stopped,
}

impl SecretProblem {
    /// After how long, at least, another try may do better; `None` if it never will.
    fn retry(&self) -> Option<Duration> {
        match self {
            Self::Call(error) => error.retry(),
            Self::NoJson | Self::NoBase64 | Self::Damaged | Self::Stopped => Some(Duration::ZERO),
            Self::NoText | Self::TooLarge { .. } => None,
        }
    }
}

impl SecretError {
    /// Whether another try, later or elsewhere, may do better.
    pub fn is_retryable(&self) -> bool {
        self.problem.retry().is_some()
    }
}

/// The API's client.
pub struct SecretManager(Client);

impl SecretManager {
    pub fn new(http: &Http, metadata: &Metadata, endpoint: &str, allowed_hosts: &[String], waits: &Waits) -> Self {
        Self(Client::new(http, metadata, "the Secret Manager API", endpoint, allowed_hosts).with_waits(waits))
    }

    /// Fetches these secrets, a few at a time. The first failure is the error; transient failures are retried until
    /// `patience` ends.
    pub async fn access(
        &self,
        names: BTreeSet<String>,
        patience: Duration,
    ) -> Result<BTreeMap<String, Secret>, SecretError> {
        let fetches = names.into_iter().map(|name| async move {
            let secret = self.access_one(&name, patience).await;
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

    async fn access_one(&self, name: &str, patience: Duration) -> Result<Secret, SecretError> {
        let mut patience = self.0.patience(patience);
        loop {
            let problem = match self.try_to_access(name).await {
                Ok(secret) => return Ok(secret),
                Err(problem) => problem,
            };
            let retry = problem.retry();
            let error = SecretError { name: name.to_owned(), problem, fix: None };
            if !patience.lasts(&error, retry).await {
                return Err(SecretError { fix: self.fix(&error).await, ..error });
            }
        }
    }

    async fn try_to_access(&self, name: &str) -> Result<Secret, SecretProblem> {
        let answer = self.0.call(Method::GET, &format!("/{name}:access"), LIMITS).await?;
        read(&answer.body.map_err(|error| CallError::broken(&error))?, name)
    }

    /// What to do about a problem that stays.
    async fn fix(&self, error: &SecretError) -> Option<String> {
        if error.is_retryable() {
            return None;
        }
        let (project, secret) = parts(&error.name);
        let fix = match &error.problem {
            SecretProblem::NoText => {
                "an environment variable holds text: store the secret as base64, say, and let the \
                                      job decode it"
                    .into()
            }
            SecretProblem::Call(CallError::NoAccount) => {
                "create the VM with a service account that has `roles/secretmanager.secretAccessor`".into()
            }
            SecretProblem::Call(CallError::Answered { status: 403, .. }) => format!(
                "give the VM's service account `roles/secretmanager.secretAccessor`, and the VM the scope \
                 `cloud-platform`: gcloud secrets add-iam-policy-binding {secret} --project={project} \
                 --member=serviceAccount:{} --role=roles/secretmanager.secretAccessor",
                self.0.account().await
            ),
            SecretProblem::Call(CallError::Answered { status: 404, .. }) => format!(
                "check project, name and version, and that the API is enabled: gcloud secrets versions list {secret} \
                 --project={project}"
            ),
            SecretProblem::Call(CallError::Answered { .. }) => {
                format!("the version must be enabled: gcloud secrets versions list {secret} --project={project}")
            }
            _ => return None,
        };
        Some(fix)
    }
}

/// Project and short name of `projects/P/secrets/S/versions/V`.
fn parts(name: &str) -> (&str, &str) {
    let mut parts = name.split('/').skip(1).step_by(2);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Reads the secret from an answer. Errors never show its value.
fn read(body: &[u8], name: &str) -> Result<Secret, SecretProblem> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| SecretProblem::NoJson)?;
    let payload = &answer["payload"];
    // An empty payload is left out, as all empty fields are.
    let bytes = BASE64_STANDARD.decode(payload["data"].as_str().unwrap_or_default());
    let bytes = bytes.map_err(|_| SecretProblem::NoBase64)?;
    // A 64-bit number, as a text.
    let expected = payload["dataCrc32c"].as_str().and_then(|sum| sum.parse::<u32>().ok());
    let mut crc = Crc32c::default();
    crc.update(&bytes);
    if expected.is_some_and(|expected| expected != crc.value()) {
        return Err(SecretProblem::Damaged);
    }
    let value = String::from_utf8(bytes).ok().filter(|value| !value.contains('\0')).ok_or(SecretProblem::NoText)?;
    let version = answer["name"].as_str().filter(|version| is_secret_version(version)).unwrap_or(name);
    Ok(Secret { version: version.to_owned(), value: SecretValue(value) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_or_it_is_said_why_not() {
        let (name, version) = ("projects/p/secrets/s/versions/latest", "projects/1/secrets/s/versions/7");
        let read = |answer: Value| {
            read(answer.to_string().as_bytes(), name)
                .map(|s| (s.version, s.value.0))
                .map_err(|problem| (problem.to_string(), problem.retry().is_some()))
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
