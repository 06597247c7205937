//! The job's diary, read: how often the job ran, what it wrote, how it says it ended.

use std::{fs, path::Path};

/// What one run of the job noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    pub attempt: u64,
    /// How many chunks of output were written whole.
    pub chunks: usize,
    /// The code of its own free end.
    pub end: Option<i64>,
    /// The code with which it was about to end because of a SIGTERM.
    pub end_on_term: Option<i64>,
}

impl Entry {
    /// Whether the job itself says that it ended with `code`.
    pub fn says(&self, code: i64) -> bool {
        self.end == Some(code) || self.end_on_term == Some(code)
    }
}

/// All runs, in their order. No diary: it never ran.
pub fn read(file: &Path) -> Vec<Entry> {
    parse(&fs::read_to_string(file).unwrap_or_default())
}

/// Whether the last run has ended, by itself or on a signal.
pub fn has_ended(file: &Path) -> bool {
    read(file).last().is_some_and(|entry| entry.end.or(entry.end_on_term).is_some())
}

fn parse(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), entries.last_mut()) {
            (["start", attempt], _) => {
                entries.push(Entry { attempt: attempt.parse().unwrap_or_default(), ..Entry::default() });
            }
            (["wrote", chunks], Some(entry)) => entry.chunks = chunks.parse().unwrap_or_default(),
            (["end", code, "self"], Some(entry)) => entry.end = code.parse().ok(),
            (["end", code, "term"], Some(entry)) => entry.end_on_term = code.parse().ok(),
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diary_tells_runs_apart() {
        let entries = parse("start 1\nwrote 1\nwrote 2\nend 3 self\nstart 2\nwrote 1\nend 0 term\n");
        assert_eq!(
            entries,
            [
                Entry { attempt: 1, chunks: 2, end: Some(3), end_on_term: None },
                Entry { attempt: 2, chunks: 1, end: None, end_on_term: Some(0) },
            ]
        );
        assert!(entries[0].says(3) && entries[1].says(0) && !entries[1].says(3));
    }
}
