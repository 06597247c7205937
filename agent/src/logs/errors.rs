//! Which lines of a log look like the reason of a failure. Lines go in; the few that tell most are kept, in a byte budget.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

/// A line of the log, as the report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ErrorLine {
    /// From 1, both streams together.
    pub(super) line: u64,
    pub(super) text: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ErrorLines {
    budget_bytes: usize,
    used_bytes: usize,
    kept: Vec<(u8, ErrorLine)>,
}

/// What a line may contain, and how much it tells: 3 names a crash, 2 an error, 1 a hint.
const SIGNS: [(&str, u8); 14] = [
    ("Traceback (most recent call last)", 3),
    ("panicked at", 3),
    ("panic: ", 3),
    ("Exception in thread", 3),
    ("Segmentation fault", 3),
    ("out of memory", 3),
    ("OutOfMemory", 3),
    ("fatal", 3),
    ("FATAL", 3),
    ("Error: ", 2),
    ("error: ", 2),
    ("ERROR", 2),
    ("Exception: ", 2),
    ("No such file or directory", 1),
];

/// What the signs begin with: a quick look that nearly every line of a healthy job ends at.
fn may_tell(content: &[u8]) -> bool {
    content.windows(4).any(|bytes| {
        matches!(
            bytes,
            b"Trac"
                | b"pani"
                | b"Exce"
                | b"Segm"
                | b"out "
                | b"OutO"
                | b"fata"
                | b"FATA"
                | b"Erro"
                | b"erro"
                | b"ERRO"
                | b"No s"
        )
    })
}

static FINDERS: LazyLock<Vec<(Finder<'static>, u8)>> =
    LazyLock::new(|| SIGNS.iter().map(|(sign, weight)| (Finder::new(*sign), *weight)).collect());

impl ErrorLines {
    pub(super) fn set_budget(&mut self, bytes: usize) {
        self.budget_bytes = bytes;
    }

    /// Keeps the line if it tells something. When the budget is full, what tells least makes room; among equals the newest, for
    /// what comes first is mostly the cause of the rest. The end of the log is in the tail anyway.
    pub(super) fn look_at(&mut self, line: u64, content: &[u8]) {
        if !may_tell(content) {
            return;
        }
        let found = FINDERS.iter().filter(|(finder, _)| finder.find(content).is_some());
        let Some(weight) = found.map(|(_, weight)| *weight).max() else { return };
        let text = String::from_utf8_lossy(content.trim_ascii_end()).into_owned();
        self.used_bytes += text.len();
        self.kept.push((weight, ErrorLine { line, text }));
        while self.used_bytes > self.budget_bytes {
            let least = (0..self.kept.len()).min_by_key(|at| (self.kept[*at].0, usize::MAX - at));
            let Some(least) = least else { return };
            self.used_bytes -= self.kept.remove(least).1.text.len();
        }
    }

    /// What was kept, in the order of the log.
    pub(super) fn into_lines(self) -> Vec<ErrorLine> {
        self.kept.into_iter().map(|(_, line)| line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sign_is_missed_by_the_quick_look() {
        for (sign, _) in SIGNS {
            assert!(may_tell(format!("… {sign}").as_bytes()), "{sign}");
        }
        assert!(!may_tell(b"step 100 of 200: loss 0.123"));
    }

    #[test]
    fn the_crash_stays_however_many_errors_follow() {
        let mut errors = ErrorLines::default();
        errors.set_budget(300);
        errors.look_at(1, b"all is well");
        errors.look_at(2, b"ERROR first");
        errors.look_at(3, b"thread 'main' panicked at src/main.rs:1");
        for line in 4..1000 {
            errors.look_at(line, b"ERROR again and again");
        }
        let lines = errors.into_lines();
        assert_eq!((lines[0].line, lines[1].line), (2, 3));
        assert!(lines.iter().map(|line| line.text.len()).sum::<usize>() <= 300);
    }
}
