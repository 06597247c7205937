//! What `errors` shows of the last words of programs, and what it shows of ordinary logs: figures with floors and ceilings.
//! `SHOW=held-out` prints the entries of that set that are missed.

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
            entry.text += content;
            entry.text.push('\n');
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
    let summary = serde_json::to_value(summary.finish()).unwrap();
    let errors = summary["errors"].as_array().unwrap();
    errors.iter().map(|error| error["text"].as_str().unwrap().to_owned()).collect()
}

/// How many percent of the entries are found, each in two kinds of noise.
fn found_of<'a>(set: &str, entries: impl Iterator<Item = &'a Entry<'a>>) -> f64 {
    let kinds = ordinary::kinds();
    // No program speaks in the middle of a listing or a text: what is said there is taken for a part of it.
    let kinds: Vec<_> =
        kinds.iter().filter(|kind| !kind.name.starts_with("code") && !kind.name.starts_with("prose")).collect();
    let (mut hits, mut tries) = (0_u32, 0_u32);
    for (number, entry) in entries.enumerate() {
        for turn in 0..2 {
            let kind = kinds[(number * 2 + turn * 7) % kinds.len()];
            let mut noise = ordinary::Lines::of(kind, number as u64);
            let [before, after] = [noise.take(NOISE_LINES), noise.take(NOISE_LINES)];
            let errors = errors_of(&format!("{before}{}{after}", entry.text));
            let is_found = errors.iter().any(|error| entry.needed.iter().any(|needed| error.contains(needed)));
            tries += 1;
            hits += u32::from(is_found);
            if !is_found && std::env::var("SHOW").is_ok_and(|shown| shown == set) {
                println!("missed in {}: {}: {:?}", kind.name, entry.name, entry.needed);
            }
        }
    }
    f64::from(hits) * 100.0 / f64::from(tries)
}

#[test]
fn the_line_that_a_person_needs_is_found_in_the_middle_of_a_log() {
    let last_words = entries(include_str!("../testdata/last-words.txt"));
    let known = found_of("known", last_words.iter().filter(|entry| is_known(entry.name)));
    let other = found_of("other", last_words.iter().filter(|entry| !is_known(entry.name)));
    println!("found of last-words: {known:.1} % and {other:.1} %");
    assert!(known >= 98.0 && other >= 98.0, "{known} {other}");
    // At first sight, before anything was made for them, 93.2 %, 87.5 % and 89.7 % of the later sets were found. Nothing was made for
    // the lines of the last one.
    let held_out = [
        ("held-out", include_str!("../testdata/held-out.txt"), 97.0),
        ("held-out-2", include_str!("../testdata/held-out-2.txt"), 96.0),
        ("held-out-3", include_str!("../testdata/held-out-3.txt"), 97.0),
        ("held-out-4", include_str!("../testdata/held-out-4.txt"), 94.0),
    ];
    for (set, text, least) in held_out {
        let entries = entries(text);
        let found = found_of(set, entries.iter());
        println!("found of {set}: {found:.1} % of {}", entries.len());
        assert!(found >= least, "{found} % of {set}");
    }
}

#[test]
fn ordinary_lines_are_no_errors() {
    let mut windows = Vec::new();
    for kind in ordinary::kinds() {
        windows.extend(errors_of(&ordinary::Lines::of(&kind, 7).take(10_000)));
    }
    // In 280,000 lines.
    assert!(windows.len() <= 2, "{windows:#?}");
}
