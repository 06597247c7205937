//! What the engine, or the way to it, may fail with.

use std::time::Duration;

use bollard::errors::Error;

use crate::http::chain;

#[derive(Debug, Clone, thiserror::Error)]
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
    /// ENOSPC, as the engine has it from the kernel.
    pub fn is_disk_full(&self) -> bool {
        says_disk_full(self.message())
    }

    /// The same of an engine that was pulling: its error may be the registry's words.
    pub fn is_disk_full_of_pull(&self) -> bool {
        let message = self.message();
        let registry_s = ["://", "registry", "status code", "erver message", "response", "denied", "unauthorized"];
        self.is_disk_full() && is_own_words(message) && !registry_s.iter().any(|words| message.contains(words))
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
        let message = without_quotes(self.message());
        message.contains("task") && own_end(&message).ends_with("already exists")
    }

    /// Whether the engine has no GPUs to give to a container: no driver, or no toolkit that knows it.
    pub fn is_without_gpus(&self) -> bool {
        let message = without_quotes(self.message());
        ["could not select device driver", "nvidia-container-cli", "GPU vendor"]
            .iter()
            .any(|words| message.contains(words))
    }

    /// Whether the call may not have reached the engine, or its answer was lost: the engine's state has to be looked at.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::LateShim { .. } | Self::Unreachable(_))
    }

    /// Whether the engine took the call and did not answer it.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. })
    }

    /// Whether the agent may not use the engine's socket.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Unreachable(message) if message.contains("Permission denied"))
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

/// Whether the kernel's ENOSPC is what an engine's message comes down to, through Go or a C library: it is the last of the causes there. Further
/// to the front, or in quotes, are the words of others: the job's command, an answer.
pub fn says_disk_full(message: &str) -> bool {
    let message = own_end(message);
    ["no space left on device", "No space left on device", "disk quota exceeded"]
        .iter()
        .any(|words| message.ends_with(words))
}

/// Without the kinds that containerd, and Podman with its runtimes, put behind a message.
fn own_end(message: &str) -> &str {
    let mut end = message.trim_end();
    for kind in [": unknown", ": OCI runtime error"] {
        end = end.strip_suffix(kind).unwrap_or(end);
    }
    end
}

/// Whether an error of a pull begins as the engine's own do: with a call to the system and its path, or with what the engine was doing. What
/// comes from a registry begins with one of its codes. Source: moby `distribution/errors.go`, containerd `unpacker.go`.
fn is_own_words(message: &str) -> bool {
    const DOING: [&str; 13] = [
        "failed to register layer",
        "failed to extract layer",
        "failed to copy",
        "failed to prepare",
        "failed to commit",
        "failed to unpack",
        "failed to mount",
        "failed commit",
        "error creating",
        "Error processing tar file",
        "ApplyLayer",
        "writing blob",
        "copying system image",
    ];
    let is_call =
        |(call, path): (&str, &str)| call.bytes().all(|byte| byte.is_ascii_lowercase()) && path.starts_with('/');
    message.split_once(' ').is_some_and(is_call) || DOING.iter().any(|doing| message.starts_with(doing))
}

/// `message` without what it quotes.
fn without_quotes(message: &str) -> String {
    message.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_the_engine_s_word_and_nobody_else_s() {
        let engine_s = [
            "write /var/lib/docker/tmp/GetImageBlob123: no space left on device",
            "failed to register layer: Error processing tar file(exit status 1): write /bin/x: no space left on device",
            "failed to register layer: write /bin/x: no space left on device",
            "ApplyLayer exit status 1 stdout:  stderr: write /x: no space left on device",
            "failed to extract layer sha256:00: mount callback failed on /tmp/x: write /tmp/x/y: no space left on device: unknown",
            "failed to copy: failed to send write: write /var/lib/containerd/x: no space left on device: unknown",
            "writing blob: storing blob to file \"/var/tmp/x\": write /var/tmp/x: no space left on device",
            "mkdir /var/lib/docker/overlay2/x: no space left on device",
            "write /x: disk quota exceeded",
        ];
        for message in engine_s {
            assert!(EngineError::Failed(message.into()).is_disk_full_of_pull(), "{message}");
        }
        let registry_s = [
            "no space left on device",
            "denied: no space left on device",
            "unknown: write /x: no space left on device",
            "toomanyrequests: write /x: no space left on device",
            "Head \"https://r/v2/a/manifests/b\": denied: no space left on device",
            "error parsing HTTP 403 response body: invalid character 'n': \"no space left on device\"",
            "failed to copy: httpReadSeeker: failed open: unexpected status code https://r/v2/: 507 - Server message: write /x: no space left on device",
            "error from registry: write /x: no space left on device",
            "received unexpected HTTP status: 507 no space left on device",
            "manifest unknown: no space left on device",
        ];
        for message in registry_s {
            assert!(!EngineError::Failed(message.into()).is_disk_full_of_pull(), "{message}");
        }
    }

    #[test]
    fn what_an_error_quotes_is_not_the_engine_s_word() {
        let quoted = |words: &str| {
            let message =
                format!("OCI runtime create failed: exec: \"{words}\": executable file not found in $PATH: unknown");
            EngineError::Refused { status: 400, message }
        };
        assert!(!quoted("write /x: no space left on device").is_disk_full());
        assert!(!quoted("task already exists").is_left_over());
        assert!(!quoted("nvidia-container-cli").is_without_gpus());
        let said = |message: &str| EngineError::Failed(message.into());
        assert!(said("mkdir /run/x: no space left on device: unknown").is_disk_full());
        assert!(said("failed to create task for container: task c0ffee: already exists: unknown").is_left_over());
        assert!(said("task c0ffee: already exists").is_left_over());
        assert!(said("could not select device driver \"\" with capabilities: [[gpu]]").is_without_gpus());
    }
}
