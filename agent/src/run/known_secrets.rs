//! What this process knows of the job's secrets.

use std::sync::Arc;

use crate::{google::SecretError, mask::Masker, runtime::SecretEnv};

#[derive(Default)]
pub(super) enum Secrets {
    /// Nothing: there are none, or nobody has asked yet.
    #[default]
    Unknown,
    Known {
        env: SecretEnv,
        masker: Arc<Masker>,
    },
    Lost(SecretError),
}
