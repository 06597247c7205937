//! Defects that end the process: a panic leaves a line on disk, and one that comes back at every start ends the job with a report
//! instead of a fourth try.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    panic,
    path::{Path, PathBuf},
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

const FILE: &str = "panics";

/// The panics of earlier runs, which left no delivered report.
#[derive(Debug, Clone)]
pub struct Panics {
    files: [PathBuf; 2],
    lines: Vec<String>,
}

impl Panics {
    /// Reads what earlier runs left in the state directory, and in the one that stands in for it.
    pub fn load(state_dir: &Path, spare_dir: &Path) -> Self {
        let files = [state_dir.join(FILE), spare_dir.join(FILE)];
        let texts = files.iter().filter_map(|file| plain_file::read(file).ok());
        let lines = texts.flat_map(|text| {
            String::from_utf8_lossy(&text).lines().take(2 * MAX_REPORTS).map(str::to_owned).collect::<Vec<_>>()
        });
        let lines = lines.collect();
        Self { files, lines }
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

    /// The latest, a line each: when, and where in the code.
    pub fn latest(&self) -> &[String] {
        &self.lines[self.lines.len().saturating_sub(MAX_TOLD)..]
    }

    /// Forgets them: the report is out.
    pub fn clear(&self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }

    /// From now on a panic of this process is written down before the process ends. Its message is shown only where it is a text
    /// of the program itself: others may quote what no log may hold.
    pub fn note_from_now_on(state_dir: &Path, spare_dir: &Path) {
        let (files, began) = ([state_dir.join(FILE), spare_dir.join(FILE)], Instant::now());
        panic::set_hook(Box::new(move |panicked| {
            let place = panicked.location().map_or_else(|| "unknown place".into(), ToString::to_string);
            let message = panicked.payload().downcast_ref::<&str>().map_or(String::new(), |text| format!(": {text}"));
            let line = format!("{} {place}{message}\n", clock::now());
            let _ = write!(std::io::stderr(), "vmjob-agent: panicked at {line}");
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
}
