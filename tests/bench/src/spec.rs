//! Reading the largest jobs that a metadata value can hold: the whole of `vmjob-agent check` on one, less the same on a small
//! one. Each is read once with its last word wrong, so that nothing of it is printed, and once to be printed again.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    Result,
    stats::{quantile, summary},
};

/// Compute Engine's limit.
const BYTES: usize = 256 * 1024;
const RUNS: usize = 50;

pub(crate) fn measure(agent: &Path) -> Result<Value> {
    let file = std::env::temp_dir().join(format!("vmjob-bench-spec-{}", std::process::id()));
    let small = of(agent, &file, r#"{"container": {"image": "a"}}"#, 0)?;
    let base = quantile(&small, 0.5);
    println!(
        "\n## Reading {BYTES} bytes ({RUNS} runs, less {base:.1} ms for a small job)\n| | p50 | p90 | target, p50 | with printing, p50 |\n|---|---|---|---|---|"
    );
    let mut numbers = json!({});
    for (name, start, end) in jobs() {
        let more = |times: Vec<f64>| -> Vec<f64> { times.into_iter().map(|time| (time - base).max(0.0)).collect() };
        let wrong = if start.starts_with('{') { ", \"on_finish\": \"?\"" } else { " --stop-timeout ?" };
        let printed = more(of(agent, &file, &format!("{start}{end}"), 0)?);
        let read = more(of(agent, &file, &format!("{start}{wrong}{end}"), 2)?);
        let [p50, p90] = [0.5, 0.9].map(|at| quantile(&read, at));
        println!("| {name} | {p50:.1} ms | {p90:.1} ms | 5 ms | {:.1} ms |", quantile(&printed, 0.5));
        numbers[name] = summary(&read);
    }
    fs::remove_file(file)?;
    Ok(numbers)
}

/// Jobs as large as can be, each of one kind: its name, and its text in two pieces, between which something small may stand.
fn jobs() -> [(&'static str, String, &'static str); 5] {
    const ROOM: usize = 128;
    let spec = |field: &str, brackets: [&str; 2], item: &dyn Fn(usize) -> String| {
        let [open, close] = brackets;
        format!("{{\"container\": {{\"image\": \"a\", \"{field}\": {open}{}{close}}}", fill(ROOM, ",", item))
    };
    let (list, object) = (["[", "]"], ["{", "}"]);
    let mount = |i| format!(r#"{{"type":"bind","source":"/mnt/{i}","target":"/data/{i}"}}"#);
    let long = format!("\"{}\"", "x\\n".repeat((BYTES - ROOM) / 3));
    [
        ("variables", spec("env", object, &|i| format!("\"V{i}\":\"value {i}\"")), "}"),
        ("arguments", spec("args", list, &|i| format!("\"--argument={i}\"")), "}"),
        ("mounts", spec("mounts", list, &mount), "}"),
        ("one long argument", format!("{{\"container\": {{\"image\": \"a\", \"args\": [{long}]}}"), "}"),
        ("flags", format!("docker run {}", fill(ROOM, " ", &|i| format!("-e V{i}='value {i}'"))), " a"),
    ]
}

/// As many items as there is room for beside `taken` bytes.
fn fill(taken: usize, separator: &str, item: &dyn Fn(usize) -> String) -> String {
    let mut text = String::new();
    for item in (0..).map(item) {
        if taken + text.len() + item.len() + separator.len() > BYTES {
            break;
        }
        if !text.is_empty() {
            text += separator;
        }
        text += &item;
    }
    text
}

/// Milliseconds of each `check`, start and end of the process included.
fn of(agent: &Path, file: &Path, job: &str, exit_code: i32) -> Result<Vec<f64>> {
    fs::write(file, job)?;
    (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            let status =
                Command::new(agent).arg("check").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            let time = start.elapsed().as_secs_f64() * 1000.0;
            if status.code() == Some(exit_code) { Ok(time) } else { Err(format!("check ended with {status}").into()) }
        })
        .collect()
}
