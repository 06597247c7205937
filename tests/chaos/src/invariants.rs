//! What has to hold of every life, whatever went wrong in it.

mod keep;
mod logs;

use std::{collections::BTreeSet, time::Duration};

use fakecloud::{Answer, Recorded};
use serde_json::{Value, json};

use self::{keep::kept_wrongly, logs::check_logs};
use crate::{
    agent::{ENGINE_PATIENCE, Ending},
    evidence::{Evidence, contains},
    model::{Truth, needed_deliveries, truth},
    plan::{Kind, Plan},
    schedule::{Phase, What},
};

const MAX_STATE_BYTES: u64 = 2 << 20;
/// Beside what the agent waits for the engine: the log's end, a restart of the agent, a busy machine.
const SLACK: Duration = Duration::from_secs(45);

/// An invariant that did not hold, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub invariant: &'static str,
    pub how: String,
}

/// All that is broken in a life; empty in a good one.
pub fn check(plan: &Plan, evidence: &Evidence) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut claim = |invariant, holds: bool, how: &dyn Fn() -> String| {
        if !holds {
            broken.push(Broken { invariant, how: how() });
        }
    };

    claim("ends in time", !evidence.overdue, &|| "the agent had to be killed at the deadline".into());
    let runs_twice = twice(plan, evidence);
    claim("runs once per attempt", runs_twice.is_none(), &|| runs_twice.clone().unwrap_or_default());
    let left = &evidence.left_containers;
    claim("leaves no container", left.is_empty(), &|| left.join(", "));
    claim("bounded state", evidence.state_bytes < MAX_STATE_BYTES, &|| format!("{} bytes", evidence.state_bytes));
    claim("no token in files", evidence.leaks.is_empty(), &|| format!("{:?}", evidence.leaks));

    let late = lateness(plan, evidence);
    claim("reports within the bound", late.is_none(), &|| late.clone().unwrap_or_default());

    let report = evidence.report().unwrap_or_default();
    let attempt = report["job"]["attempt"].as_u64().unwrap_or(1);
    let truth = truth(plan, evidence, attempt);
    let accepted = evidence.accepted().count();
    claim("reports", accepted > 0 || !truth.deliverable, &|| "no report was accepted".into());
    let needed = needed_deliveries(evidence);
    claim("reports once", accepted <= needed, &|| format!("{accepted} reports were accepted, {needed} were needed"));
    let others = other_bodies(evidence);
    claim("one report's bytes", others <= usize::from(truth.report_may_change), &|| {
        format!("{others} other bodies were posted")
    });
    if let Some(post) = evidence.bodies().next() {
        let line = [b"vmjob-report ", post.body.as_slice(), b"\n"].concat();
        claim("report on stdout", contains(&evidence.stdout, &line), &|| "there is no such line on stdout".into());
        broken.extend(check_report(plan, evidence, &truth, attempt, &report));
    }
    broken.extend(check_ends(evidence, &truth, accepted));
    broken
}

/// How much later than the first reason for it a report came that nothing but the engine held up, if that was too late.
fn lateness(plan: &Plan, evidence: &Evidence) -> Option<String> {
    if plan.kind != Kind::Silence {
        return None;
    }
    let started = evidence.event(&format!("vmjob-{}-1", plan.job.id), "start")?.at;
    let stops = evidence.fired(|what| matches!(what, What::Cancel | What::Preempt)).map(|fired| fired.at);
    let timeout = plan.job.timeout_ms.map(|ms| started + Duration::from_millis(ms));
    let first = stops.chain(timeout).chain(evidence.job_ended).min()?;
    let bound = Duration::from_millis(plan.job.grace_ms) + ENGINE_PATIENCE + SLACK;
    let took = evidence.bodies().next()?.wall.duration_since(first).unwrap_or_default();
    (took > bound).then(|| format!("{} s of {} s", took.as_secs(), bound.as_secs()))
}

