//! What keeps the agent from running, or from writing down how far it has come.

use std::path::PathBuf;

use crate::{cli::Config, journal::JournalError, metadata::MetadataError, outcome::Failure};

/// What keeps the agent from running at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("the VM is going down, and the metadata server did not say what the job is")]
    NoTime,
    #[error("failed to read the state of the machine: {0}")]
    Machine(#[from] std::io::Error),
    #[error(
        "the agent has panicked {count} times in a row, and could not report it; not trying again: remove {} to have it try",
        file.display()
    )]
    Hopeless { count: usize, file: PathBuf },
}

pub(super) fn journal_failure(config: &Config, source: std::io::Error) -> Failure {
    Failure::Journal { dir: config.state_dir.display().to_string(), source }
}
