//! The report: everything that is known of the job as the JSON that is POSTed. Contract: design 2.3.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Fault, Outcome, State};
use crate::{journal::Record, logs::LogSummary, metadata::Vm, runtime::Usage};

/// The largest report, in bytes. Less than 64 KiB by enough that the `vmjob-report` line, with what journald or a script
/// runner puts before it, still passes a reader of 64 KiB lines.
pub const MAX_REPORT_BYTES: usize = 64 * 1024 - 512;
/// The largest message, in bytes: an engine's error text has no bound of its own.
const MAX_TEXT_BYTES: usize = 2048;
/// One piece of evidence, so that it leaves room for others; and all of them, as JSON.
const MAX_FACT_BYTES: usize = 1024;
const MAX_FACTS: usize = 32;
const MAX_EVIDENCE_BYTES: usize = 8 * 1024;
/// What became of the outputs, at most.
const MAX_UPLOADS_BYTES: usize = 8 * 1024;

/// What the report is made of.
pub struct Report<'a> {
    pub record: &'a Record,
    pub outcome: &'a Outcome,
    pub logs: &'a LogSummary,
    /// What the job wrote to `JOB_RESULT_FILE`.
    pub result: Option<Value>,
    pub uploads: &'a [Upload],
}

/// What became of an output, or of the logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upload {
    pub from: String,
    pub to: String,
    /// Those that are there now.
    pub files: u64,
    pub bytes: u64,
    /// Why it is not all there, if so.
    pub error: Option<String>,
}

impl Report<'_> {
    /// The JSON, at most [`MAX_REPORT_BYTES`]: the log summary gives way, then `result`, never the rest.
    pub fn to_text(&self) -> String {
        let mut budget = self.logs.text_bytes();
        loop {
            let text = to_text(&self.document(&self.logs.within(budget), self.result.as_ref(), None));
            if text.len() <= MAX_REPORT_BYTES {
                return text;
            }
            if budget == 0 {
                break;
            }
            // Escapes make the JSON longer than the text, so the budget is found by trying.
            budget /= 2;
        }
        let dropped = self.result.is_some().then_some("the result was dropped: it has no room in the report");
        to_text(&self.document(&self.logs.within(0), None, dropped))
    }

    fn document<'a>(
        &'a self,
        logs: &'a LogSummary,
        result: Option<&'a Value>,
        dropped: Option<&'a str>,
    ) -> Document<'a> {
        let Self { record, outcome, .. } = self;
        let attempt = &record.attempt;
        let cause = outcome.cause;
        Document {
            version: 1,
            job: JobNames {
                id: &record.job_id,
                attempt: attempt.number,
                task_index: record.task_index,
                task_count: record.task_count,
            },
            state: cause.state(),
            cause: cause.name(),
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            message: cut(&outcome.message, MAX_TEXT_BYTES),
            evidence: evidence(outcome, record, dropped),
            fix: outcome.fix.as_deref(),
            fault: cause.fault(),
            retryable: cause.retryable(),
            image: Image { reference: attempt.image.as_deref(), digest: attempt.image_digest.as_deref() },
            times: Times {
                agent_started_at: &record.agent_started_at,
                pull_started_at: attempt.pull_started_at.as_deref(),
                started_at: attempt.started_at.as_deref(),
                finished_at: attempt.finished_at.as_deref(),
            },
            durations_s: Durations { pull: attempt.pull_s, run: attempt.run_s },
            usage: attempt.usage,
            logs,
            result,
            uploads: uploads(self.uploads),
            vm: &record.vm,
            agent: Agent { version: env!("CARGO_PKG_VERSION") },
        }
    }
}

/// The report's JSON, in the order of the contract.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    job: JobNames<'a>,
    state: State,
    cause: &'static str,
    exit_code: Option<i64>,
    signal: Option<i64>,
    message: Cow<'a, str>,
    evidence: Vec<Cow<'a, str>>,
    fix: Option<&'a str>,
    fault: Option<Fault>,
    retryable: bool,
    image: Image<'a>,
    times: Times<'a>,
    durations_s: Durations,
    usage: Usage,
    logs: &'a LogSummary,
    result: Option<&'a Value>,
    uploads: Vec<&'a Upload>,
    vm: &'a Vm,
    agent: Agent,
}

#[derive(Serialize)]
struct JobNames<'a> {
    id: &'a str,
    attempt: u32,
    task_index: u32,
    task_count: u32,
}

