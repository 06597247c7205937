//! The report's contract, written down once more from the design: each field with its kind, each cause with what
//! follows from it. Every report that a test receives is held against it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

/// The largest report, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The kinds of fields: each says whether a value is one.
type Kind = fn(&Value) -> bool;

const FIELDS: [(&str, Kind); 46] = [
    ("/version", |value| value == 1),
    ("/job/id", is_name),
    ("/job/attempt", |value| value.as_u64() >= Some(1)),
    ("/job/task_index", Value::is_u64),
    ("/job/task_count", Value::is_u64),
    ("/state", is_name),
    ("/cause", is_name),
    ("/exit_code", maybe_count),
    ("/signal", maybe_count),
    ("/message", is_name),
    ("/evidence", is_texts),
    ("/fix", maybe_text),
    ("/fault", maybe_text),
    ("/retryable", Value::is_boolean),
    ("/image/ref", maybe_text),
    ("/image/digest", |value| value.is_null() || value.as_str().is_some_and(|text| text.starts_with("sha256:"))),
    ("/times/agent_started_at", |value| time(value).is_some()),
    ("/times/pull_started_at", maybe_time),
    ("/times/started_at", maybe_time),
    ("/times/finished_at", maybe_time),
    ("/durations_s/pull", maybe_seconds),
    ("/durations_s/run", maybe_seconds),
    ("/usage/cpu_s", maybe_seconds),
    ("/usage/peak_memory_bytes", maybe_count),
    ("/usage/oom_kills", maybe_count),
    ("/usage/read_bytes", maybe_count),
    ("/usage/written_bytes", maybe_count),
    ("/logs/stdout_bytes", Value::is_u64),
    ("/logs/stderr_bytes", Value::is_u64),
    ("/logs/stdout_lines", Value::is_u64),
    ("/logs/stderr_lines", Value::is_u64),
    ("/logs/head", Value::is_string),
    ("/logs/tail", Value::is_string),
    ("/logs/errors", Value::is_array),
    ("/logs/omitted_bytes", Value::is_u64),
    ("/logs/lost_bytes", maybe_count),
    ("/logs/uri", maybe_text),
    ("/result", |_| true),
    ("/uploads", Value::is_array),
    ("/uploads_omitted", Value::is_u64),
    ("/vm/name", is_name),
    ("/vm/id", is_name),
    ("/vm/zone", is_name),
    ("/vm/project", is_name),
    ("/vm/machine_type", is_name),
    ("/agent/version", is_name),
];

/// Cause, state, fault, whether another VM may do better.
const CAUSES: [(&str, &str, Option<&str>, bool); 23] = [
    ("NONE", "SUCCEEDED", None, false),
    ("EXIT_CODE", "FAILED", Some("job"), false),
    ("SIGNAL", "FAILED", Some("job"), false),
    ("OOM_KILLED", "FAILED", Some("job"), false),
    ("TIMEOUT", "FAILED", Some("job"), false),
    ("CANCELLED", "CANCELLED", None, false),
    ("PREEMPTED", "FAILED", Some("vm"), true),
    ("VM_SHUTDOWN", "FAILED", Some("vm"), true),
    ("VM_REBOOTED", "FAILED", Some("vm"), true),
    ("ENGINE_RESTARTED", "FAILED", Some("vm"), true),
    ("CONTAINER_LOST", "FAILED", Some("vm"), true),
    ("DISK_FULL", "FAILED", Some("vm"), false),
    ("INVALID_SPEC", "FAILED", Some("spec"), false),
    ("IMAGE_NOT_FOUND", "FAILED", Some("image"), false),
    ("IMAGE_DENIED", "FAILED", Some("image"), false),
    ("IMAGE_PULL_FAILED", "FAILED", Some("platform"), true),
    ("CREATE_FAILED", "FAILED", Some("spec"), false),
    ("START_FAILED", "FAILED", Some("spec"), false),
    ("ENGINE_UNAVAILABLE", "FAILED", Some("vm"), true),
    ("SECRET_FAILED", "FAILED", Some("platform"), true),
    // Whether another try may do better is in the answer that they failed of.
    ("INPUT_FAILED", "FAILED", Some("platform"), true),
    ("OUTPUT_FAILED", "FAILED", Some("platform"), true),
    ("AGENT_ERROR", "FAILED", Some("platform"), true),
];

