//! What was seen of a life from outside. Nothing here is the agent's word, but for its journal, its exit statuses and what it
//! posted, which are what is judged.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use fakecloud::{Answer, Recorded};
use serde_json::Value;

use crate::{
    agent::Run,
    diary::Entry,
    docker::Event,
    log_file::Harmed,
    schedule::{Phase, What},
};

/// A step that was carried out.
#[derive(Debug, Clone)]
pub struct Fired {
    pub what: What,
    pub at: SystemTime,
    /// When it was over, of what takes a while.
    pub over: Option<SystemTime>,
    /// What the journal said just then (after the agent's end, where the step ends it).
    pub phase: Option<Phase>,
    /// How many times the job had started by then.
    pub job_starts: usize,
    /// Whether the world obeyed: a container that is not there cannot be killed.
    pub ok: bool,
}

#[derive(Debug)]
pub struct Evidence {
    pub began: SystemTime,
    pub runs: Vec<Run>,
    pub fired: Vec<Fired>,
    /// What was done to the engine's file of the job's log.
    pub harmed: Vec<Harmed>,
    pub diary: Vec<Entry>,
    /// When the job's last run wrote its end into the diary.
    pub job_ended: Option<SystemTime>,
    pub events: Vec<Event>,
    pub posts: Vec<Recorded>,
    /// How many of the posts came before the agent was run once more, if it was.
    pub posts_before_rerun: Option<usize>,
    pub journal: Value,
    pub stdout: Vec<u8>,
    pub state_bytes: u64,
    pub left_containers: Vec<String>,
    /// Files that hold a token.
    pub leaks: Vec<PathBuf>,
    /// The agent had not ended by the life's deadline.
    pub overdue: bool,
}

impl Evidence {
    /// The posts whose body reached the endpoint.
    pub fn bodies(&self) -> impl Iterator<Item = &Recorded> {
        // One that was reset before its body was read has none.
        self.posts.iter().filter(|post| !(post.body.is_empty() && post.answer == Answer::Reset))
    }

    pub fn accepted(&self) -> impl Iterator<Item = &Recorded> {
        self.posts.iter().filter(|post| post.accepted)
    }

    /// The report that counts: the first that was taken, or else the last that was sent.
    pub fn report(&self) -> Option<Value> {
        let post = self.accepted().next().or_else(|| self.bodies().last())?;
        serde_json::from_slice(&post.body).ok()
    }

    /// The first event of this sort of this container.
    pub fn event(&self, container: &str, what: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.container == container && event.what == what)
    }

    pub fn fired(&self, sort: impl Fn(What) -> bool) -> impl Iterator<Item = &Fired> {
        self.fired.iter().filter(move |fired| sort(fired.what))
    }
}

/// All regular files below `dir`.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Which of `files` hold a token that was sent to the endpoint.
pub fn leaks(files: &[PathBuf], posts: &[Recorded]) -> Vec<PathBuf> {
    let mut tokens: Vec<&str> =
        posts.iter().filter_map(|post| post.header("authorization")?.strip_prefix("Bearer ")).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let holds = |file: &&PathBuf| {
        let content = fs::read(file).unwrap_or_default();
        tokens.iter().any(|token| contains(&content, token.as_bytes()))
    };
    files.iter().filter(holds).cloned().collect()
}

/// Whether `needle` is somewhere in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
