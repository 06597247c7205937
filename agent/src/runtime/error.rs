//! What the engine, or the way to it, may fail with.

use std::time::Duration;

use bollard::errors::Error;

use crate::http::chain;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine answered, with an error.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// The engine reported an error in the middle of an operation.
    #[error("{0}")]
    Failed(String),
    #[error("the engine did not answer `{call}` within {:.0} s", .deadline.as_secs_f64())]
    Late { call: &'static str, deadline: Duration },
    #[error("the job's shim did not answer `{call}` within {:.0} s", .deadline.as_secs_f64())]
    LateShim { call: &'static str, deadline: Duration },
    #[error("failed to reach the engine: {0}")]
    Unreachable(String),
}

impl EngineError {
    /// ENOSPC, in the words in which it comes from the kernel through Go, or a C library.
    pub fn is_disk_full(&self) -> bool {
        self.message_has(&["no space left on device", "No space left on device", "disk quota exceeded"])
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the name is taken, or the state of the container does not allow the call.
    pub fn is_conflict(&self) -> bool {
        // Podman answers 500.
        matches!(self, Self::Refused { status: 409, .. }) || self.message_has(&["that name is already in use"])
    }

    /// Whether a start failed over what an engine that crashed in the middle of an earlier start left behind.
    pub fn is_left_over(&self) -> bool {
        self.message_has(&["task"]) && self.message_has(&["already exists"])
    }

    /// Whether the engine has no GPUs to give to a container: no driver, or no toolkit that knows it.
    pub fn is_without_gpus(&self) -> bool {
        self.message_has(&["could not select device driver", "nvidia-container-cli", "GPU vendor"])
    }

    /// Whether the call may not have reached the engine, or its answer was lost: the engine's state has to be looked at.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::LateShim { .. } | Self::Unreachable(_))
    }

    /// As a shim's.
    pub(super) fn of_shim(self) -> Self {
        match self {
            Self::Late { call, deadline } => Self::LateShim { call, deadline },
            other => other,
        }
    }

    /// Whether the image is there, but was not built for this machine: as Docker says it, and Podman.
    pub fn is_other_platform(&self) -> bool {
        self.message_has(&["no matching manifest", "no image found in"])
    }

    /// Whether a line of it ends in nothing but a no: `denied`, or `error from registry: denied`.
    pub(super) fn is_bare_denial(&self) -> bool {
        self.message().lines().any(|line| line.rsplit(": ").next() == Some("denied"))
    }

    pub(super) fn message_has(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.message().contains(word))
    }

    /// The engine's own words, if it said anything.
    fn message(&self) -> &str {
        match self {
            Self::Refused { message, .. } | Self::Failed(message) => message,
            _ => "",
        }
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: status_code, message: message.trim().to_owned() }
            }
            Error::DockerStreamError { error } => Self::Failed(error),
            other => Self::Unreachable(chain(&other)),
        }
    }
}
