//! How often ordinary logs have something in `errors`, kind by kind. Without files it makes the logs itself:
//! `cargo run --release -p vmjob-logs --example false_alarms -- [--mib 200] [--show] [FILE…]`

#![expect(clippy::cast_precision_loss, reason = "figures for a person")]

use std::{env, fs};

use vmjob_logs::{Stream, Summary};

#[path = "../tests/ordinary/mod.rs"]
mod ordinary;

const SUMMARY_BYTES: usize = 16_384;
/// How many lines a log has.
const LINES: usize = 100_000;

/// Takes one log, and returns the texts of its windows.
fn errors_of(log: &[u8]) -> Vec<String> {
    let mut summary = Summary::default();
    summary.set_budget(SUMMARY_BYTES);
    for block in log.chunks(1 << 16) {
        summary.push(Stream::Stdout, block);
    }
    let summary = serde_json::to_value(summary.finish()).unwrap_or_default();
    let errors = summary["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().filter_map(|error| error["text"].as_str().map(str::to_owned)).collect()
}

/// The logs of one kind, each of at most so many lines.
fn report(name: &str, logs: impl Iterator<Item = Vec<u8>>, show: bool) -> (usize, usize, usize) {
    let (mut bytes, mut lines, mut windows) = (0, 0, 0);
    for log in logs {
        let errors = errors_of(&log);
        bytes += log.len();
        lines += memchr::memchr_iter(b'\n', &log).count();
        windows += errors.len();
        if show {
            for error in &errors {
                println!("    {}", error.replace('\n', "\n    | "));
            }
        }
    }
    println!(
        "{name:24} {:6.1} MiB {lines:9} lines {windows:5} windows {:8.2} in 100,000 lines",
        bytes as f64 / 1_048_576.0,
        windows as f64 * 100_000.0 / lines.max(1) as f64
    );
    (bytes, lines, windows)
}

fn main() {
    let (mut mib, mut show, mut files) = (200, false, Vec::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--mib" => mib = arguments.next().and_then(|mib| mib.parse().ok()).expect("--mib takes a number"),
            "--show" => show = true,
            _ => files.push(argument),
        }
    }
    let mut all = (0, 0, 0);
    let mut add = |(bytes, lines, windows)| all = (all.0 + bytes, all.1 + lines, all.2 + windows);
    if files.is_empty() {
        let kinds = ordinary::kinds();
        let each = mib * 1_048_576 / kinds.len();
        for kind in &kinds {
            let mut noise = ordinary::Lines::of(kind, 7);
            let mut left = each;
            let logs = std::iter::from_fn(|| {
                let log = (left > 0).then(|| noise.take(LINES).into_bytes())?;
                left = left.saturating_sub(log.len());
                Some(log)
            });
            add(report(kind.name, logs, show));
        }
    }
    for file in files {
        let Ok(content) = fs::read(&file) else { continue };
        let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
        add(report(&file, lines.chunks(LINES).map(<[&[u8]]>::concat), show));
    }
    report_all(all);
}

fn report_all((bytes, lines, windows): (usize, usize, usize)) {
    println!(
        "all: {:.0} MiB, {lines} lines, {windows} windows: {:.2} in 100,000 lines",
        bytes as f64 / 1_048_576.0,
        windows as f64 * 100_000.0 / lines.max(1) as f64
    );
}