fn twice(plan: &Plan, evidence: &Evidence) -> Option<String> {
    for attempt in 1..=2 {
        let name = format!("vmjob-{}-{attempt}", plan.job.id);
        let starts = evidence.events.iter().filter(|event| event.container == name && event.what == "start").count();
        let noted = evidence.diary.iter().filter(|entry| entry.attempt == attempt).count();
        if starts > 1 || noted > 1 {
            return Some(format!("attempt {attempt}: {starts} starts by the engine, {noted} by the diary"));
        }
    }
    None
}

/// Bodies that are neither the first one nor, after a 400 or 413, that one with its log texts dropped.
fn other_bodies(evidence: &Evidence) -> usize {
    let Some(first) = evidence.bodies().next() else { return 0 };
    let too_large = |post: &Recorded| matches!(post.answer, Answer::Status(400 | 413));
    let shrunk = evidence.bodies().any(too_large).then(|| without_logs(&first.body));
    let mut others: Vec<&[u8]> = evidence.bodies().map(|post| post.body.as_slice()).collect();
    others.retain(|body| *body != first.body && shrunk.as_ref().is_none_or(|shrunk| without_logs(body) != *shrunk));
    others.into_iter().collect::<BTreeSet<_>>().len()
}

fn without_logs(body: &[u8]) -> Value {
    let mut report: Value = serde_json::from_slice(body).unwrap_or_default();
    report["logs"]["head"] = "".into();
    report["logs"]["tail"] = "".into();
    report["logs"]["errors"] = json!([]);
    report
}

/// The report against the truth.
fn check_report(plan: &Plan, evidence: &Evidence, truth: &Truth, attempt: u64, report: &Value) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut claim = |invariant, holds: bool, how: String| {
        if !holds {
            broken.push(Broken { invariant, how });
        }
    };
    let cause = report["cause"].as_str().unwrap_or_default();
    let exit_code = report["exit_code"].as_i64();
    claim("truthful cause", truth.causes.contains(cause), format!("{cause}, where the truth is {:?}", truth.causes));
    let state = match cause {
        "NONE" => "SUCCEEDED",
        "CANCELLED" => "CANCELLED",
        _ => "FAILED",
    };
    claim("state follows cause", report["state"] == state, format!("{} with {cause}", report["state"]));

    let entry = evidence.diary.iter().find(|entry| entry.attempt == attempt);
    if let Some(code) = exit_code {
        claim(
            "true exit code",
            truth.exit_codes.contains(&code),
            format!("{code}, the job's is {:?}", truth.exit_codes),
        );
        let said = entry.is_some_and(|entry| entry.says(0));
        claim("no made-up success", code != 0 || said, "exit code 0, and the job does not say so".into());
    }
    let is_success = |code| code == 0 || plan.job.success_exit_codes.contains(&code);
    claim(
        "success is an exit with a code for it",
        (cause == "NONE") <= exit_code.is_some_and(is_success),
        format!("NONE with {exit_code:?}"),
    );
    let kept_wrongly = kept_wrongly(plan, evidence, attempt, state);
    claim("kept for its time", kept_wrongly.is_none(), kept_wrongly.unwrap_or_default());
    let seen = matches!(cause, "EXIT_CODE" | "SIGNAL" | "OOM_KILLED");
    claim("a seen exit has its code", !seen || exit_code.is_some(), format!("{cause} without an exit code"));
    let unseen = matches!(cause, "VM_REBOOTED" | "CONTAINER_LOST");
    claim("an unseen exit has none", !unseen || exit_code.is_none(), format!("{cause} with {exit_code:?}"));

    if let Some(run_s) = report["durations_s"]["run"].as_f64()
        && let Some(started) = evidence.event(&format!("vmjob-{}-{attempt}", plan.job.id), "start")
        && let Some(post) = evidence.bodies().next()
    {
        let most_s = post.wall.duration_since(started.at).unwrap_or_default().as_secs_f64() + 0.1;
        claim("a run no longer than it was", (0.0..=most_s).contains(&run_s), format!("{run_s} s of {most_s} s"));
    }
    let latest = evidence.diary.last().map_or(1, |entry| entry.attempt);
    claim("reports the last attempt", attempt >= latest, format!("attempt {attempt}, attempt {latest} has run"));
    if let (Some(post), Some(died)) =
        (evidence.accepted().next(), evidence.event(&format!("vmjob-{}-{attempt}", plan.job.id), "die"))
    {
        // An engine that half dies tells of the end when it is whole again.
        let is_told = died.at <= post.wall || plan.is_silent();
        claim("ends before it is reported", is_told, "the job was still running".into());
    }
    broken.extend(check_logs(plan, evidence, truth, entry, report));
    broken
}

