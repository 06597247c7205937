//! From a container's exit to an outcome: who or what ended it?

use super::{Cause, Outcome};
use crate::stop::{Stop, StopReason};

/// What the engine says about a container that runs no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub code: i64,
    /// The engine saw the kernel kill something in the container for memory.
    pub oom_killed: bool,
    /// The engine's own error text; empty mostly.
    pub error: String,
}

/// Names the cause of `exit`. `stop` is the stop that the agent carried out, if any; `engine_lost` says that the connection
/// to the engine broke while the job ran.
pub fn classify(exit: &Exit, stop: Option<&Stop>, engine_lost: bool) -> Outcome {
    let signal = signal_of(exit.code);
    let mut evidence = vec![format!("the engine reports exit code {}", exit.code)];
    if exit.oom_killed {
        evidence.push("the engine reports OOMKilled: the kernel killed a process of the container for memory".into());
    }
    if !exit.error.is_empty() {
        evidence.push(format!("the engine says: {}", exit.error));
    }
    if engine_lost {
        evidence.push("the connection to the engine broke while the job ran".into());
    }

    let how = match signal {
        Some((_, name)) => format!("by {name} (exit code {})", exit.code),
        None => format!("with exit code {}", exit.code),
    };
    let (cause, message, fix) = if let Some(stop) = stop {
        evidence.push(format!("the job was stopped at {}: {}", stop.at, stop.reason.sentence()));
        (stop.reason.cause(), format!("{}; the job ended {how}", stop.reason.sentence()), stop.reason.fix())
    } else if exit.error.contains("no space left on device") {
        (Cause::DiskFull, format!("the disk is full: {}", exit.error), Some(super::failure::FIX_DISK.into()))
    } else if engine_lost && matches!(exit.code, 137 | 143) {
        (Cause::EngineRestarted, format!("the Docker daemon went down and took the job with it {how}"), None)
    } else if exit.code == 0 {
        (Cause::None, "the job exited with 0".into(), None)
    } else if exit.oom_killed && exit.code == 137 {
        let fix = "give the job more memory: raise `container.memory`, or take a larger machine type";
        (Cause::OomKilled, format!("the kernel killed the job for memory (exit code {})", exit.code), Some(fix.into()))
    } else if let Some((number, name)) = signal {
        (Cause::Signal, format!("the job was killed by signal {number} ({name}), or exited with {}", exit.code), None)
    } else {
        (Cause::ExitCode, format!("the job exited with {}", exit.code), None)
    };
    Outcome { cause, exit_code: Some(exit.code), signal: signal.map(|(number, _)| number), message, evidence, fix }
}

/// The signal behind an exit code of 128 + n, the convention of containerd's shim and of shells. Only for signals that
/// end a process; other codes above 128 are a program's own.
fn signal_of(code: i64) -> Option<(i64, &'static str)> {
    let number = code - 128;
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    };
    Some((number, name))
}

impl StopReason {
    pub fn cause(self) -> Cause {
        match self {
            Self::Timeout => Cause::Timeout,
            Self::Cancelled => Cause::Cancelled,
            Self::Preempted => Cause::Preempted,
            Self::VmShutdown => Cause::VmShutdown,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Timeout => "the job ran into its timeout",
            Self::Cancelled => "the job was cancelled (job-cancel)",
            Self::Preempted => "the VM was preempted",
            Self::VmShutdown => "the VM was shutting down, or the agent was told to stop (SIGTERM)",
        }
    }

    fn fix(self) -> Option<String> {
        match self {
            Self::Timeout => Some("raise `timeout`, or find out why the job takes so long".into()),
            _ => None,
        }
    }
}

impl From<&Stop> for Outcome {
    /// The outcome of a stop when no exit of the job was seen.
    fn from(stop: &Stop) -> Self {
        Self {
            cause: stop.reason.cause(),
            exit_code: None,
            signal: None,
            message: stop.reason.sentence().into(),
            evidence: vec![format!("the stop was asked for at {}", stop.at)],
            fix: stop.reason.fix(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i64, oom_killed: bool, error: &str) -> Exit {
        Exit { code, oom_killed, error: error.into() }
    }

    #[test]
    fn an_exit_is_named_by_who_ended_it() {
        let stopped = |reason| Some(Stop { reason, at: "t".into(), since_boot_s: 1.0 });
        let cases = [
            (exit(0, false, ""), None, false, Cause::None, None),
            (exit(3, false, ""), None, false, Cause::ExitCode, None),
            (exit(255, false, ""), None, false, Cause::ExitCode, None),
            (exit(139, false, ""), None, false, Cause::Signal, Some(11)),
            (exit(137, false, ""), None, false, Cause::Signal, Some(9)),
            (exit(137, true, ""), None, false, Cause::OomKilled, Some(9)),
            // A child was killed for memory and the job carried on: only evidence.
            (exit(0, true, ""), None, false, Cause::None, None),
            (exit(1, true, ""), None, false, Cause::ExitCode, None),
            (exit(137, false, ""), None, true, Cause::EngineRestarted, Some(9)),
            (exit(0, false, ""), None, true, Cause::None, None),
            (exit(143, false, ""), stopped(StopReason::Timeout), false, Cause::Timeout, Some(15)),
            (exit(0, false, ""), stopped(StopReason::Cancelled), false, Cause::Cancelled, None),
            (exit(137, true, ""), stopped(StopReason::Preempted), false, Cause::Preempted, Some(9)),
            (exit(1, false, "write /x: no space left on device"), None, false, Cause::DiskFull, None),
        ];
        for (exit, stop, engine_lost, cause, signal) in cases {
            let outcome = classify(&exit, stop.as_ref(), engine_lost);
            assert_eq!((outcome.cause, outcome.signal), (cause, signal), "{exit:?} {stop:?}");
            assert_eq!(outcome.exit_code, Some(exit.code));
            assert_eq!(outcome.evidence.iter().any(|fact| fact.contains("OOMKilled")), exit.oom_killed);
        }
    }
}
