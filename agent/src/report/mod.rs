//! The report: everything that is known of the job as the JSON that is POSTed. Contract: design 2.3.

mod fit;

use serde::Serialize;
use serde_json::Value;

pub use self::fit::MAX_REPORT_BYTES;
use self::fit::fit;
use crate::{
    clock::WallTime,
    gate::{Gate, Outgoing},
    journal::Record,
    logs::LogSummary,
    metadata::Vm,
    outcome::{Fault, Outcome, State},
    runtime::Usage,
};

/// Of earlier attempts the latest are told.
const MAX_EARLIER_ATTEMPTS: usize = 8;

/// Words and numbers of the agent's own, and names that were given to job and VM: what a workflow decides by.
const OWN: [&str; 13] = [
    "version",
    "job",
    "state",
    "cause",
    "exit_code",
    "signal",
    "fault",
    "retryable",
    "times",
    "durations_s",
    "usage",
    "vm",
    "agent",
];
/// What the job has written, numbers and names of fields included.
const FOREIGN: [&str; 2] = ["result", "progress"];

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
    /// The JSON, at most [`MAX_REPORT_BYTES`], as it passes the gate.
    pub fn pass(&self, gate: &Gate) -> Outgoing {
        // Before anything is cut off: a part of a secret is not known any more.
        let logs = self.logs.clone().masked(|text| gate.mask(text).into_owned());
        let mut budget = logs.text_bytes();
        loop {
            let logs = logs.within(budget);
            let document = self.document(&logs);
            let report = gate.json(&document, &OWN, &FOREIGN, |tree| fit(tree, budget == 0));
            if report.as_str().len() <= MAX_REPORT_BYTES || budget == 0 {
                return report;
            }
            // Escapes make the JSON longer than the text, so the budget is found by trying.
            budget /= 2;
        }
    }

    fn document<'a>(&'a self, logs: &'a LogSummary) -> Document<'a> {
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
            message: &outcome.message,
            evidence: evidence(outcome, record),
            fix: outcome.fix.as_deref(),
            fault: cause.fault(),
            retryable: cause.retryable(),
            image: Image { reference: attempt.image.as_deref(), digest: attempt.image_digest.as_deref() },
            times: Times {
                agent_started_at: &record.agent_started_at,
                pull_started_at: attempt.pull_started_at,
                started_at: attempt.started_at,
                finished_at: attempt.finished_at,
            },
            durations_s: Durations { pull: attempt.pull_s, run: attempt.run_s },
            usage: attempt.usage,
            logs,
            result: self.result.as_ref(),
            uploads: uploads(self.uploads),
            uploads_omitted: 0,
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
    message: &'a str,
    evidence: Vec<&'a str>,
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
    uploads_omitted: u64,
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
    pull_started_at: Option<WallTime>,
    started_at: Option<WallTime>,
    finished_at: Option<WallTime>,
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

/// The latest of the earlier attempts, then this one's facts, then what the preflight warned of.
fn evidence<'a>(outcome: &'a Outcome, record: &'a Record) -> Vec<&'a str> {
    let earlier = &record.earlier_attempts;
    let earlier = &earlier[earlier.len().saturating_sub(MAX_EARLIER_ATTEMPTS)..];
    earlier.iter().chain(&outcome.evidence).chain(&record.preflight.warnings).map(String::as_str).collect()
}

/// Those that failed before the others, which give way first.
fn uploads(all: &[Upload]) -> Vec<&Upload> {
    let (failed, whole): (Vec<_>, Vec<_>) = all.iter().partition(|upload| upload.error.is_some());
    failed.into_iter().chain(whole).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        delivery::{Progress, without_logs},
        job::JobContext,
        journal::{Attempt, Phase, Preflighted, Source},
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
            context: JobContext::default(),
            callback_url: None,
            vm: Vm { id: "17446744073709551557".into(), ..Vm::default() },
            agent_started_at: "2026-11-24T04:23:55.706Z".into(),
            attempt: Attempt { number: 1, ..Attempt::default() },
            preflight: Preflighted::default(),
            earlier_attempts: vec!["attempt 1: VM_REBOOTED: …".into()],
            report: None,
            delivery: Progress::default(),
            keep: None,
            finished: false,
            blocked: None,
            blocked_claims: Vec::new(),
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
        let text = Report { record: &record, outcome: &outcome, logs: &logs, result: None, uploads: &[] }
            .pass(&Gate::default());
        let text = text.as_str();
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
            "uploads_omitted",
            "vm",
            "agent",
        ];
        let places: Vec<usize> = names.iter().map(|name| text.find(&format!("\"{name}\":")).expect(name)).collect();
        assert!(places.is_sorted());
        let report: Value = serde_json::from_str(text).unwrap();
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
            ("\u{1F600}\n".repeat(20_000).as_bytes(), "é".repeat(10_000), Some(json!("\u{1}".repeat(4000)))),
            (b"".as_slice(), String::new(), Some(json!("x".repeat(16_000)))),
        ] {
            let (record, outcome, logs) = (record(), outcome(&message), summary_of(log));
            let wanted = result.clone();
            let report = Report { record: &record, outcome: &outcome, logs: &logs, result, uploads: &uploads };
            let text = report.pass(&Gate::default());
            assert!(text.as_str().len() <= MAX_REPORT_BYTES, "{}", text.as_str().len());
            let report: Value = serde_json::from_str(text.as_str()).unwrap();
            assert_eq!((&report["exit_code"], &report["result"]), (&json!(3), &json!(wanted)));
            assert_eq!(report["uploads"][0]["error"], "broken", "failures come first");
            assert_eq!(
                report["uploads"].as_array().unwrap().len() as u64 + report["uploads_omitted"].as_u64().unwrap(),
                1000
            );
            assert!(report["uploads"].as_array().unwrap().len() >= 10);
            assert_eq!(report["evidence"].as_array().unwrap().len(), 32);
        }
    }

    #[test]
    fn one_long_fact_does_not_cost_the_others() {
        let (mut record, logs) = (record(), summary_of(b""));
        record.earlier_attempts = (1..30).map(|number| format!("attempt {number}: …")).collect();
        let long = |c: char| c.to_string().repeat(3000);
        let evidence = vec!["first".to_owned(), long('ä'), long('b'), "last".to_owned()];
        let outcome = Outcome { evidence, fix: Some(long('f')), ..outcome("m") };
        let text = Report { record: &record, outcome: &outcome, logs: &logs, result: None, uploads: &[] };
        let report: Value = serde_json::from_str(text.pass(&Gate::default()).as_str()).unwrap();
        let facts: Vec<&str> =
            report["evidence"].as_array().unwrap().iter().map(|fact| fact.as_str().unwrap()).collect();
        let ["first", cut, other, "last"] = facts[8..] else { panic!("{facts:?}") };
        assert!(facts[0].starts_with("attempt 22") && facts[7].starts_with("attempt 29"), "{facts:?}");
        for (fact, begins) in [(cut, 'ä'), (other, 'b'), (report["fix"].as_str().unwrap(), 'f')] {
            assert!(fact.starts_with(begins) && fact.ends_with('…') && (1000..=1024).contains(&fact.len()));
        }
    }

    #[test]
    fn nothing_of_the_job_s_words_leaves_with_a_secret_in_it() {
        let gate = Gate::default();
        gate.hide_secrets(std::sync::Arc::new(crate::mask::Masker::new(["s3cr3t", "4711"])));
        let mut record = record();
        record.earlier_attempts = vec!["attempt 1: s3cr3t".into()];
        record.preflight.warnings = vec!["s3cr3t".into()];
        record.attempt.image = Some("r/s3cr3t".into());
        let uploads = [Upload {
            from: "/out/s3cr3t.ckpt".into(),
            to: "gs://b/s3cr3t".into(),
            files: 0,
            bytes: 4711,
            error: Some("failed to read /out/s3cr3t.ckpt".into()),
        }];
        let outcome =
            Outcome { evidence: vec!["x s3cr3t".into()], fix: Some("s3cr3t".into()), ..outcome("s3cr3t 4711") };
        let logs = summary_of(b"one\nError: s3cr3t\ns3cr3t\n");
        let result = Some(json!({"s3cr3t": [4711, {"a": "s3cr3t"}]}));
        let report = Report { record: &record, outcome: &outcome, logs: &logs, result, uploads: &uploads }.pass(&gate);
        assert!(!report.as_str().contains("s3cr3t"), "{}", report.as_str());
        let report: Value = serde_json::from_str(report.as_str()).unwrap();
        assert_eq!(report["result"], json!({"***": ["***", {"a": "***"}]}));
        assert_eq!((&report["message"], &report["uploads"][0]["bytes"]), (&json!("*** ***"), &json!(4711)));
    }

    #[test]
    fn without_its_logs_a_report_says_the_same() {
        let (record, outcome, logs) = (record(), outcome("m"), summary_of(b"error: a\nlast"));
        let report = Report { record: &record, outcome: &outcome, logs: &logs, result: None, uploads: &[] };
        let text = report.pass(&Gate::default());
        let small = without_logs(&text).unwrap();
        let (mut large, small_value): (Value, Value) =
            (serde_json::from_str(text.as_str()).unwrap(), serde_json::from_str(small.as_str()).unwrap());
        for text in ["head", "tail"] {
            large["logs"][text] = "".into();
        }
        large["logs"]["errors"] = json!([]);
        assert_eq!(large, small_value);
        assert_eq!(without_logs(&small), None, "there is nothing left to drop");
    }
}
