//! Everything that can end a job other than its own exit. Each failure has one cause, given out in one place.

use super::{Cause, Outcome};
use crate::{
    google::{EndpointError, SecretError, storage::StorageError},
    job::JobError,
    runtime::{EngineError, PullError, registry_wants_token},
};

pub(super) const FIX_DISK: &str = "give the VM a larger boot disk, or make room on it";

/// Engine and agent are of one platform.
const FIX_PLATFORM: &str = if cfg!(target_arch = "aarch64") {
    "build the image for the VM's platform, linux/arm64"
} else {
    "build the image for the VM's platform, linux/amd64"
};

/// Where the engine gives out GPUs itself.
pub const FIX_GPU_TOOLKIT: &str = "install the NVIDIA driver and the NVIDIA Container Toolkit (`apt-get install \
                               nvidia-container-toolkit && nvidia-ctk runtime configure --runtime=docker && \
                               systemctl restart docker`), or use Container-Optimized OS with `cos-extensions install gpu`";

const FIX_HUNG_ENGINE: &str = "run the job on another VM; on this one Docker is installed and hangs: see `journalctl -u docker` and \
                               the load of the disk, and restart it (`systemctl restart docker`)";

/// What was seen of an engine that cannot be used.
fn no_engine(host: &str, source: &EngineError) -> String {
    if source.is_late() {
        return format!("the Docker daemon at {host} accepts connections and answers no call");
    }
    format!("no Docker daemon at {host}")
}

