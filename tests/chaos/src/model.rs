//! Which reports are truthful: from what was planned and what was seen from outside, never from what the agent says.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use fakecloud::{Answer, Recorded};

use crate::{
    agent::{ENGINE_PATIENCE, Run},
    diary::Entry,
    docker::Event,
    evidence::{Evidence, Fired},
    plan::Plan,
    schedule::{Damage, Engine, Phase, Silence, What},
};

/// How much later than the job's end a reason to stop has to come to be no reason for that end: the engine tells of an exit
/// a moment after it.
const TELLING: Duration = Duration::from_millis(250);
/// A timer may ring so much early by another clock.
const CLOCKS: Duration = Duration::from_millis(100);
/// How long the agent may take to be in touch with an engine that is back, or to have begun.
const BACK: Duration = Duration::from_secs(10);
/// So many questions may have to be answered one after the other: their delays add up.
const QUESTIONS: u32 = 5;

/// What is true of an attempt.
#[derive(Debug)]
pub struct Truth {
    /// The causes that a truthful report may give.
    pub causes: BTreeSet<&'static str>,
    /// What the job's exit code can be, as the engine told it or else as the job did.
    pub exit_codes: Vec<i64>,
    /// Whether the report could get out.
    pub deliverable: bool,
    /// Whether all of the output was there to be read.
    pub log_is_whole: bool,
    /// Whether the agent may have had to write its report anew.
    pub report_may_change: bool,
}

/// The truth about attempt `attempt`, the one reported.
pub fn truth(plan: &Plan, evidence: &Evidence, attempt: u64) -> Truth {
    let name = format!("vmjob-{}-{attempt}", plan.job.id);
    let entry = evidence.diary.iter().find(|entry| entry.attempt == attempt);
    let died = evidence.event(&name, "die");
    Truth {
        causes: causes(plan, evidence, &name, entry, died),
        exit_codes: exit_codes(evidence, entry, died),
        deliverable: is_deliverable(plan, evidence),
        log_is_whole: !plan.job.has_hung_log()
            && evidence.harmed.is_empty()
            && evidence
                .fired(|what| {
                    matches!(what, What::ContainerRemove | What::Reboot { .. } | What::Engine(_) | What::Silence(_))
                })
                .all(|fired| !fired.ok),
        report_may_change: plan.schedule.disk_kib.is_some(),
    }
}

