//! From a container's exit to an outcome: who or what ended it?

use super::{Cause, OomKill, Outcome};
use crate::{
    runtime::{Exit, Init, says_disk_full},
    stop::{Stop, StopReason},
};

/// What the engine gives for the exit code of a container whose end it did not see: seen of Docker 20.10 that was killed, the first
/// one also when it was killed just as the container had ended.
const GUESSES: [i64; 2] = [0, GUESS_AT_ITS_END];
/// The one that it also gives as it goes down in order and lets containers live, of one that ends just then.
pub const GUESS_AT_ITS_END: i64 = 255;

/// What else is known of an attempt whose exit is to be judged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Circumstances<'a> {
    /// A container, and no process.
    pub is_container: bool,
    /// Why the agent stopped the job, if it did.
    pub stop: Option<&'a Stop>,
    /// The signal that the engine says was sent to the job.
    pub signalled: Option<&'a str>,
    /// The engine went away while the job ran, or as it ended.
    pub engine_lost: bool,
    /// The main process, as the engine numbers it.
    pub main_pid: Option<i64>,
    /// The main process, where that is an init.
    pub init: Option<&'a Init>,
}

/// Names the cause of `exit` of this around. `kills`: whom the kernel killed for memory in its container.
pub fn classify(exit: &Exit, around: &Circumstances<'_>, kills: &[OomKill]) -> Outcome {
    let code = exit.code;
    let signal = signal_of(code);
    let how = match signal {
        Some((_, name)) => format!("by {name} (exit code {code})"),
        None => format!("with exit code {code}"),
    };
    let ended_from_outside = matches!(code, 137 | 143) || around.signalled.is_some();
    let (cause, message, fix) = if let Some(stop) = around.stop {
        (stop.reason.cause(), format!("{}; the job ended {how}", stop.reason.sentence()), stop.reason.fix())
    } else if says_disk_full(&exit.error) {
        (Cause::DiskFull, format!("the disk is full: {}", exit.error), Some(super::failure::FIX_DISK.into()))
    } else if exit.is_unseen && GUESSES.contains(&code) {
        let message = "the Docker daemon crashed, and nobody saw how the job ended";
        return Outcome {
            evidence: evidence(exit, around, kills),
            exit_code: None,
            ..Outcome::new(Cause::EngineRestarted, message)
        };
    } else if around.engine_lost && ended_from_outside {
        (Cause::EngineRestarted, format!("the Docker daemon went down and took the job with it; it ended {how}"), None)
    } else if code == 0 {
        (Cause::None, "the job exited with 0".into(), None)
    } else if code == 137 && main_was_oom_killed(exit, around, kills) {
        let (whose, fix) = if kills.iter().any(|kill| kill.whole_vm) {
            (
                "the whole VM was out of memory",
                "take a machine type with more memory, or set `container.memory` below the VM's",
            )
        } else {
            ("the job reached its memory limit", "raise `container.memory`, or make the job use less")
        };
        (
            Cause::OomKilled,
            format!("the kernel killed the job for memory: {whose} (exit code {code})"),
            Some(fix.into()),
        )
    } else if let Some((number, name)) = signal.filter(|_| code != 137 || kills.is_empty()) {
        (Cause::Signal, format!("the job was killed by signal {number} ({name}), or exited with {code}"), None)
    } else {
        (Cause::ExitCode, format!("the job exited with {code}"), None)
    };
    let signal = signal.map(|(number, _)| number).filter(|_| cause != Cause::ExitCode);
    Outcome { cause, exit_code: Some(code), signal, message, evidence: evidence(exit, around, kills), fix }
}

impl Outcome {
    /// The same of a job for which these exit codes are a success. What others did to it, or the kernel, is no exit of its own.
    #[must_use]
    pub fn with_success_codes(mut self, codes: &[u8]) -> Self {
        let is_own = matches!(self.cause, Cause::ExitCode | Cause::Signal);
        let code = self.exit_code.filter(|code| is_own && codes.iter().any(|other| i64::from(*other) == *code));
        if let Some(code) = code {
            self.cause = Cause::None;
            self.message = format!("the job exited with {code}, which success_exit_codes makes a success");
            (self.signal, self.fix) = (None, None);
        }
        self
    }
}

