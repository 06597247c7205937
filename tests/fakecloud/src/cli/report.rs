//! A report for people. In: the JSON that the workflow would get. Out: text, and an exit status.

use std::fmt::Write as _;

use serde_json::Value;

/// The report as text: heading, message, evidence, what to do, the end of the log.
pub(crate) fn for_people(report: &Value) -> String {
    let mut text = format!("\n{}\n", heading(report));
    if let Some(message) = report["message"].as_str() {
        add_indented(&mut text, message);
    }
    let list = |value: &Value| value.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>();
    add_section(&mut text, "evidence", &list(&report["evidence"]).join("\n"));
    add_section(&mut text, "fix", report["fix"].as_str().unwrap_or_default());
    let errors = list(&report["logs"]["errors"]);
    add_section(&mut text, "errors in the log", &errors.join("\n"));
    let omitted = report["logs"]["omitted_bytes"].as_u64().unwrap_or(0);
    let title = match omitted {
        0 => "end of the log".into(),
        bytes => format!("end of the log ({bytes} bytes left out)"),
    };
    add_section(&mut text, &title, report["logs"]["tail"].as_str().unwrap_or_default());
    if !report["result"].is_null() {
        add_section(&mut text, "result", &format!("{:#}", report["result"]));
    }
    text
}

/// The job's own exit status; 1 where it has none, or where it was 0 and the job failed all the same.
pub(crate) fn exit_status(report: &Value) -> u8 {
    let code = report["exit_code"].as_u64().and_then(|code| u8::try_from(code).ok());
    match code {
        Some(0) if report["state"] != "SUCCEEDED" => 1,
        Some(code) => code,
        None => 1,
    }
}

fn heading(report: &Value) -> String {
    let mut heading = report["state"].as_str().unwrap_or("(no state)").to_owned();
    if let Some(cause) = report["cause"].as_str().filter(|cause| *cause != "NONE") {
        let _ = write!(heading, ", {cause}"); // writing to a String cannot fail
    }
    match report["exit_code"].as_i64() {
        Some(code) => {
            let _ = write!(heading, ", exit code {code}");
        }
        None => heading.push_str(", no exit code"),
    }
    if let Some(seconds) = report["durations_s"]["run"].as_f64() {
        let _ = write!(heading, ", ran {seconds:.1} s");
    }
    if report["retryable"] == true {
        heading.push_str(", worth another try");
    }
    heading
}

fn plain(value: &Value) -> String {
    if let (Some(line), Some(text)) = (value["line"].as_u64(), value["text"].as_str()) {
        return format!("line {line}: {text}");
    }
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

fn add_section(text: &mut String, title: &str, body: &str) {
    if !body.is_empty() {
        let _ = writeln!(text, "{title}:");
        add_indented(text, body);
    }
}

fn add_indented(text: &mut String, body: &str) {
    for line in body.lines() {
        let _ = writeln!(text, "  {line}");
    }
}
