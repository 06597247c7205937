//! What a run does next. It follows from the record alone: a restart takes the step that an agent before it was at.

use crate::journal::{Phase, Record};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Gets what the job needs, and makes its container.
    Prepare,
    /// Starts it.
    Start,
    /// Waits for the job's end, and judges it.
    Watch,
    /// Uploads what the attempt has left, and writes the report.
    Conclude,
    /// Sends the report.
    Deliver,
    /// Removes what is left of the job, and lets the VM go.
    CleanUp,
}

pub(super) fn next_step(record: &Record) -> Step {
    match (record.phase, &record.attempt.outcome) {
        (Phase::Claimed, _) => Step::Prepare,
        (Phase::Created, _) => Step::Start,
        (Phase::Running, _) => Step::Watch,
        // How the attempt ended is in the report by then, and no longer in the record.
        (Phase::Exited, Some(_)) => Step::Conclude,
        (Phase::Exited, None) => Step::Deliver,
        (Phase::Delivered, _) => Step::CleanUp,
    }
}