/// A failure that ends the job.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Spec(#[from] JobError),
    #[error("there is no job: the attributes `job-spec` and `docker-command` are both missing")]
    NoJob,
    #[error("there are two jobs: `job-spec` and `docker-command` are both set; remove one")]
    TwoJobs,
    #[error(transparent)]
    Callback(#[from] EndpointError),
    /// The VM was made so that no report can get out.
    #[error("the job was not run, as nobody would hear how it ended: {problem}")]
    CannotReport { problem: String, fix: String },
    /// The GPUs that the job wants cannot be given to it.
    #[error("{problem}")]
    Gpus { problem: String, fix: &'static str },
    #[error("{} within {waited_s} s: {source}", no_engine(host, source))]
    EngineUnavailable { host: String, waited_s: u64, source: EngineError },
    #[error("failed to {doing}: {source}")]
    Engine { doing: &'static str, source: EngineError },
    #[error("image {image} is not on this machine, and `pull` is `never`")]
    ImageMissing { image: String },
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("failed to create the container: {0}")]
    Create(EngineError),
    #[error("failed to start the container: {0}")]
    Start(EngineError),
    #[error("container {container} is gone, and nobody knows how it ended")]
    ContainerLost { container: String },
    /// The kernel saw the job end; what runs it did not say how.
    #[error("the job has ended, and {who} did not say how")]
    ExitUnconfirmed { who: &'static str },
    #[error("the job's container was started again, and how the job's own run ended is not known")]
    StartedAgain { engine_lost: bool },
    #[error("the Docker daemon went down as it was asked to start the job; whether that ran is not known")]
    StartUnseen,
    #[error("the VM was rebooted while the job ran; how the job ended is not known")]
    Rebooted { started: String, now: String },
    #[error("the input {from} cannot be had: {source}")]
    Input { from: String, source: Box<StorageError>, fix: Option<String> },
    #[error("failed to write the state in {dir}: {source}")]
    Journal { dir: String, source: std::io::Error },
    #[error("vmjob-agent panicked {count} times in a row: the job was given up")]
    Panicked { count: usize, latest: Vec<String> },
    #[error("{0}")]
    Agent(String),
}

impl Failure {
    /// The one place where failures get their cause.
    pub fn cause(&self) -> Cause {
        if self.is_disk_full() {
            return Cause::DiskFull;
        }
        if self.engine_error().is_some_and(EngineError::is_lost) {
            return Cause::EngineUnavailable;
        }
        match self {
            Self::Spec(_) | Self::NoJob | Self::TwoJobs | Self::Callback(_) | Self::CannotReport { .. } => {
                Cause::InvalidSpec
            }
            Self::EngineUnavailable { .. } => Cause::EngineUnavailable,
            Self::ImageMissing { .. } | Self::Pull(PullError::NotFound { .. }) => Cause::ImageNotFound,
            Self::Pull(PullError::Denied { .. }) => Cause::ImageDenied,
            Self::Pull(PullError::Failed { .. } | PullError::CutShort { .. }) => Cause::ImagePullFailed,
            Self::Secret(error) => Cause::SecretFailed { retryable: error.is_retryable() },
            Self::Create(_) => Cause::CreateFailed,
            Self::StartUnseen | Self::StartedAgain { engine_lost: true } => Cause::EngineRestarted,
            Self::Start(source) if source.is_left_over() => Cause::EngineRestarted,
            Self::Start(_) | Self::Gpus { .. } => Cause::StartFailed,
            Self::ContainerLost { .. } | Self::ExitUnconfirmed { .. } | Self::StartedAgain { engine_lost: false } => {
                Cause::ContainerLost
            }
            Self::Rebooted { .. } => Cause::VmRebooted,
            Self::Input { source, .. } => Cause::InputFailed { retryable: source.is_transient() },
            Self::Engine { .. } | Self::Journal { .. } | Self::Panicked { .. } | Self::Agent(_) => Cause::AgentError,
        }
    }

    /// ENOSPC reaches us as the kernel's text inside the engine's message.
    fn is_disk_full(&self) -> bool {
        match self {
            Self::Journal { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Input { source, .. } => source.is_disk_full(),
            Self::Pull(error) => error.is_disk_full(),
            _ => self.engine_error().is_some_and(EngineError::is_disk_full),
        }
    }

    fn engine_error(&self) -> Option<&EngineError> {
        match self {
            Self::EngineUnavailable { source, .. }
            | Self::Engine { source, .. }
            | Self::Pull(PullError::Failed { source, .. })
            | Self::Create(source)
            | Self::Start(source) => Some(source),
            _ => None,
        }
    }

    /// As it is said of a job that is a process: it has no container, and no engine.
    fn of_process(&self) -> Option<String> {
        match self {
            Self::Create(source) => Some(format!("failed to prepare the process: {source}")),
            Self::Start(source) => Some(format!("failed to start the process: {source}")),
            Self::ContainerLost { .. } => {
                Some("the job's process and its shim are gone, and how the job ended is not known".into())
            }
            Self::Engine { doing, source } => {
                Some(format!("failed to {}: {source}", doing.replace("the container", "the process")))
            }
            _ => None,
        }
    }

    /// The outcome, in the words for a process or a container.
    pub fn outcome(&self, is_process: bool) -> Outcome {
        let outcome = Outcome::from(self);
        match self.of_process().filter(|_| is_process) {
            Some(message) => Outcome { message, ..outcome },
            None => outcome,
        }
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Rebooted { started, now } => {
                vec![format!("the job was started in boot {started}, this is boot {now}")]
            }
            Self::Panicked { latest, .. } => latest.iter().map(|panic| format!("panicked at {panic}")).collect(),
            _ => Vec::new(),
        }
    }

    fn fix(&self) -> Option<String> {
        if self.is_disk_full() {
            return Some(FIX_DISK.into());
        }
        let fix = match self {
            Self::Secret(error) => return error.fix.clone(),
            Self::Input { fix, .. } => return fix.clone(),
            Self::NoJob => "set the VM's metadata attribute `job-spec` (JSON) or `docker-command` (`docker run …`)",
            _ if self.engine_error().is_some_and(EngineError::is_late) => FIX_HUNG_ENGINE,
            Self::EngineUnavailable { source, .. } if source.is_forbidden() => {
                "run the agent as root, or as a user who may use the Docker daemon's socket"
            }
            Self::EngineUnavailable { .. } => {
                "use an image that has Docker (Container-Optimized OS), or install and start it; see `journalctl -u docker`"
            }
            Self::Pull(PullError::NotFound { source, .. }) if source.is_other_platform() => FIX_PLATFORM,
            Self::Pull(PullError::NotFound { .. }) => {
                "check the image's name, tag and region; it must have been pushed"
            }
            Self::ImageMissing { .. } => "set `container.pull` to `missing`, or bake the image into the VM",
            Self::Pull(PullError::Denied { image, .. }) if !registry_wants_token(image) => {
                "check the image's name; vmjob has no password for its registry: copy the image to Artifact Registry"
            }
            Self::Pull(PullError::Denied { .. }) => {
                "give the VM's service account `roles/artifactregistry.reader` on the repository, and check the image's name"
            }
            Self::CannotReport { fix, .. } => fix,
            Self::Panicked { .. } => "report the defect with the places in `evidence`; another version may not have it",
            Self::Gpus { fix, .. } => fix,
            Self::Create(source) | Self::Start(source) if source.is_without_gpus() => FIX_GPU_TOOLKIT,
            _ => return None,
        };
        Some(fix.into())
    }
}

impl Outcome {
    /// Says what to do where the kernel did not know the program that was to be run: by the failure, or the end of the job's log.
    pub fn explain_exec_format(&mut self, log_tail: &str, other_platform: Option<&str>) {
        let says_so = |text: &str| text.to_ascii_lowercase().contains("exec format error");
        let last = || log_tail.lines().rev().take(3).any(says_so);
        let is_it = match self.cause {
            Cause::StartFailed | Cause::CreateFailed => says_so(&self.message),
            Cause::ExitCode => last(),
            _ => false,
        };
        if is_it && self.fix.is_none() {
            let script = "; where it is a script, give it a first line such as #!/bin/sh";
            self.fix = Some(match other_platform {
                Some(_) => FIX_PLATFORM.into(),
                None => FIX_PLATFORM.replace("the image", "the program and its image") + script,
            });
        }
    }
}

impl From<&Failure> for Outcome {
    fn from(failure: &Failure) -> Self {
        Self {
            cause: failure.cause(),
            exit_code: None,
            signal: None,
            message: failure.to_string(),
            evidence: failure.evidence(),
            fix: failure.fix(),
        }
    }
}
