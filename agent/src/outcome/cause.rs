//! The causes of the contract, and what follows from each: state, fault, whether another VM could do better.

use serde::{Deserialize, Serialize};

/// Why a job ended as it did. The journal's form is not the report's, which is its [`name`](Cause::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    None,
    ExitCode,
    Signal,
    OomKilled,
    Timeout,
    Cancelled,
    Preempted,
    VmShutdown,
    VmRebooted,
    EngineRestarted,
    ContainerLost,
    DiskFull,
    InvalidSpec,
    ImageNotFound,
    ImageDenied,
    ImagePullFailed,
    CreateFailed,
    StartFailed,
    EngineUnavailable,
    /// By what Secret Manager answered.
    SecretFailed {
        retryable: bool,
    },
    /// Whether another try may do better is in the answer that it failed of.
    InputFailed {
        retryable: bool,
    },
    OutputFailed {
        retryable: bool,
    },
    AgentError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Succeeded,
    Failed,
    Cancelled,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    Job,
    Spec,
    Image,
    Vm,
    Platform,
}

impl Cause {
    pub fn state(self) -> State {
        match self {
            Self::None => State::Succeeded,
            Self::Cancelled => State::Cancelled,
            _ => State::Failed,
        }
    }

    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::None | Self::Cancelled => None,
            Self::ExitCode | Self::Signal | Self::OomKilled | Self::Timeout => Some(Fault::Job),
            Self::Preempted
            | Self::VmShutdown
            | Self::VmRebooted
            | Self::EngineRestarted
            | Self::ContainerLost
            | Self::DiskFull
            | Self::EngineUnavailable => Some(Fault::Vm),
            Self::InvalidSpec | Self::CreateFailed | Self::StartFailed => Some(Fault::Spec),
            Self::ImageNotFound | Self::ImageDenied => Some(Fault::Image),
            Self::ImagePullFailed
            | Self::SecretFailed { .. }
            | Self::InputFailed { .. }
            | Self::OutputFailed { .. }
            | Self::AgentError => Some(Fault::Platform),
        }
    }

    /// The contract's name, as `retry.on` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::ExitCode => "EXIT_CODE",
            Self::Signal => "SIGNAL",
            Self::OomKilled => "OOM_KILLED",
            Self::Timeout => "TIMEOUT",
            Self::Cancelled => "CANCELLED",
            Self::Preempted => "PREEMPTED",
            Self::VmShutdown => "VM_SHUTDOWN",
            Self::VmRebooted => "VM_REBOOTED",
            Self::EngineRestarted => "ENGINE_RESTARTED",
            Self::ContainerLost => "CONTAINER_LOST",
            Self::DiskFull => "DISK_FULL",
            Self::InvalidSpec => "INVALID_SPEC",
            Self::ImageNotFound => "IMAGE_NOT_FOUND",
            Self::ImageDenied => "IMAGE_DENIED",
            Self::ImagePullFailed => "IMAGE_PULL_FAILED",
            Self::CreateFailed => "CREATE_FAILED",
            Self::StartFailed => "START_FAILED",
            Self::EngineUnavailable => "ENGINE_UNAVAILABLE",
            Self::SecretFailed { .. } => "SECRET_FAILED",
            Self::InputFailed { .. } => "INPUT_FAILED",
            Self::OutputFailed { .. } => "OUTPUT_FAILED",
            Self::AgentError => "AGENT_ERROR",
        }
    }

    /// Whether the same job may succeed on another VM.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::Preempted
                | Self::VmShutdown
                | Self::VmRebooted
                | Self::EngineRestarted
                | Self::ContainerLost
                | Self::ImagePullFailed
                | Self::EngineUnavailable
                | Self::SecretFailed { retryable: true }
                | Self::InputFailed { retryable: true }
                | Self::OutputFailed { retryable: true }
                | Self::AgentError
        )
    }
}
