//! What goes wrong in a life, and when: data, drawn before the life begins.

use std::fmt;

/// The agent's persisted phases, as its journal spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Claimed,
    Created,
    Running,
    Exited,
    Delivered,
}

/// When a step is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So many ms after the life began.
    Start(u64),
    /// So many ms after the journal was first seen in this phase, or a later one.
    Phase(Phase, u64),
    /// So many ms after the job wrote its end into its diary.
    JobEnd(u64),
    /// So many ms after the step before, with all it brings about.
    Then(u64),
}

/// A signal to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Term,
    Int,
}

/// What happens to the state directory while the agent is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    JournalTorn,
    JournalEmptied,
    JournalRemoved,
    LogsTorn,
    AllRemoved,
    /// To the engine's file of the job's log, just before the agent is started again.
    Log(LogDamage),
}

/// What happens to the engine's file of the job's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDamage {
    /// To so many percent of what the agent has read of it, at the end of an entry.
    Cut(u64),
    /// In the middle of an entry, so many percent of it from its beginning.
    CutWithin(u64),
    Emptied,
    /// So many zeros are appended.
    ZerosBehind(usize),
    /// So many zeros are written over it, from so many percent on.
    ZerosOver {
        percent: u64,
        count: usize,
    },
    /// An entry so many percent from its beginning has lost its end.
    Torn(u64),
}

/// What happens to the Docker daemon, in a life that has one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SIGTERM, and started again after so many ms.
    Restart(u64),
    /// SIGKILL, and started again after so many ms.
    Crash(u64),
    /// SIGSTOP, and SIGCONT after so many ms.
    Freeze(u64),
}

/// How the engine half dies under the job for so many ms: it goes on, and says little or nothing of the job's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The container's containerd-shim gets SIGSTOP, and SIGCONT in the end.
    Shim(u64),
    /// It answers about everything but the job's containers.
    Deaf(u64),
    /// Each of its answers comes so much later.
    Slow { by_ms: u64, ms: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// `kill -9` of the agent, started again after `pause_ms`.
    Kill {
        pause_ms: u64,
        damage: Option<Damage>,
    },
    /// The machine goes down, job and all, and comes back with another boot id. `orderly`: the job gets a SIGTERM first.
    Reboot {
        pause_ms: u64,
        orderly: bool,
        damage: Option<Damage>,
    },
    /// SIGHUP, and the next `run`.
    Hangup {
        pause_ms: u64,
    },
    Signal(Told),
    Preempt,
    Cancel,
    CallbackDown,
    CallbackUp,
    /// The execution is over: 404 from now on.
    EndExecution,
    RevokeTokens,
    MetadataDown,
    MetadataUp,
    ContainerKill,
    ContainerRemove,
    DiskFull,
    DiskRoom,
    /// Under an agent that may be reading it.
    HarmLog(LogDamage),
    Engine(Engine),
    Silence(Silence),
    /// The wall clock that the agent sees jumps to so many s off the true time.
    ClockJump(i64),
}

#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub when: When,
    pub what: What,
}

/// All that goes wrong in one life.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    pub steps: Vec<Step>,
    /// What the callback endpoint does with the first POSTs (`fakecloud::Script`).
    pub callback: String,
    /// What the metadata server does with the first requests for paths that begin so.
    pub metadata: Vec<(&'static str, String)>,
    /// The workflow takes each payload at once; else the endpoint's queue stays full after the first.
    pub awaited: bool,
    /// The agent is run once more when all is done.
    pub rerun: bool,
    /// The state directory is a file system of its own, this large.
    pub disk_kib: Option<u64>,
    /// The job outlives the Docker daemon.
    pub live_restore: bool,
}

impl Phase {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "CLAIMED" => Self::Claimed,
            "CREATED" => Self::Created,
            "RUNNING" => Self::Running,
            "EXITED" => Self::Exited,
            "DELIVERED" => Self::Delivered,
            _ => return None,
        })
    }
}

impl What {
    /// Done to the agent's process, so it has to be there.
    pub fn needs_agent(self) -> bool {
        matches!(self, Self::Kill { .. } | Self::Reboot { .. } | Self::Hangup { .. } | Self::Signal(_))
    }

    /// Something that is done to the engine for a while.
    pub fn is_trouble(self) -> bool {
        matches!(self, Self::Engine(_) | Self::Silence(_))
    }

    /// The agent's process ends by it, and another is started.
    pub fn restarts(self) -> Option<u64> {
        match self {
            Self::Kill { pause_ms, .. } | Self::Reboot { pause_ms, .. } | Self::Hangup { pause_ms } => Some(pause_ms),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.what, self.when)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self.steps.iter().map(Step::to_string).collect();
        if !self.callback.is_empty() {
            words.push(format!("callback={}", self.callback));
        }
        words.extend(self.metadata.iter().map(|(path, script)| format!("metadata[{path}]={script}")));
        words.extend(self.awaited.then(|| "awaited".into()));
        words.extend(self.rerun.then(|| "rerun".into()));
        words.extend(self.disk_kib.map(|kib| format!("disk={kib}KiB")));
        words.extend(self.live_restore.then(|| "live-restore".into()));
        f.write_str(&words.join(" "))
    }
}
