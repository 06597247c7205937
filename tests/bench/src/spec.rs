//! Reading the largest jobs that a metadata value can hold: the whole of `vmjob-agent check` on one, less the same on a small
//! one. What it takes to print the job again is in it.

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
    let small = of(agent, &file, r#"{"container": {"image": "a"}}"#)?;
    let base = quantile(&small, 0.5);
    println!(
        "\n## Reading {BYTES} bytes ({RUNS} runs, less {base:.1} ms for a small job)\n| | p50 | p90 | target, p50 |\n|---|---|---|---|"
    );
    let mut numbers = json!({});
    for (name, job) in jobs() {
        let times: Vec<f64> = of(agent, &file, &job)?.into_iter().map(|time| (time - base).max(0.0)).collect();
        println!("| {name} | {:.1} ms | {:.1} ms | 5 ms |", quantile(&times, 0.5), quantile(&times, 0.9));
        numbers[name] = summary(&times);
    }
    fs::remove_file(file)?;
    Ok(numbers)
}

/// Jobs as large as can be, each of one kind.
fn jobs() -> [(&'static str, String); 5] {
    let spec = |start: &str, item: &dyn Fn(usize) -> String, end: &str| {
        let items = fill(start.len() + end.len(), ",", item);
        format!("{start}{items}{end}")
    };
    let start = r#"{"container": {"image": "a", "#;
    [
        ("variables", spec(&format!("{start}\"env\": {{"), &|i| format!("\"V{i}\":\"value {i}\""), "}}}")),
        ("arguments", spec(&format!("{start}\"args\": ["), &|i| format!("\"--argument={i}\""), "]}}")),
        (
            "mounts",
            spec(
                &format!("{start}\"mounts\": ["),
                &|i| format!(r#"{{"type":"bind","source":"/mnt/{i}","target":"/data/{i}"}}"#),
                "]}}",
            ),
        ),
        ("one long argument", format!("{start}\"args\": [\"{}\"]}}}}", "x\\n".repeat((BYTES - 64) / 3))),
        ("flags", format!("docker run {} a", fill(13, " ", &|i| format!("-e V{i}='value {i}'")))),
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
fn of(agent: &Path, file: &Path, job: &str) -> Result<Vec<f64>> {
    fs::write(file, job)?;
    (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            let status =
                Command::new(agent).arg("check").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            let time = start.elapsed().as_secs_f64() * 1000.0;
            if status.success() { Ok(time) } else { Err(format!("check ended with {status}").into()) }
        })
        .collect()
}