#[derive(Serialize)]
struct Image<'a> {
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    digest: Option<&'a str>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the contract's names")]
struct Times<'a> {
    agent_started_at: &'a str,
    pull_started_at: Option<&'a str>,
    started_at: Option<&'a str>,
    finished_at: Option<&'a str>,
}

#[derive(Serialize)]
struct Durations {
    pull: Option<f64>,
    run: Option<f64>,
}

#[derive(Serialize)]
struct Agent {
    version: &'static str,
}

/// What was dropped, earlier attempts, then this one's facts, then what the preflight warned of: those that have room, cut where they are long.
fn evidence<'a>(outcome: &'a Outcome, record: &'a Record, dropped: Option<&'a str>) -> Vec<Cow<'a, str>> {
    let mut left = MAX_EVIDENCE_BYTES;
    let facts = record.earlier_attempts.iter().chain(&outcome.evidence).chain(&record.preflight.warnings);
    let facts = dropped.into_iter().chain(facts.map(String::as_str)).map(|fact| cut(fact, MAX_FACT_BYTES));
    let mut fits = |fact: &Cow<str>| {
        let bytes = to_text(fact).len();
        let fits = bytes <= left;
        left -= if fits { bytes } else { 0 };
        fits
    };
    facts.filter(|fact| fits(fact)).take(MAX_FACTS).collect()
}

/// As many as have a place in the report, those that failed before the others.
fn uploads(all: &[Upload]) -> Vec<&Upload> {
    let mut left = MAX_UPLOADS_BYTES;
    let mut fits = |upload: &&Upload| {
        let bytes = to_text(upload).len();
        left = left.saturating_sub(bytes);
        left > 0
    };
    let (failed, whole): (Vec<_>, Vec<_>) = all.iter().partition(|upload| upload.error.is_some());
    failed.into_iter().chain(whole).take_while(|upload| fits(upload)).collect()
}

/// A report once more with the log texts dropped, for an endpoint that finds it too large or cannot read it. `None` if there
/// is nothing to drop.
pub fn without_logs(report: &str) -> Option<String> {
    let mut value: Value = serde_json::from_str(report).ok()?;
    let logs = value.get_mut("logs")?.as_object_mut()?;
    for text in ["head", "tail"] {
        logs.insert(text.into(), "".into());
    }
    logs.insert("errors".into(), json!([]));
    let text = to_text(&value);
    (text.len() < report.len()).then_some(text)
}

fn to_text(value: &impl Serialize) -> String {
    // Only a map key that is no string, or a `Serialize` that fails by itself, could make this fail: there is neither.
    serde_json::to_string(value).expect("JSON values with string keys always serialize")
}