fn causes(
    plan: &Plan,
    evidence: &Evidence,
    name: &str,
    entry: Option<&Entry>,
    died: Option<&Event>,
) -> BTreeSet<&'static str> {
    let mut causes = BTreeSet::new();
    let own_end = entry.and_then(|entry| entry.end);
    let end = end_of_job(evidence, died);
    if let Some(code) = own_end {
        causes.insert(cause_of_code(plan, code));
    }
    if plan.job.hog && died.is_some_and(|event| event.exit_code == Some(137)) {
        causes.insert("OOM_KILLED");
        if evidence.event(name, "oom").is_none() {
            // The engine may miss it where a container dies at once.
            causes.insert("SIGNAL");
        }
    }
    // What came after the job's own end did not cause it.
    let in_time = |at: SystemTime| own_end.is_none() || died.is_none_or(|died| at <= died.at + TELLING);

    let stops = evidence.fired(|what| matches!(what, What::Signal(_) | What::Preempt | What::Cancel));
    causes.extend(stops.filter(|fired| in_time(fired.at)).flat_map(|fired| match fired.what {
        // A preempted VM gets its SIGTERM too.
        What::Signal(_) if evidence.fired(|what| what == What::Preempt).next().is_some() => {
            &["VM_SHUTDOWN", "PREEMPTED"][..]
        }
        What::Signal(_) => &["VM_SHUTDOWN"],
        What::Preempt => &["PREEMPTED"],
        _ => &["CANCELLED"],
    }));
    if ran_out(plan, evidence, name, died) {
        causes.insert("TIMEOUT");
    }
    for fired in evidence.fired.iter().filter(|fired| fired.ok && in_time(fired.at)) {
        match fired.what {
            What::ContainerKill => _ = causes.insert("SIGNAL"),
            // It kills first, and may be seen between the two.
            What::ContainerRemove => causes.extend(["CONTAINER_LOST", "SIGNAL"]),
            What::DiskFull => _ = causes.insert("DISK_FULL"),
            // A container that is just being started is taken down even so.
            What::Engine(Engine::Restart(_) | Engine::Crash(_))
                if ended_meanwhile(evidence, fired, died)
                    && (!plan.schedule.live_restore || fired.phase < Some(Phase::Running)) =>
            {
                causes.insert("ENGINE_RESTARTED");
                // The daemon going down asks the job to end, and what it makes of that is its own exit.
                causes.extend(entry.and_then(|entry| entry.end_on_term).map(|code| cause_of_code(plan, code)));
            }
            // Of an end in its absence a daemon that crashed knows nothing; and an end by a signal, or with the code that it guesses as
            // it goes down, may be its doing.
            What::Engine(how @ (Engine::Restart(_) | Engine::Crash(_)))
                if ended_meanwhile(evidence, fired, died)
                    && (matches!(how, Engine::Crash(_)) || matches!(own_end, Some(137 | 143 | 255))) =>
            {
                causes.insert("ENGINE_RESTARTED");
            }
            _ => {}
        }
    }
    let silences = || evidence.fired(|what| matches!(what, What::Silence(_))).filter(|fired| fired.ok);
    let outlasts = |fired: &Fired| matches!(fired.what, What::Silence(how) if outlasts_patience(how));
    // An end that the engine does not confirm in time is known to have come, and no more.
    if plan.job.has_hung_log() || silences().any(outlasts) {
        causes.insert("CONTAINER_LOST");
    }
    // One that answers too late, or not to what has to be asked before the start, cannot be reached at all.
    if silences().any(|fired| {
        let is_slow = matches!(fired.what, What::Silence(Silence::Slow { .. }));
        outlasts(fired) && (is_slow || fired.phase < Some(Phase::Running))
    }) {
        causes.insert("ENGINE_UNAVAILABLE");
    }
    // Removed before its end was on record: no agent may have been there to see it.
    if evidence.fired(|what| what == What::ContainerRemove).any(|fired| fired.ok && fired.phase < Some(Phase::Exited)) {
        causes.insert("CONTAINER_LOST");
    }
    // What a daemon wrote down that was started anew while no agent was there may be a guess.
    let is_anew = |what| matches!(what, What::Engine(Engine::Restart(_) | Engine::Crash(_)));
    if evidence.fired(is_anew).any(|fired| {
        let is_unseen_by = |run: &Run| run.started > fired.at && end.is_none_or(|end| end <= run.started + BACK);
        fired.ok && fired.phase < Some(Phase::Exited) && evidence.runs.iter().any(is_unseen_by)
    }) {
        causes.insert("ENGINE_RESTARTED");
    }
    let attempt = entry.map_or(0, |entry| entry.attempt);
    if evidence.fired(|what| matches!(what, What::Reboot { .. })).any(|reboot| took(evidence, name, reboot, attempt)) {
        // Nobody saw the end: whatever the engine says now is a guess. Only a stop that was under way counts.
        causes.insert("VM_REBOOTED");
        for guess in ["NONE", "EXIT_CODE", "SIGNAL", "OOM_KILLED"] {
            causes.remove(guess);
        }
    }
    // The start may have been asked for, and whether it came only an engine knows that kept its power.
    if evidence.fired(|what| matches!(what, What::Reboot { .. })).any(|reboot| reboot.phase == Some(Phase::Created)) {
        causes.insert("VM_REBOOTED");
    }
    causes
}

/// When the job ended, by the engine or else by itself.
fn end_of_job(evidence: &Evidence, died: Option<&Event>) -> Option<SystemTime> {
    died.map(|died| died.at).or(evidence.job_ended)
}

/// Whether the job ended while the daemon was down, or not clearly before or after that; or nobody knows when.
fn ended_meanwhile(evidence: &Evidence, fired: &Fired, died: Option<&Event>) -> bool {
    let is_too_late = |end| fired.over.is_some_and(|over| end > over + BACK);
    end_of_job(evidence, died).is_none_or(|end| end + TELLING >= fired.at && !is_too_late(end))
}

/// Whether the engine says nothing for longer than the agent waits for it.
fn outlasts_patience(how: Silence) -> bool {
    match how {
        Silence::Shim(ms) | Silence::Deaf(ms) => Duration::from_millis(ms) >= ENGINE_PATIENCE,
        Silence::Slow { by_ms, ms } => {
            let by = Duration::from_millis(by_ms);
            by * QUESTIONS >= ENGINE_PATIENCE && by + Duration::from_millis(ms) >= ENGINE_PATIENCE
        }
    }
}

