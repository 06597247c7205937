//! How long the container of a job that failed stays.

use std::time::Duration;

use super::SLACK;
use crate::{evidence::Evidence, plan::Plan, schedule::What};

/// Between the answer's end and the note of it, and between two clocks.
const CLOCKS: Duration = Duration::from_millis(100);

/// What is wrong with the time at which the container of the reported attempt went, if anything.
pub(super) fn kept_wrongly(plan: &Plan, evidence: &Evidence, attempt: u64, state: &str) -> Option<String> {
    let keep = Duration::from_millis(plan.job.keep_ms?);
    let removed = evidence.event(&format!("vmjob-{}-{attempt}", plan.job.id), "destroy")?.at;
    let (first, last) = (evidence.accepted().next()?.wall, evidence.accepted().last()?.wall);
    let stayed = removed.duration_since(first).unwrap_or_default();
    // A stop ends it, whenever it came.
    let stops = evidence.fired(|what| matches!(what, What::Signal(_) | What::Cancel | What::Preempt)).count();
    if state == "FAILED" && stops == 0 && stayed + CLOCKS < keep {
        return Some(format!("it stayed for {} ms of {} ms", stayed.as_millis(), keep.as_millis()));
    }
    let most = if state == "FAILED" { keep + SLACK } else { SLACK };
    let stayed = removed.duration_since(last).unwrap_or_default();
    (stayed > most).then(|| format!("it stayed for {} s, and {} s are the most", stayed.as_secs(), most.as_secs()))
}
