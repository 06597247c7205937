//! What getting at Cloud Storage may fail with.

use std::{io, path::Path, time::Duration};

use hyper::StatusCode;

use crate::{http::Answer, metadata::TokenError};

/// Of an error's text at most so much is told.
const MAX_TEXT_BYTES: usize = 300;

/// Whether a direction of data needs rights to read or to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Cloud Storage answered, with an error.
    #[error("failed to {doing}: Cloud Storage answered {status}{text}")]
    Status { doing: String, status: u16, text: String, wait: Option<Duration> },
    /// There was no answer, or not all of it.
    #[error("failed to {doing}: {reason}")]
    Broken { doing: String, reason: String },
    #[error("failed to {doing}: {reason}")]
    Refused { doing: String, reason: String },
    #[error("failed to {doing}: {}", TokenError::NoServiceAccount)]
    NoAccount { doing: String },
    #[error("failed to read {path}: {source}")]
    File { path: String, source: io::Error },
    #[error("failed to write {from} to {path}: {source}")]
    Write { from: String, path: String, source: io::Error },
    #[error("{0}")]
    Unfit(String),
}

impl StorageError {
    pub(super) fn status(doing: &str, answer: &Answer) -> Self {
        let body = answer.body.as_deref().unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let body = String::from_utf8_lossy(body);
        let text = value["error"]["message"].as_str().unwrap_or(&body).trim();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
        let text = if text.is_empty() { String::new() } else { format!(" ({text})") };
        Self::Status { doing: doing.to_owned(), status: answer.status.as_u16(), text, wait: answer.retry_after() }
    }

    pub fn file(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File { path: path.display().to_string(), source: source.into() }
    }

    /// Whether the same call may do better in a while.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => is_transient(*status),
            Self::Broken { .. } => true,
            Self::Refused { .. } | Self::NoAccount { .. } | Self::File { .. } | Self::Write { .. } | Self::Unfit(_) => {
                false
            }
        }
    }

    /// How long Cloud Storage wants us to wait before we ask again.
    pub(super) fn wait(&self) -> Duration {
        match self {
            Self::Status { wait: Some(wait), .. } => *wait,
            _ => Duration::ZERO,
        }
    }

    pub fn is_status(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Status { status, .. } if *status == wanted.as_u16())
    }

    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// What to do about it. `account`: the e-mail address of the VM's service account.
    pub fn fix(&self, bucket: &str, access: Access, account: &str) -> Option<String> {
        let role = match access {
            Access::Read => "roles/storage.objectViewer",
            Access::Write => "roles/storage.objectUser",
        };
        match self {
            Self::Status { status: 403, text, .. } if text.contains("scope") => {
                Some("create the VM with the scope `cloud-platform`".into())
            }
            Self::Status { status: 401 | 403, .. } => Some(format!(
                "give the VM's service account `{role}` on the bucket: gcloud storage buckets add-iam-policy-binding \
                 gs://{bucket} --member=serviceAccount:{account} --role={role}"
            )),
            Self::NoAccount { .. } => {
                Some(format!("create the VM with a service account that has `{role}`, and the scope `cloud-platform`"))
            }
            Self::Status { status: 404, .. } => {
                Some(format!("check the names of bucket and object: gcloud storage ls gs://{bucket}/"))
            }
            Self::File { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("let the job's user read {path}: the agent has no other rights there"))
            }
            Self::Write { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(format!(
                "let the job's user write to the directory of {path}: the agent has no other rights there"
            )),
            _ => None,
        }
    }
}

/// <https://cloud.google.com/storage/docs/retry-strategy>; 401 is a token that has just expired, or been revoked.
fn is_transient(status: u16) -> bool {
    matches!(status, 401 | 408 | 429 | 500..=599)
}
