//! Bytes as an entry of the engine's json-file: never a panic; what `serde_json` reads is read alike, and what it writes too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::json;
use vmjob_logs::{Stream, decode_entry};

#[derive(Deserialize)]
struct Entry {
    log: String,
    stream: String,
}

fn stream(name: &str) -> Stream {
    if name == "stderr" { Stream::Stderr } else { Stream::Stdout }
}

fuzz_target!(|line: &[u8]| {
    let mut text = Vec::new();
    let found = decode_entry(line, &mut text);
    // `serde_json` would take a list for an entry too. An escaped character has another meaning here: Docker writes bytes that
    // are no text so.
    if line.trim_ascii_start().starts_with(b"{")
        && let Ok(entry) = serde_json::from_slice::<Entry>(line)
        && !line.windows(2).any(|pair| pair == b"\\u")
    {
        assert_eq!(found, Some(stream(&entry.stream)));
        assert_eq!(text, entry.log.as_bytes());
    }
    if let Ok(log) = str::from_utf8(line) {
        text.clear();
        let line = json!({"log": log, "stream": "stderr", "attrs": {log: [log]}, "time": "t"}).to_string();
        assert_eq!(decode_entry(line.as_bytes(), &mut text), Some(Stream::Stderr));
        assert_eq!(text, log.as_bytes());
    }
});
