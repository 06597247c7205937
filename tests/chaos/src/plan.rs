//! What is settled before a life begins: its kind, its job, its schedule of faults.

use crate::{
    draw::Draw,
    job::Job,
    kinds,
    schedule::{Schedule, What},
};

/// A kind of lives, named after what goes wrong in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Kill9,
    Delivery,
    Metadata,
    Stops,
    Behind,
    Reboot,
    Journal,
    LogDamage,
    Disk,
    Mix,
    Clock,
    Silence,
    Keep,
    Engine,
}

/// Everything that is settled before a life begins.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub number: u64,
    pub kind: Kind,
    pub job: Job,
    pub schedule: Schedule,
}

impl Kind {
    pub const ALL: [Self; 14] = [
        Self::Kill9,
        Self::Delivery,
        Self::Metadata,
        Self::Stops,
        Self::Behind,
        Self::Reboot,
        Self::Journal,
        Self::LogDamage,
        Self::Disk,
        Self::Mix,
        Self::Clock,
        Self::Silence,
        Self::Keep,
        Self::Engine,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill9 => "kill9",
            Self::Delivery => "delivery",
            Self::Metadata => "metadata",
            Self::Stops => "stops",
            Self::Behind => "behind",
            Self::Reboot => "reboot",
            Self::Journal => "journal",
            Self::LogDamage => "logdamage",
            Self::Disk => "disk",
            Self::Mix => "mix",
            Self::Clock => "clock",
            Self::Silence => "silence",
            Self::Keep => "keep",
            Self::Engine => "engine",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Plan {
    /// The life of this number. The same seed, number and kind are the same life.
    pub fn draw(seed: u64, number: u64, kind: Kind) -> Self {
        let mut draw = Draw::new(seed, number, kind.name());
        let draw = &mut draw;
        let mut job = Job::draw(draw, format!("chaos-{seed:x}-{}-{number}", kind.name()));
        let mut schedule = Schedule { awaited: draw.chance(50), rerun: draw.chance(25), ..Schedule::default() };
        kinds::draw(kind, draw, &mut job, &mut schedule);
        Self { seed, number, kind, job, schedule }
    }

    /// Whether the engine half dies in this life.
    pub fn is_silent(&self) -> bool {
        self.job.has_hung_log() || self.schedule.steps.iter().any(|step| matches!(step.what, What::Silence(_)))
    }

    /// The command line that lives this life again.
    pub fn replay(&self) -> String {
        format!("chaos --seed {} --life {} --kinds {}", self.seed, self.number, self.kind.name())
    }
}
