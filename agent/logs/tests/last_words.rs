//! What `errors` shows of the last words of programs, and what it shows of ordinary logs: figures with floors and ceilings.
//! `SHOW=1` prints the entries of the first half that are missed.

use vmjob_logs::{Stream, Summary};

#[path = "ordinary/mod.rs"]
mod ordinary;

/// As a job has it that asks for nothing else.
const SUMMARY_BYTES: usize = 16_384;
const NOISE_LINES: usize = 400;

struct Entry<'a> {
    name: &'a str,
    text: String,
    needed: Vec<&'a str>,
}

fn entries(data: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in data.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            entries.push(Entry { name, text: String::new(), needed: Vec::new() });
        } else if let Some(entry) = entries.last_mut() {
            let content = &line[1..];
            entry.text += &format!("{content}\n");
            if line.starts_with('>') {
                entry.needed.push(content.trim());
            }
        }
    }
    entries
}

/// Whether an entry is of the half that signs are made for: a bit of its name's FNV-1a hash.
fn is_known(name: &str) -> bool {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash >> 7 & 1 == 0
}

/// The texts of `errors` of a log that is all on stdout.
fn errors_of(log: &str) -> Vec<String> {
    let mut summary = Summary::default();
    summary.set_budget(SUMMARY_BYTES);
    for block in log.as_bytes().chunks(1 << 16) {
        summary.push(Stream::Stdout, block);
    }
    let summary = serde_json::to_value(summary.finish(false)).unwrap();
    let errors = summary["errors"].as_array().unwrap();
    errors.iter().map(|error| error["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_line_that_a_person_needs_is_found_in_the_middle_of_a_log() {
    let entries = entries(include_str!("../testdata/last-words.txt"));
    let kinds = ordinary::kinds();
    // No program speaks in the middle of a listing or a text: what is said there is taken for a part of it.
    let kinds: Vec<_> =
        kinds.iter().filter(|kind| !kind.name.starts_with("code") && !kind.name.starts_with("prose")).collect();
    let (mut hits, mut tries) = ([0_usize; 2], [0_usize; 2]);
    for (number, entry) in entries.iter().enumerate() {
        let half = usize::from(!is_known(entry.name));
        // Each in four kinds of noise.
        for turn in 0..4 {
            let kind = kinds[(number * 4 + turn * 7) % kinds.len()];
            let mut noise = ordinary::Lines::of(kind, number as u64);
            let [before, after] = [noise.take(NOISE_LINES), noise.take(NOISE_LINES)];
            let errors = errors_of(&format!("{before}{}{after}", entry.text));
            let is_found = errors.iter().any(|error| entry.needed.iter().any(|needed| error.contains(needed)));
            tries[half] += 1;
            hits[half] += usize::from(is_found);
            if !is_found && half == 0 && std::env::var_os("SHOW").is_some() {
                println!("missed in {}: {}: {:?}", kind.name, entry.name, entry.needed);
            }
        }
    }
    let percent = [0, 1].map(|half| hits[half] as f64 * 100.0 / tries[half] as f64);
    println!("found: {percent:.1?} % of {tries:?}");
    assert!(entries.len() > 800 && percent[0] >= 99.0 && percent[1] >= 97.0, "{percent:?}");
}
