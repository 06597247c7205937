//! What getting at Cloud Storage may fail with.

use std::{io, path::Path, time::Duration};

use hyper::StatusCode;

use crate::google::{CallError, Patience};

/// Whether a direction of data needs rights to read or to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("failed to {doing}: {source}")]
    Call { doing: String, source: CallError },
    #[error("failed to read {path}: {source}")]
    File { path: String, source: io::Error },
    #[error("failed to write {from} to {path}: {source}")]
    Write { from: String, path: String, source: io::Error },
    #[error("{0}")]
    Unfit(String),
}

impl StorageError {
    pub(super) fn call(doing: &str, source: CallError) -> Self {
        Self::Call { doing: doing.to_owned(), source }
    }

    pub fn file(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File { path: path.display().to_string(), source: source.into() }
    }

    fn retry(&self) -> Option<Duration> {
        match self {
            Self::Call { source, .. } => source.retry(),
            Self::File { .. } | Self::Write { .. } | Self::Unfit(_) => None,
        }
    }

    /// Whether the same call may do better in a while.
    pub fn is_transient(&self) -> bool {
        self.retry().is_some()
    }

    /// Waits for the next try, or gives the error back where there is none to come.
    pub(super) async fn unless_tried_again(self, patience: &mut Patience) -> Result<(), Self> {
        if patience.lasts(&self, self.retry()).await { Ok(()) } else { Err(self) }
    }

    pub fn is_status(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Call { source, .. } if source.status() == Some(wanted.as_u16()))
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
            Self::Call { source, .. } if source.is_without_scope() => {
                Some("create the VM with the scope `cloud-platform`".into())
            }
            Self::Call { source: CallError::Answered { status: 401 | 403, .. }, .. } => Some(format!(
                "give the VM's service account `{role}` on the bucket: gcloud storage buckets add-iam-policy-binding \
                 gs://{bucket} --member=serviceAccount:{account} --role={role}"
            )),
            Self::Call { source: CallError::NoAccount, .. } => {
                Some(format!("create the VM with a service account that has `{role}`, and the scope `cloud-platform`"))
            }
            Self::Call { source: CallError::Answered { status: 404, .. }, .. } => {
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