/// A reboot between the start of this attempt and the moment its end was on record. A start that was under way may only come once
/// the machine has gone down, as the engine did not.
fn took(evidence: &Evidence, name: &str, reboot: &Fired, attempt: u64) -> bool {
    let is_back = evidence.runs.iter().map(|run| run.started).find(|started| *started > reboot.at);
    let was_under_way = evidence
        .event(name, "start")
        .is_some_and(|start| start.at >= reboot.at && is_back.is_none_or(|is_back| start.at <= is_back));
    attempt > 0 && (reboot.job_starts as u64 >= attempt || was_under_way) && reboot.phase < Some(Phase::Exited)
}

fn exit_codes(evidence: &Evidence, entry: Option<&Entry>, died: Option<&Event>) -> Vec<i64> {
    if let Some(code) = died.and_then(|event| event.exit_code) {
        return vec![code];
    }
    let told = entry.and_then(|entry| entry.end.or(entry.end_on_term));
    match told {
        Some(code) => vec![code],
        // A daemon that goes down kills the job, and tells nobody.
        None if evidence.fired(|what| matches!(what, What::Engine(_))).next().is_some() => vec![137, 143],
        None => Vec::new(),
    }
}

/// The cause of an exit that was the job's own.
fn cause_of_code(plan: &Plan, code: i64) -> &'static str {
    match code {
        0 => "NONE",
        _ if plan.job.success_exit_codes.contains(&code) => "NONE",
        // 128 + SIGTERM: as the contract's SIGNAL is told from an exit code.
        143 => "SIGNAL",
        _ => "EXIT_CODE",
    }
}

fn ran_out(plan: &Plan, evidence: &Evidence, name: &str, died: Option<&Event>) -> bool {
    // By a clock that jumps nobody can tell the start from the making of the process, which comes before it.
    let jumps = evidence.fired(|what| matches!(what, What::ClockJump(_))).next().is_some();
    let start = evidence.event(name, if jumps { "create" } else { "start" });
    let (Some(timeout_ms), Some(started)) = (plan.job.timeout_ms, start) else { return false };
    let ran = died.and_then(|died| died.at.duration_since(started.at).ok());
    ran.is_none_or(|ran| ran + CLOCKS >= Duration::from_millis(timeout_ms))
}

fn harms_journal(what: What) -> bool {
    matches!(what, What::Kill { damage: Some(damage), .. } if !matches!(damage, Damage::LogsTorn | Damage::Log(_)))
}

/// The endpoint turned the report away for good, or was away for longer than the agent was to try; or the record was lost with the
/// agent as it began to send, and a report that may have arrived is not sent again.
fn is_deliverable(plan: &Plan, evidence: &Evidence) -> bool {
    let answered = |statuses: &[u16]| {
        evidence.posts.iter().filter(|post| status(post).is_some_and(|status| statuses.contains(&status))).count()
    };
    // Once more with the log texts dropped, where there are any.
    let logs = evidence.report().unwrap_or_default()["logs"].take();
    let refusals = if logs["head"] == "" && logs["tail"] == "" { 1 } else { 2 };
    let gave_up = evidence.journal["delivery"]["end"]["gave_up"].as_str().unwrap_or_default();
    if gave_up.contains("its record was lost") && evidence.fired(harms_journal).next().is_some() {
        return false;
    }
    answered(&[404, 405, 410]) == 0 && answered(&[400, 413]) < refusals && plan.job.give_up_after_ms.is_none()
}

/// The status that the agent got to see.
fn status(post: &Recorded) -> Option<u16> {
    match post.answer {
        Answer::Status(status) | Answer::Truncated(status) => Some(status),
        _ => None,
    }
}

/// How many accepted posts were needed: one, and one more for each that the agent cannot have known of.
pub fn needed_deliveries(evidence: &Evidence) -> usize {
    let accepted: Vec<&Recorded> = evidence.accepted().collect();
    let unheard = |post: &&&Recorded| {
        status(post) != Some(200)
            || evidence
                .runs
                .iter()
                .filter_map(|run| run.ended)
                .any(|(at, _)| at >= post.wall && !is_noted(evidence, at))
    };
    1 + accepted.iter().filter(unheard).count()
}

/// Whether the delivery was in the journal by the time the agent ended.
fn is_noted(evidence: &Evidence, ended: SystemTime) -> bool {
    evidence
        .fired
        .iter()
        .find(|fired| {
            fired.what.restarts().is_some() && fired.at + Duration::from_secs(1) >= ended && fired.at <= ended
        })
        .is_none_or(|fired| fired.phase == Some(Phase::Delivered))
}
