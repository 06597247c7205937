//! How long `Summary::push` takes for a log of each kind, so that two builds can be compared; with names, for those kinds alone, and
//! at the end the number of runs: `cargo run --release -p vmjob-logs --example speed -- [KIND…] [--runs 1]`

#![expect(clippy::cast_precision_loss, reason = "figures for a person")]

use std::{env, fmt::Write as _, hint::black_box, time::Instant};

use vmjob_logs::{Stream, Summary};

const BYTES: usize = 4 << 20;
/// How much of a log comes at a time.
const BLOCK_BYTES: usize = 1 << 16;

/// Writes the line of this number.
type Template = fn(&mut String, usize) -> std::fmt::Result;

const KINDS: [(&str, Template); 9] = [
    ("plain", |log, i| writeln!(log, "step {i} of the work is done, {} items were written to the output", i % 977)),
    ("info", |log, i| {
        writeln!(log, "2026-11-01T10:{:02}:{:02}Z INFO worker {}: processed {i} records", i / 60 % 60, i % 60, i % 16)
    }),
    ("nginx", |log, i| {
        writeln!(
            log,
            "10.0.{}.{} - - [01/Nov/2026:10:{:02}:{:02} +0000] \"GET /items/{i}?page={} HTTP/1.1\" 200 {} \"-\" \"Mozilla/5.0\"",
            i % 256,
            i % 251,
            i / 60 % 60,
            i % 60,
            i % 9,
            i % 65_521
        )
    }),
    ("progress", |log, i| {
        write!(
            log,
            "\rEpoch 3: {:3}%|{}| {i}/10000 [00:{:02}<01:00, 12.{}it/s]",
            i % 100,
            "#".repeat(i % 30),
            i % 60,
            i % 10
        )
    }),
    ("ffmpeg", |log, i| {
        write!(
            log,
            "frame={i:5} fps= 25 q=28.0 size={:8}kB time=00:00:{:02}.{:02} bitrate=1500.{}kbits/s speed=1.0x    \r",
            i * 7,
            i / 25 % 60,
            i % 100,
            i % 10
        )
    }),
    ("empty", |log, _| writeln!(log)),
    ("coloured", |log, i| {
        writeln!(
            log,
            "\x1b[32m2026-11-01 10:00:{:02}\x1b[0m \x1b[1mINFO\x1b[0m request {i} took {} ms",
            i % 60,
            i % 997
        )
    }),
    ("errors", |log, i| writeln!(log, "ERROR: request {i} for item {:x} failed: connection refused", i * 7919)),
    ("varying", |log, i| {
        const WORDS: [&str; 12] = [
            "alpha", "bravo", "store", "reader", "model", "queue", "shard", "cache", "index", "tensor", "batch",
            "parser",
        ];
        let word = |n: usize| WORDS[n % WORDS.len()];
        writeln!(
            log,
            "ERROR: the {} of {} {} cannot read {}/{}: permission denied",
            word(i),
            word(i / 12),
            word(i / 5),
            word(i / 144),
            word(i * 7)
        )
    }),
];

fn main() -> std::fmt::Result {
    let mut wanted: Vec<String> = env::args().skip(1).collect();
    let runs = match wanted.iter().position(|argument| argument == "--runs") {
        Some(at) => wanted.drain(at..).nth(1).and_then(|runs| runs.parse().ok()).expect("--runs takes a number"),
        None => 5,
    };
    for (name, template) in KINDS {
        if !wanted.is_empty() && !wanted.iter().any(|kind| kind == name) {
            continue;
        }
        let (mut log, mut lines) = (String::new(), 0);
        while log.len() < BYTES {
            template(&mut log, lines)?;
            lines += 1;
        }
        let times = (0..runs).map(|_| {
            let mut summary = Summary::default();
            summary.set_budget(16_384);
            let began = Instant::now();
            for block in log.as_bytes().chunks(BLOCK_BYTES) {
                summary.push(Stream::Stdout, block);
            }
            black_box(summary.finish());
            began.elapsed().as_micros()
        });
        let least = times.min().unwrap_or_default();
        println!(
            "{name:10} {:7.2} ns a line, {least:7} µs for {} MiB",
            least as f64 * 1000.0 / lines as f64,
            BYTES >> 20
        );
    }
    Ok(())
}
