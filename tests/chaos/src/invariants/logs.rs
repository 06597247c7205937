//! The report's `logs` against what the job wrote.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Broken;
use crate::{diary::Entry, evidence::Evidence, job::Counts, model::Truth, plan::Plan};

/// What the report says where part of the log is lost.
const TOLD: &str = "part of the log could not be read";

pub(super) fn check_logs(
    plan: &Plan,
    evidence: &Evidence,
    truth: &Truth,
    entry: Option<&Entry>,
    report: &Value,
) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut claim = |invariant, holds: bool, how: String| {
        if !holds {
            broken.push(Broken { invariant, how });
        }
    };
    let logs = &report["logs"];
    let number = |name: &str| logs[name].as_u64().unwrap_or(u64::MAX);
    let counts = Counts {
        stdout_bytes: number("stdout_bytes"),
        stdout_lines: number("stdout_lines"),
        stderr_bytes: number("stderr_bytes"),
        stderr_lines: number("stderr_lines"),
    };
    let chunks = entry.map_or(0, |entry| entry.chunks);
    let fewest = plan.job.counts(chunks);
    let most = plan.job.counts(chunks + usize::from(entry.is_none_or(|entry| entry.end.is_none())));
    let how = format!("{counts:?}, at least {fewest:?} at most {most:?}");
    claim("nothing counted twice", counts.lies_between(&Counts::default(), &most), how.clone());
    let repeated = repeated(plan, logs);
    claim("no line shown twice", repeated.is_none(), repeated.unwrap_or_default());

    let lost = logs["lost_bytes"].as_u64();
    let is_told = report["evidence"].to_string().contains(TOLD);
    claim("what is lost is told", is_told == (lost != Some(0)), format!("{lost:?} lost bytes, told: {is_told}"));
    if truth.log_is_whole && report["exit_code"].is_i64() {
        claim("all output counted", counts.lies_between(&fewest, &most), how.clone());
        claim("nothing is lost of a whole log", lost == Some(0), format!("{lost:?} lost bytes"));
    }
    if !evidence.harmed.is_empty() && evidence.harmed.iter().all(|harmed| harmed.leaves_trace) {
        let counted = counts.stdout_bytes.saturating_add(counts.stderr_bytes);
        let missing = (fewest.stdout_bytes + fewest.stderr_bytes).saturating_sub(counted);
        // It is told from the file's length, so within an entry or two.
        let longest = plan.job.chunks.iter().map(|chunk| chunk.line_bytes).max().unwrap_or_default();
        claim(
            "what is missing is lost",
            lost.is_none_or(|lost| lost + missing / 10 + longest * u64::from(lost > 0) >= missing),
            format!("{missing} bytes are missing, {lost:?} are told to be lost; {how}"),
        );
    }
    broken
}

impl Counts {
    fn lies_between(&self, least: &Self, most: &Self) -> bool {
        let parts =
            |counts: &Self| [counts.stdout_bytes, counts.stdout_lines, counts.stderr_bytes, counts.stderr_lines];
        parts(self).iter().zip(parts(least)).all(|(count, least)| *count >= least)
            && parts(self).iter().zip(parts(most)).all(|(count, most)| *count <= most)
    }
}

/// A numbered line that is more than once in one of the report's texts.
fn repeated(plan: &Plan, logs: &Value) -> Option<String> {
    plan.job.numbered_from?;
    ["head", "tail"].into_iter().find_map(|name| {
        let mut seen = BTreeSet::new();
        let text = logs[name].as_str().unwrap_or_default();
        // The first may be cut.
        let mut numbers = text.lines().skip(usize::from(name == "tail")).filter_map(|line| line.get(..8));
        numbers.find(|number| !seen.insert(*number)).map(|number| format!("{number} in {name}"))
    })
}
