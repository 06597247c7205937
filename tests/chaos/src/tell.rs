//! The story of a life that broke: what was planned, what happened, what the agent said.

use std::{fs, path::Path, time::SystemTime};

use serde_json::Value;

use crate::{agent::Launch, evidence::Evidence, invariants::Broken, plan::Plan};

/// How much of the agent's log is shown, from its end.
const MAX_LOG_LINES: usize = 80;

/// Everything that is needed to understand a broken life.
pub fn tell(plan: &Plan, evidence: &Evidence, broken: &[Broken], dir: &Path) -> String {
    let mut lines = vec![format!("==== {}", plan.replay())];
    lines.extend(broken.iter().map(|broken| format!("BROKEN {}: {}", broken.invariant, broken.how)));
    lines.push(format!("job: {}", plan.job.describe()));
    lines.push(format!("schedule: {}", plan.schedule));
    let mut story = Vec::new();
    for (number, run) in evidence.runs.iter().enumerate() {
        story.push((run.started, format!("agent process {} starts", number + 1)));
        if let Some((at, ending)) = run.ended {
            story.push((at, format!("agent process {} ended: {ending:?}, told {:?}", number + 1, run.told)));
        }
    }
    for fired in &evidence.fired {
        let done = if fired.ok { "" } else { " (in vain)" };
        story.push((fired.at, format!("FAULT {:?}{done}; journal then: {:?}", fired.what, fired.phase)));
    }
    for event in &evidence.events {
        let code = event.exit_code.map(|code| format!(" with {code}")).unwrap_or_default();
        story.push((event.at, format!("engine: {} {}{code}", event.container, event.what)));
    }
    for post in &evidence.posts {
        let taken = if post.accepted { ", accepted" } else { "" };
        story.push((post.wall, format!("POST of {} bytes: {:?}{taken}", post.body.len(), post.answer)));
    }
    story.sort_by_key(|(at, _)| *at);
    lines.extend(story.into_iter().map(|(at, what)| format!("  {:8.3} {what}", seconds(evidence.began, at))));
    lines.extend(evidence.harmed.iter().map(|harmed| format!("{harmed:?}")));
    lines.push(format!("diary: {:?}", evidence.diary));
    lines.push(format!(
        "report: {}",
        without(evidence.report().unwrap_or_default(), "logs", &["head", "tail", "errors"])
    ));
    lines.push(format!("journal: {}", without(evidence.journal.clone(), "source", &["job-spec"])));
    let launch = Launch {
        binary: "".into(),
        metadata_host: String::new(),
        dir: dir.to_owned(),
        boot_id: None,
        docker_host: None,
        libfaketime: None,
    };
    let log = fs::read_to_string(launch.log()).unwrap_or_default();
    let log: Vec<&str> = log.lines().collect();
    lines.push("the agent's log:".into());
    lines.extend(log[log.len().saturating_sub(MAX_LOG_LINES)..].iter().map(|line| format!("  {line}")));
    lines.join("\n")
}

/// `value` with long texts left out of one of its parts.
fn without(mut value: Value, part: &str, texts: &[&str]) -> Value {
    if let Some(part) = value.get_mut(part).and_then(Value::as_object_mut) {
        part.retain(|name, _| !texts.contains(&name.as_str()));
    }
    value
}

fn seconds(began: SystemTime, at: SystemTime) -> f64 {
    match at.duration_since(began) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