/// `text`, cut at a character boundary within `most` bytes.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let end = text.floor_char_boundary(most - '…'.len_utf8());
    format!("{}…", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::Preflighted,
        delivery::Progress,
        journal::{Attempt, Phase, Source},
        logs::tests::summary_of,
        outcome::Cause,
    };

    fn record() -> Record {
        Record {
            version: Record::VERSION,
            claim: "c".into(),
            phase: Phase::Running,
            job_id: "train-42".into(),
            task_index: 0,
            task_count: 1,
            source: Source::Unreadable,
            callback_url: None,
            vm: Vm { id: "17446744073709551557".into(), ..Vm::default() },
            agent_started_at: "2026-11-24T04:23:55.706Z".into(),
            attempt: Attempt { number: 1, ..Attempt::default() },
            preflight: Preflighted::default(),
            earlier_attempts: vec!["attempt 1: VM_REBOOTED: …".into()],
            report: None,
            delivery: Progress::default(),
            finished: false,
            blocked: None,
        }
    }

    fn outcome(message: &str) -> Outcome {
        let evidence = vec!["fact".to_owned(); 1000];
        Outcome {
            cause: Cause::ExitCode,
            exit_code: Some(3),
            signal: None,
            message: message.into(),
            evidence,
            fix: None,
        }
    }

    #[test]
    fn the_fields_stand_as_in_the_contract() {
        let (record, outcome, logs) = (record(), outcome("the job exited with 3"), summary_of(b"hi\n"));
        let text = Report { record: &record, outcome: &outcome, logs: &logs, result: None, uploads: &[] }.to_text();
        let names = [
            "version",
            "job",
            "state",
            "cause",
            "exit_code",
            "signal",
            "message",
            "evidence",
            "fix",
            "fault",
            "retryable",
            "image",
            "times",
            "durations_s",
            "usage",
            "logs",
            "result",
            "uploads",
            "vm",
            "agent",
        ];
        let places: Vec<usize> = names.iter().map(|name| text.find(&format!("\"{name}\":")).expect(name)).collect();
        assert!(places.is_sorted());
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report.as_object().unwrap().len(), names.len());
        assert_eq!(
            (&report["state"], &report["cause"], &report["fault"]),
            (&json!("FAILED"), &json!("EXIT_CODE"), &json!("job"))
        );
        assert_eq!(report["logs"]["tail"], "hi\n");
        assert_eq!(report["evidence"][0], "attempt 1: VM_REBOOTED: …");
    }

    #[test]
    fn no_log_message_result_or_upload_makes_a_report_too_large() {
        let upload = |number: u32, error: Option<String>| {
            let (from, to) = (format!("/out/{number}"), format!("gs://b/{}", "\u{1}".repeat(100)));
            Upload { from, to, files: 0, bytes: 0, error }
        };
        let uploads: Vec<Upload> =
            (0..1000).map(|number| upload(number, (number == 999).then(|| "broken".to_owned()))).collect();
        for (log, message, result) in [
            (vec![1_u8; 60_000].as_slice(), "m".repeat(100_000), None),
            ("\u{1F600}\n".repeat(20_000).as_bytes(), "é".repeat(10_000), Some(json!("\u{1}".repeat(16_000)))),
            (b"".as_slice(), String::new(), Some(json!("x".repeat(16_000)))),
        ] {
            let (record, outcome, logs) = (record(), outcome(&message), summary_of(log));
            let text = Report { record: &record, outcome: &outcome, logs: &logs, result, uploads: &uploads }.to_text();
            assert!(text.len() <= MAX_REPORT_BYTES, "{}", text.len());
            let report: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(report["exit_code"], 3);
            assert_eq!(report["uploads"][0]["error"], "broken", "failures come first");
            assert!(report["uploads"].as_array().unwrap().len() > 10);
            assert_eq!(report["evidence"].as_array().unwrap().len(), MAX_FACTS);
        }
    }

    #[test]
    fn one_long_fact_does_not_cost_the_others() {
        let (record, logs) = (record(), summary_of(b""));
        let long = |c: char| c.to_string().repeat(3000);
        let many = (0..20).map(|_| long('ä'));
        let evidence = std::iter::once("first".to_owned()).chain(many).chain(["last".to_owned()]).collect();
        let outcome = Outcome { evidence, ..outcome("m") };
        let text = Report { record: &record, outcome: &outcome, logs: &logs, result: None, uploads: &[] }.to_text();
        let report: Value = serde_json::from_str(&text).unwrap();
        let facts: Vec<&str> =
            report["evidence"].as_array().unwrap().iter().map(|fact| fact.as_str().unwrap()).collect();
        let [earlier, "first", cut, .., "last"] = facts[..] else { panic!("{facts:?}") };
        assert!(earlier.starts_with("attempt 1") && cut.starts_with('ä') && cut.ends_with('…') && cut.len() > 1000);
        assert!((8..=11).contains(&facts.len()), "{}", facts.len());
    }

    #[test]
    fn a_result_without_room_is_told_of() {
        let (record, outcome, logs) = (record(), outcome("m"), summary_of(b"last\n"));
        let result = Some(json!("\u{1}".repeat(16_000)));
        let text = Report { record: &record, outcome: &outcome, logs: &logs, result, uploads: &[] }.to_text();
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["result"], Value::Null);
        assert!(report["evidence"][0].as_str().unwrap().contains("the result was dropped"));
    }

    #[test]
    fn without_its_logs_a_report_says_the_same() {
        let (record, outcome, logs) = (record(), outcome("m"), summary_of(b"error: a\nlast"));
        let text = Report { record: &record, outcome: &outcome, logs: &logs, result: None, uploads: &[] }.to_text();
        let small = without_logs(&text).unwrap();
        let (mut large, small_value): (Value, Value) =
            (serde_json::from_str(&text).unwrap(), serde_json::from_str(&small).unwrap());
        for text in ["head", "tail"] {
            large["logs"][text] = "".into();
        }
        large["logs"]["errors"] = json!([]);
        assert_eq!(large, small_value);
        assert_eq!(without_logs(&small), None, "there is nothing left to drop");
    }
}
