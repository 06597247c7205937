//! What happened to the job: a container's exit, a failure or a stop goes in; the outcome and, with the rest of what is
//! known, the report come out.

mod cause;
mod exit;
mod failure;
mod kernel_log;

use serde::{Deserialize, Serialize};

pub use self::{
    cause::{Cause, Fault, State},
    exit::{Circumstances, GUESS_AT_ITS_END, classify},
    failure::{FIX_GPU_TOOLKIT, Failure},
    kernel_log::{OomKill, oom_kills},
};

use crate::gate::Gate;

/// How the job ended, and what is known about why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub cause: Cause,
    /// The job's own exit code, as seen; never guessed.
    pub exit_code: Option<i64>,
    /// The signal that ended the job, where its exit code says so.
    pub signal: Option<i64>,
    /// One sentence for people.
    pub message: String,
    /// The facts that led to the cause, in the order they came up.
    pub evidence: Vec<String>,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Outcome {
    /// Through the gate, for the journal: by the next attempt its secrets may be others.
    pub fn pass(&mut self, gate: &Gate) {
        for text in [&mut self.message].into_iter().chain(&mut self.fix).chain(&mut self.evidence) {
            *text = gate.mask(text).into_owned();
        }
    }

    /// An outcome of which no more is known than this.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, exit_code: None, signal: None, message: message.into(), evidence: Vec::new(), fix: None }
    }
}