/// Asserts that `bytes` are a report as the contract has it, and returns it.
pub(crate) fn check(bytes: &[u8]) -> Value {
    assert!(bytes.len() <= MAX_BYTES, "the report has {} bytes", bytes.len());
    let report: Value = serde_json::from_slice(bytes).expect("the report is JSON");
    for (place, is_right) in FIELDS {
        let value = report.pointer(place).unwrap_or_else(|| panic!("{place} is missing in {report:#}"));
        assert!(is_right(value), "{place} is {value} in {report:#}");
    }
    let known: BTreeSet<String> = FIELDS.iter().map(|(place, _)| (*place).to_owned()).collect();
    let unknown: Vec<String> = leaves(&report, String::new()).into_iter().filter(|at| !known.contains(at)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not in the contract");
    check_sense(&report);
    report
}

/// What has to hold between fields.
fn check_sense(report: &Value) {
    let cause = CAUSES.iter().find(|(name, ..)| report["cause"] == *name);
    let (cause, state, fault, retryable) = cause.unwrap_or_else(|| panic!("unknown cause in {report:#}"));
    assert_eq!((&report["state"], &report["fault"]), (&json!(state), &json!(fault)), "{cause}");
    // By what Google's service has answered.
    let by_status = matches!(*cause, "SECRET_FAILED" | "INPUT_FAILED" | "OUTPUT_FAILED");
    assert!(by_status || report["retryable"] == *retryable, "{cause}");
    for upload in report["uploads"].as_array().into_iter().flatten() {
        let is_right = is_name(&upload["from"]) && upload["to"].as_str().is_some_and(|to| to.starts_with("gs://"));
        assert!(is_right && upload["files"].is_u64() && upload["bytes"].is_u64() && maybe_text(&upload["error"]));
        assert_eq!(upload.as_object().map(serde_json::Map::len), Some(5), "{upload}");
    }
    let is_named = report["exit_code"].is_u64() && report["message"].to_string().contains("success_exit_codes");
    let was_seen = report["exit_code"] == 0 || is_named;
    assert!(*state != "SUCCEEDED" || was_seen, "a success whose exit was not seen: {report:#}");

    // An agent that has lost its journal may have started after the job.
    let names = ["pull_started_at", "started_at", "finished_at"];
    let times: Vec<Timestamp> = names.iter().filter_map(|name| time(&report["times"][name])).collect();
    assert!(times.is_sorted(), "the times are out of order: {report:#}");

    let logs = &report["logs"];
    let shown = logs["head"].as_str().map_or(0, str::len).max(logs["tail"].as_str().map_or(0, str::len)) as u64;
    let total = logs["stdout_bytes"].as_u64().unwrap_or(0) + logs["stderr_bytes"].as_u64().unwrap_or(0);
    assert!(logs["omitted_bytes"].as_u64() <= Some(total), "{logs:#}");
    // What was gone before it could be read is in no other count; evidence has room for the first facts alone.
    let lost_some = report["evidence"].to_string().contains("part of the log could not be read");
    assert!(!lost_some || logs["lost_bytes"] != 0, "{logs:#}");
    assert!(total > 0 || shown == 0, "{logs:#}");
}

/// The places of all values below objects; what a job may fill as it likes is one value.
fn leaves(value: &Value, place: String) -> Vec<String> {
    match value {
        Value::Object(fields) if place != "/result" => {
            fields.iter().flat_map(|(key, value)| leaves(value, format!("{place}/{key}"))).collect()
        }
        _ => vec![place],
    }
}

fn is_name(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn is_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(Value::is_string))
}

fn maybe_text(value: &Value) -> bool {
    value.is_null() || is_name(value)
}

fn maybe_count(value: &Value) -> bool {
    value.is_null() || value.is_u64()
}

fn maybe_seconds(value: &Value) -> bool {
    value.is_null() || value.as_f64().is_some_and(|seconds| seconds >= 0.0)
}

fn maybe_time(value: &Value) -> bool {
    value.is_null() || time(value).is_some()
}

/// RFC 3339, UTC, milliseconds: `2026-11-24T04:23:55.706Z`.
fn time(value: &Value) -> Option<Timestamp> {
    let text = value.as_str()?;
    (text.len() == "2026-11-24T04:23:55.706Z".len() && text.ends_with('Z')).then(|| text.parse().ok())?
}
