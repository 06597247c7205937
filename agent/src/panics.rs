//! Defects that end the process: a panic leaves a line on disk, and one that comes back at every start ends the job with a report
//! instead of a fourth try. Only panics of this job and of this version of the agent count.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    panic,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::{clock, plain_file};

/// After this many panics the job is not run any further, and reported.
const MAX_RUNS: usize = 3;
/// After this many the job's text is not read any more either.
const MAX_READS: usize = 6;
/// After this many the agent gives up: not even the report gets out.
const MAX_REPORTS: usize = 9;
/// A run that lasted this long got past what ended the runs before it: its panic is the first of a new row.
const LONG_RUN: Duration = Duration::from_hours(1);
/// How many are told.
const MAX_TOLD: usize = 3;
/// What is read of a file: many times what one job leaves.
const MAX_BYTES: u64 = 64 << 10;

const FILE: &str = "panics";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// In a line in the claim's place, where the agent did not know yet which job it was.
const NO_CLAIM: &str = "-";

/// The panics of earlier runs, which left no delivered report.
#[derive(Debug, Clone)]
pub struct Panics {
    files: [PathBuf; 2],
    lines: Vec<Line>,
    /// Which job it is, once that is known.
    claim: Arc<OnceLock<String>>,
}

/// `VERSION CLAIM TEXT`.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    claim: String,
    /// When, and where in the code.
    text: String,
}

impl Line {
    /// A line of this version; of another, which may have the defect no more, it is none.
    fn read(line: &str) -> Option<Self> {
        let (claim, text) = line.strip_prefix(VERSION)?.strip_prefix(' ')?.split_once(' ')?;
        Some(Self { claim: claim.into(), text: text.into() })
    }

    fn is_of(&self, claim: &str) -> bool {
        self.claim == claim || self.claim == NO_CLAIM
    }
}

impl Panics {
    /// Reads what earlier runs of this version left in the state directory, and in the one that stands in for it. From now on a panic
    /// of this process is written down before the process ends.
    pub fn watch(state_dir: &Path, spare_dir: &Path) -> Self {
        let files = [state_dir.join(FILE), spare_dir.join(FILE)];
        let lines = files.iter().flat_map(|file| read(file)).collect();
        let claim = Arc::default();
        note_from_now_on(files.clone(), Arc::clone(&claim));
        Self { files, lines, claim }
    }

    /// Those that count for the job with this claim.
    #[must_use]
    pub fn of(&self, claim: &str) -> Self {
        let lines = self.lines.iter().filter(|line| line.is_of(claim)).cloned().collect();
        Self { lines, ..self.clone() }
    }

    /// The same, and they are all that is kept on disk: it is the job of this run.
    #[must_use]
    pub fn keep(&self, claim: &str) -> Self {
        let own = self.of(claim);
        let _ = own.claim.set(claim.to_owned());
        for file in &own.files {
            let Ok(size) = fs::metadata(file).map(|found| found.len()) else { continue };
            let mut kept = String::new();
            for Line { claim, text } in read(file).filter(|line| line.is_of(claim)) {
                kept.extend([VERSION, " ", &claim, " ", &text, "\n"]);
            }
            if kept.is_empty() {
                let _ = fs::remove_file(file);
            } else if kept.len() as u64 != size {
                let _ = plain_file::truncate(file).and_then(|mut file| file.write_all(kept.as_bytes()));
            }
        }
        own
    }

    /// Whether the job is to be reported as it stands, and nothing else done for it.
    pub fn only_report(&self) -> bool {
        self.lines.len() >= MAX_RUNS
    }

    /// Whether the job's text may still be read.
    pub fn may_read_job(&self) -> bool {
        self.lines.len() < MAX_READS
    }

    /// Whether there is no point in another run.
    pub fn is_hopeless(&self) -> bool {
        self.lines.len() >= MAX_REPORTS
    }

    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Where they are written down.
    pub fn file(&self) -> PathBuf {
        self.files.iter().find(|file| file.exists()).unwrap_or(&self.files[0]).clone()
    }

    /// The latest, a line each.
    pub fn latest(&self) -> Vec<String> {
        let latest = &self.lines[self.lines.len().saturating_sub(MAX_TOLD)..];
        latest.iter().map(|line| line.text.clone()).collect()
    }

    /// Removes them from the disk: the report is out, or the job has run to its end. What this run knows of them stays.
    pub fn clear(&self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

fn read(file: &Path) -> impl Iterator<Item = Line> + use<> {
    let mut bytes = Vec::new();
    let _ = plain_file::open(file).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    let lines: Vec<Line> = String::from_utf8_lossy(&bytes).lines().filter_map(Line::read).collect();
    lines.into_iter()
}

/// The message of a panic is shown only where it is a text of the program itself: others may quote what no log may hold.
fn note_from_now_on(files: [PathBuf; 2], claim: Arc<OnceLock<String>>) {
    let began = Instant::now();
    panic::set_hook(Box::new(move |panicked| {
        let place = panicked.location().map_or_else(|| "unknown place".into(), ToString::to_string);
        let message = panicked.payload().downcast_ref::<&str>().map_or(String::new(), |text| format!(": {text}"));
        let text = format!("{} {place}{message}", clock::now());
        let _ = writeln!(std::io::stderr(), "vmjob-agent: panicked at {text}");
        let line = format!("{VERSION} {} {text}\n", claim.get().map_or(NO_CLAIM, String::as_str));
        let is_first = began.elapsed() > LONG_RUN;
        for file in &files {
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(!is_first).truncate(is_first).mode(0o600);
            let opened = plain_file::open_with(&mut options, file);
            if opened.and_then(|mut file| file.write_all(line.as_bytes())).is_ok() {
                break;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panics(files: [PathBuf; 2]) -> Panics {
        let lines = files.iter().flat_map(|file| read(file)).collect();
        Panics { files, lines, claim: Arc::default() }
    }

    #[test]
    fn panics_of_another_job_or_version_do_not_count_and_do_not_stay() {
        let dir = std::env::temp_dir().join(format!("vmjob-panics-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let files = [dir.join("a"), dir.join("b")];
        let own = |claim: &str, count: usize| format!("{VERSION} {claim} at agent/src/x.rs:1:1\n").repeat(count);
        let before = format!("0.0.9 c1 at x\n2026-01-01T00:00:00.000Z agent/src/x.rs:1:1\n{}", own("c2", 9));
        fs::write(&files[0], before + &own("c1", 2)).unwrap();
        fs::write(&files[1], own(NO_CLAIM, 1) + "torn").unwrap();

        let all = panics(files.clone());
        assert!(all.of("c2").is_hopeless() && !all.of("c3").only_report());
        let kept = all.keep("c1");
        assert_eq!((kept.count(), kept.only_report(), kept.may_read_job()), (3, true, true));
        assert_eq!(kept.latest(), ["at agent/src/x.rs:1:1"; 3]);
        assert_eq!(fs::read_to_string(&files[0]).unwrap(), own("c1", 2));
        assert_eq!(fs::read_to_string(&files[1]).unwrap(), own(NO_CLAIM, 1));
        assert_eq!(panics(files.clone()).keep("c3").count(), 1);
        assert!(!files[0].exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