/// How the agent's processes ended, and what its journal says in the end.
fn check_ends(evidence: &Evidence, truth: &Truth, accepted: usize) -> Vec<Broken> {
    let mut broken = Vec::new();
    let delivered = evidence.journal["phase"].as_str().and_then(Phase::named) == Some(Phase::Delivered);
    let gave_up = evidence.journal["delivery"]["end"]["gave_up"].as_str();
    let rerun = evidence.posts_before_rerun;
    let last = evidence.runs.len().saturating_sub(1);
    let finals = if rerun.is_some() { last.saturating_sub(1) } else { last };
    for (number, run) in evidence.runs.iter().enumerate() {
        let ending = run.ended.map(|(_, ending)| ending);
        let expected = match ending {
            _ if evidence.overdue => true,
            Some(Ending::Signal(_)) => !run.told.is_empty() && number < finals,
            Some(Ending::Code(0)) if number < finals => !run.told.is_empty(),
            // The machine was about to end.
            Some(Ending::Code(75)) if number < finals => {
                evidence.fired(|what| matches!(what, What::Preempt | What::Signal(_))).next().is_some()
            }
            Some(Ending::Code(0)) => accepted > 0,
            // A KILL may come just as it ends by itself.
            Some(Ending::Code(75)) => !truth.deliverable && gave_up.is_some_and(|why| !why.is_empty()),
            _ => false,
        };
        if !expected {
            broken.push(Broken {
                invariant: "exit status",
                how: format!("process {} of {} ended with {ending:?}, was told {:?}", number + 1, last + 1, run.told),
            });
        }
    }
    // On a full disk it cannot be.
    let disk_was_full = evidence.fired(|what| what == What::DiskFull).next().is_some();
    if !evidence.overdue && !delivered && !disk_was_full {
        let how = format!("the journal ends in phase {}", evidence.journal["phase"]);
        broken.push(Broken { invariant: "journal is closed", how });
    }
    if rerun.is_some_and(|posts| posts != evidence.posts.len()) {
        broken.push(Broken { invariant: "a rerun does nothing", how: "it posted".into() });
    }
    broken
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::{agent::Run, diary::Entry, docker::Event, schedule::What};

    /// A life in which the job exited with `code`, and the agent said what `report` says.
    fn lived(code: i64, cause: &str, exit_code: Option<i64>) -> (Plan, Evidence) {
        let mut plan = Plan::draw(1, 1, Kind::Kill9);
        (plan.job.exit_code, plan.job.hog, plan.job.chunks) = (code, false, Vec::new());
        let began = SystemTime::now();
        let at = |ms| began + Duration::from_millis(ms);
        let container = format!("vmjob-{}-1", plan.job.id);
        let event = |what: &str, exit_code, ms| Event {
            what: what.into(),
            exit_code,
            container: container.clone(),
            at: at(ms),
        };
        let state = if cause == "NONE" { "SUCCEEDED" } else { "FAILED" };
        let counts =
            json!({"stdout_bytes": 0, "stdout_lines": 0, "stderr_bytes": 0, "stderr_lines": 0, "lost_bytes": 0});
        let body =
            json!({"job": {"attempt": 1}, "state": state, "cause": cause, "exit_code": exit_code, "logs": counts});
        let body = body.to_string().into_bytes();
        let post = Recorded {
            id: 0,
            at: Instant::now(),
            wall: at(300),
            method: "POST".into(),
            path: "/".into(),
            headers: Vec::new(),
            body: body.clone(),
            answer: Answer::Status(200),
            accepted: true,
        };
        let evidence = Evidence {
            began,
            runs: vec![Run { started: began, ended: Some((at(400), Ending::Code(0))), told: Vec::new() }],
            fired: Vec::new(),
            harmed: Vec::new(),
            diary: vec![Entry { attempt: 1, chunks: 0, end: Some(code), end_on_term: None }],
            job_ended: None,
            events: vec![event("start", None, 100), event("die", Some(code), 200)],
            posts: vec![post],
            posts_before_rerun: None,
            journal: json!({"phase": "DELIVERED"}),
            stdout: [b"vmjob-report ", body.as_slice(), b"\n"].concat(),
            state_bytes: 1000,
            left_containers: Vec::new(),
            leaks: Vec::new(),
            overdue: false,
        };
        (plan, evidence)
    }

    fn broken(plan: &Plan, evidence: &Evidence) -> Vec<&'static str> {
        check(plan, evidence).into_iter().map(|broken| broken.invariant).collect()
    }

    #[test]
    fn truthful_reports_pass_and_others_do_not() {
        let cases: [(i64, &str, Option<i64>, &[&str]); 6] = [
            (0, "NONE", Some(0), &[]),
            (3, "EXIT_CODE", Some(3), &[]),
            (3, "NONE", Some(0), &["truthful cause", "true exit code", "no made-up success"]),
            (0, "CONTAINER_LOST", None, &["truthful cause"]),
            (3, "EXIT_CODE", Some(4), &["true exit code"]),
            (3, "EXIT_CODE", None, &["a seen exit has its code"]),
        ];
        for (code, cause, exit_code, expected) in cases {
            let (plan, evidence) = lived(code, cause, exit_code);
            assert_eq!(broken(&plan, &evidence), expected, "{code} {cause} {exit_code:?}");
        }
    }

    #[test]
    fn a_success_by_its_code_and_a_kept_container_are_held_to_the_plan() {
        let (mut plan, evidence) = lived(3, "NONE", Some(3));
        assert_eq!(broken(&plan, &evidence), ["truthful cause", "success is an exit with a code for it"]);
        plan.job.success_exit_codes = &[3];
        assert_eq!(broken(&plan, &evidence), [""; 0]);

        for (removed_ms, expected) in
            [(300 + 4000, &["kept for its time"][..]), (300 + 5000, &[]), (90_000, &["kept for its time"])]
        {
            let (mut plan, mut evidence) = lived(3, "EXIT_CODE", Some(3));
            plan.job.keep_ms = Some(5000);
            let destroyed = evidence.began + Duration::from_millis(removed_ms);
            evidence.events.push(Event { what: "destroy".into(), at: destroyed, ..evidence.events[0].clone() });
            assert_eq!(broken(&plan, &evidence), expected, "{removed_ms}");
        }
    }

    #[test]
    fn after_a_reboot_an_exit_code_is_a_guess() {
        let (plan, mut evidence) = lived(0, "NONE", Some(0));
        evidence.fired.push(crate::evidence::Fired {
            what: What::Reboot { pause_ms: 0, orderly: true, damage: None },
            at: evidence.events[0].at,
            over: None,
            phase: Some(Phase::Running),
            job_starts: 1,
            ok: true,
        });
        assert_eq!(broken(&plan, &evidence), ["truthful cause"]);
    }

    #[test]
    fn a_second_report_needs_a_lost_answer() {
        let (plan, mut evidence) = lived(0, "NONE", Some(0));
        evidence.posts.push(evidence.posts[0].clone());
        assert_eq!(broken(&plan, &evidence), ["reports once"]);
        evidence.posts[0].answer = Answer::Reset;
        assert_eq!(broken(&plan, &evidence), [""; 0]);
        evidence.posts[1].body.push(b' ');
        assert_eq!(broken(&plan, &evidence), ["one report's bytes"]);
    }
}