/// A child that was killed for memory is only evidence. The kernel's log tells the two apart, where its process numbers are
/// the engine's.
fn main_was_oom_killed(exit: &Exit, around: &Circumstances<'_>, kills: &[OomKill]) -> bool {
    let pids: Vec<i64> = kills.iter().filter_map(|kill| kill.pid).collect();
    match around.main_pid {
        Some(main) if !pids.is_empty() => match around.init {
            // An init ends as the process does that it runs.
            Some(Init { child }) => child.is_none_or(|child| pids.contains(&child)) || pids.contains(&main),
            None => pids.contains(&main),
        },
        _ => exit.oom_killed || !kills.is_empty(),
    }
}

fn evidence(exit: &Exit, around: &Circumstances<'_>, kills: &[OomKill]) -> Vec<String> {
    // A process has neither.
    let has_engine = around.is_container;
    let (witness, whole) = if has_engine { ("the engine", "the container") } else { ("its shim", "the job") };
    let mut facts = vec![format!("{witness} reports exit code {}", exit.code)];
    if exit.oom_killed {
        let flag = if has_engine { "OOMKilled: the kernel" } else { "that the kernel" };
        facts.push(format!("{witness} reports {flag} killed a process of {whole} for memory"));
    }
    for kill in kills.iter().take(5) {
        let OomKill { pid, task, whole_vm, rss_bytes } = kill;
        let pid = pid.map(|pid| format!("process {pid} ")).unwrap_or_default();
        let held = rss_bytes.map(|bytes| format!(", which held {bytes} bytes")).unwrap_or_default();
        let place = if *whole_vm { "the whole VM" } else { whole };
        facts.push(format!("the kernel killed {pid}({task}){held}: {place} was out of memory"));
    }
    if !exit.error.is_empty() {
        facts.push(format!("{witness} says: {}", exit.error));
    }
    if let Some(signal) = around.signalled {
        facts.push(format!("the engine reports that signal {signal} was sent to the job"));
    }
    if around.engine_lost {
        facts.push("the engine went away while the job ran".into());
    }
    if let Some(stop) = around.stop {
        facts.push(format!("the agent stopped the job from {} on: {}", stop.at, stop.reason.sentence()));
    }
    facts
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
            Self::VmShutdown => "the VM was shutting down, or the agent was told to stop (SIGTERM, SIGINT)",
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
    use crate::clock::SinceBoot;

    fn exit(code: i64, oom_killed: bool, error: &str) -> Exit {
        Exit { code, oom_killed, error: error.into(), ..Exit::default() }
    }

    fn stop(reason: StopReason) -> Stop {
        Stop { reason, at: "t".into(), since_boot: SinceBoot::default() }
    }

    #[test]
    fn success_exit_codes_are_for_exits_of_the_job_s_own() {
        let (timeout, unseen) = (stop(StopReason::Timeout), Exit { is_unseen: true, ..exit(255, false, "") });
        let stopped = Circumstances { stop: Some(&timeout), ..Circumstances::default() };
        let (alone, lost) = (Circumstances::default(), Circumstances { engine_lost: true, ..Circumstances::default() });
        let codes = [3, 137, 143, 255];
        for (exit, around, cause) in [
            (exit(3, false, ""), &alone, Cause::None),
            (exit(143, false, ""), &alone, Cause::None),
            (exit(4, false, ""), &alone, Cause::ExitCode),
            (exit(137, true, ""), &alone, Cause::OomKilled),
            (exit(3, false, ""), &stopped, Cause::Timeout),
            (exit(143, false, ""), &lost, Cause::EngineRestarted),
            (unseen, &alone, Cause::EngineRestarted),
        ] {
            let outcome = classify(&exit, around, &[]).with_success_codes(&codes);
            assert_eq!(outcome.cause, cause, "{exit:?}");
            if cause == Cause::None {
                assert_eq!((outcome.exit_code, outcome.signal), (Some(exit.code), None));
                assert!(outcome.message.contains("success_exit_codes"), "{}", outcome.message);
            }
        }
    }

    #[test]
    fn an_exit_is_named_by_who_ended_it() {
        let alone = Circumstances { is_container: true, ..Circumstances::default() };
        let lost = Circumstances { engine_lost: true, ..alone };
        let lost_and_signalled = Circumstances { signalled: Some("15"), ..lost };
        let signalled = Circumstances { signalled: Some("9"), ..Circumstances::default() };
        let stops = [StopReason::Timeout, StopReason::Cancelled, StopReason::Preempted].map(stop);
        let [timeout, cancelled, preempted] =
            stops.each_ref().map(|stop| Circumstances { stop: Some(stop), ..Circumstances::default() });
        let cases = [
            (exit(0, false, ""), &alone, Cause::None, None),
            (exit(3, false, ""), &alone, Cause::ExitCode, None),
            (exit(255, false, ""), &alone, Cause::ExitCode, None),
            (exit(139, false, ""), &alone, Cause::Signal, Some(11)),
            (exit(137, false, ""), &alone, Cause::Signal, Some(9)),
            (exit(137, false, ""), &signalled, Cause::Signal, Some(9)),
            (exit(137, true, ""), &alone, Cause::OomKilled, Some(9)),
            // A child was killed for memory and the job carried on: only evidence.
            (exit(0, true, ""), &alone, Cause::None, None),
            (exit(1, true, ""), &alone, Cause::ExitCode, None),
            (exit(137, false, ""), &lost, Cause::EngineRestarted, Some(9)),
            (exit(0, false, ""), &lost, Cause::None, None),
            (exit(3, false, ""), &lost, Cause::ExitCode, None),
            (exit(0, false, ""), &lost_and_signalled, Cause::EngineRestarted, None),
            (exit(143, false, ""), &timeout, Cause::Timeout, Some(15)),
            (exit(0, false, ""), &cancelled, Cause::Cancelled, None),
            (exit(137, true, ""), &preempted, Cause::Preempted, Some(9)),
            (exit(1, false, "write /x: no space left on device"), &alone, Cause::DiskFull, None),
        ];
        for (exit, attempt, cause, signal) in cases {
            let outcome = classify(&exit, attempt, &[]);
            assert_eq!((outcome.cause, outcome.signal), (cause, signal), "{exit:?} {attempt:?}");
            assert_eq!(outcome.exit_code, Some(exit.code));
            assert_eq!(outcome.evidence.iter().any(|fact| fact.contains("killed a process")), exit.oom_killed);
        }
    }

    #[test]
    fn what_nobody_saw_is_no_success() {
        let lost = Circumstances { engine_lost: true, ..Circumstances::default() };
        let unseen = |code| classify(&Exit { is_unseen: true, ..exit(code, false, "") }, &lost, &[]);
        for code in GUESSES {
            assert_eq!((unseen(code).cause, unseen(code).exit_code), (Cause::EngineRestarted, None));
        }
        assert_eq!((unseen(3).cause, unseen(3).exit_code), (Cause::ExitCode, Some(3)));
    }

    #[test]
    fn what_an_init_runs_is_the_job() {
        let kill = OomKill { pid: Some(8), task: "python".into(), whole_vm: false, rss_bytes: None };
        let of = |init: Option<Init>, code| {
            let attempt = Circumstances { main_pid: Some(7), init: init.as_ref(), ..Circumstances::default() };
            classify(&exit(code, true, ""), &attempt, std::slice::from_ref(&kill)).cause
        };
        let cases = [
            (Some(Init { child: Some(8) }), 137, Cause::OomKilled),
            // A child of the job's, whose status it passed on.
            (Some(Init { child: Some(9) }), 137, Cause::ExitCode),
            (Some(Init { child: Some(8) }), 1, Cause::ExitCode),
            // It was gone before it was seen.
            (Some(Init { child: None }), 137, Cause::OomKilled),
            (None, 137, Cause::ExitCode),
        ];
        for (init, code, cause) in cases {
            assert_eq!(of(init.clone(), code), cause, "{init:?} {code}");
        }
    }

    #[test]
    fn out_of_memory_is_told_apart_by_the_kernel_s_log() {
        let attempt = Circumstances { main_pid: Some(7), ..Circumstances::default() };
        let kill = |pid, whole_vm| OomKill { pid: Some(pid), task: "python".into(), whole_vm, rss_bytes: None };
        let cases = [
            (kill(7, false), Cause::OomKilled, "memory limit"),
            (kill(7, true), Cause::OomKilled, "whole VM"),
            // The job passed on its child's status, as shells do.
            (kill(8, false), Cause::ExitCode, "exited with 137"),
            // Which of the two it was cannot be seen: the engine's word counts.
            (OomKill { pid: None, ..kill(8, false) }, Cause::OomKilled, "memory limit"),
        ];
        for (kill, cause, words) in cases {
            let outcome = classify(&exit(137, true, ""), &attempt, std::slice::from_ref(&kill));
            assert_eq!(outcome.cause, cause, "{kill:?}");
            assert!(outcome.message.contains(words), "{}", outcome.message);
            assert!(outcome.evidence.iter().any(|fact| fact.contains("(python)")));
        }
    }
}
