//! The job of a life. It keeps a diary in a mounted directory, so that how often it ran and how it ended is known without
//! the agent.

use std::time::Duration;

use serde_json::{Value, json};

use crate::draw::Draw;

/// The diary's name in the evidence directory.
pub const DIARY: &str = "diary";
/// So all numbers of lines are equally long.
pub const FIRST_LINE: u64 = 10_000_000;
const IMAGE: &str = "vmjob/busybox:test";

/// What the job does on SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTerm {
    /// Nothing, as any first process of a container that installs no handler: it takes a SIGKILL.
    Ignore,
    Exit(i64),
}

/// Some output, and a rest after it.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub stderr: bool,
    pub lines: u64,
    /// The line's end included.
    pub line_bytes: u64,
    /// The last line has no end: `line_bytes` less one, and only one line.
    pub unfinished: bool,
    pub rest_ms: u64,
}

/// How much output there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counts {
    pub stdout_bytes: u64,
    pub stdout_lines: u64,
    pub stderr_bytes: u64,
    pub stderr_lines: u64,
}

/// What the job will do, left alone.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: String,
    pub exit_code: i64,
    pub chunks: Vec<Chunk>,
    pub on_term: OnTerm,
    /// Eats memory until the kernel kills it.
    pub hog: bool,
    /// Sleeps for ever, to be stopped.
    pub endless: bool,
    /// Each line begins with its number, the first with this one.
    pub numbered_from: Option<u64>,
    pub timeout_ms: Option<u64>,
    pub grace_ms: u64,
    /// Other codes than 0 that are a success.
    pub success_exit_codes: &'static [i64],
    /// How long its container stays if it fails.
    pub keep_ms: Option<u64>,
    /// Tried once more on its own exit code.
    pub retried: bool,
    pub log_driver: &'static str,
    /// Where the log driver sends the log, if it sends it anywhere.
    pub log_address: Option<String>,
    pub give_up_after_ms: Option<u64>,
}

impl Job {
    pub fn draw(draw: &mut Draw, id: String) -> Self {
        let exit_code = draw.pick(&[0, 0, 0, 0, 1, 3, 75, 143, 255]);
        let log_driver = draw.pick(&["json-file", "json-file", "json-file", "local"]);
        let mut chunks: Vec<Chunk> = (0..draw.between(0, 3)).map(|_| Chunk::draw(draw)).collect();
        if log_driver == "local" {
            // Docker splits lines at 16 KiB, and what it replays of such a line from this driver has lost its end. Three chunks
            // without an end may make one line.
            for chunk in &mut chunks {
                chunk.line_bytes = chunk.line_bytes.min(5_000);
            }
        }
        Self {
            id,
            exit_code,
            chunks,
            on_term: draw.pick(&[OnTerm::Ignore, OnTerm::Exit(0), OnTerm::Exit(143), OnTerm::Exit(9)]),
            hog: draw.chance(6),
            endless: false,
            numbered_from: None,
            timeout_ms: None,
            success_exit_codes: &[],
            keep_ms: None,
            grace_ms: draw.pick(&[300, 1000, 2000]),
            retried: draw.chance(12) && exit_code != 0,
            log_driver,
            log_address: None,
            give_up_after_ms: None,
        }
    }

    /// Whether its log driver waits for a server that accepts and never reads, until the agent has ended.
    pub fn has_hung_log(&self) -> bool {
        self.log_driver == "syslog"
    }

    /// The `job-spec`.
    pub fn spec(&self, evidence_dir: &str) -> String {
        let mut spec = json!({
            "id": self.id,
            "container": {
                "image": IMAGE, "entrypoint": ["sh", "-c"], "args": [self.script()], "network": "none",
                "mounts": [{"type": "bind", "source": evidence_dir, "target": "/evidence"}],
                "log_driver": self.log_driver, "pull": "never",
            },
            "grace": seconds(self.grace_ms),
        });
        if let Some(address) = &self.log_address {
            spec["container"]["log_options"] = json!({"syslog-address": address, "mode": "non-blocking"});
        }
        if self.hog {
            spec["container"]["memory"] = "16m".into();
        }
        if let Some(timeout) = self.timeout_ms {
            spec["timeout"] = seconds(timeout);
        }
        if !self.success_exit_codes.is_empty() {
            spec["success_exit_codes"] = self.success_exit_codes.into();
        }
        if self.retried {
            spec["retry"] = json!({"max_attempts": 2, "on": [format!("EXIT_CODE:{}", self.exit_code)]});
        }
        if let Some(patience) = self.give_up_after_ms {
            spec["callback"] = json!({"give_up_after": seconds(patience)});
        }
        spec.to_string()
    }

    fn script(&self) -> String {
        let mut lines = Vec::new();
        if let OnTerm::Exit(code) = self.on_term {
            lines.push(format!("trap '{}; exit {code}' TERM", note(&format!("end {code} term"))));
        }
        lines.push(note("start $JOB_ATTEMPT"));
        for (number, chunk) in self.chunks.iter().enumerate() {
            let written = self.chunks[..number].iter().map(|chunk| chunk.lines).sum::<u64>();
            let command =
                self.numbered_from.map_or_else(|| chunk.command(), |first| chunk.numbered_command(first + written));
            lines.extend([command, note(&format!("wrote {}", number + 1))]);
            if chunk.rest_ms > 0 {
                lines.push(rest(&format!("{}.{:03}", chunk.rest_ms / 1000, chunk.rest_ms % 1000)));
            }
        }
        lines.extend(self.endless.then(|| rest("600")));
        lines.extend(self.hog.then(|| "exec tail /dev/zero".into()));
        lines.extend([note(&format!("end {} self", self.exit_code)), format!("exit {}", self.exit_code)]);
        lines.join("\n")
    }

    /// The output of the first `chunks` chunks.
    pub fn counts(&self, chunks: usize) -> Counts {
        let mut counts = Counts::default();
        // An unfinished line goes on in the stream's next output.
        let mut open = [false; 2];
        for chunk in &self.chunks[..chunks.min(self.chunks.len())] {
            let bytes = if chunk.unfinished { chunk.line_bytes - 1 } else { chunk.lines * chunk.line_bytes };
            let (total_bytes, total_lines) = if chunk.stderr {
                (&mut counts.stderr_bytes, &mut counts.stderr_lines)
            } else {
                (&mut counts.stdout_bytes, &mut counts.stdout_lines)
            };
            *total_bytes += bytes;
            let open = &mut open[usize::from(chunk.stderr)];
            *total_lines += chunk.lines - u64::from(std::mem::replace(open, chunk.unfinished));
        }
        counts
    }

    /// One line for people: what matters of the job for what follows.
    pub fn describe(&self) -> String {
        let mut words = vec![format!("exit {}", self.exit_code), format!("on TERM {:?}", self.on_term)];
        words.extend(self.hog.then(|| "memory hog".into()));
        words.extend(self.endless.then(|| "endless".into()));
        words.extend(self.numbered_from.map(|_| "numbered lines".into()));
        words.extend(self.timeout_ms.map(|ms| format!("timeout {ms}ms")));
        words.extend(self.keep_ms.map(|ms| format!("kept {ms}ms")));
        if !self.success_exit_codes.is_empty() {
            words.push(format!("success {:?}", self.success_exit_codes));
        }
        words.extend(self.retried.then(|| "retried once".into()));
        words.push(format!("grace {}ms", self.grace_ms));
        words.extend(self.give_up_after_ms.map(|ms| format!("give up after {ms}ms")));
        words.push(self.log_driver.into());
        for chunk in &self.chunks {
            let stream = if chunk.stderr { "stderr" } else { "stdout" };
            let end = if chunk.unfinished { " (no line end)" } else { "" };
            words.push(format!("{} x {}B to {stream}{end}, rest {}ms", chunk.lines, chunk.line_bytes, chunk.rest_ms));
        }
        words.join(", ")
    }
}

impl Chunk {
    fn draw(draw: &mut Draw) -> Self {
        let unfinished = draw.chance(15);
        // Long and many lines together would only be slow.
        let (most_lines, most_bytes) = draw.pick(&[(5, 200), (300, 100), (20_000, 80), (20, 20_000)]);
        Self {
            stderr: draw.chance(35),
            lines: if unfinished { 1 } else { draw.between(1, most_lines) },
            line_bytes: draw.between(2, most_bytes),
            unfinished,
            rest_ms: draw.pick(&[0, 0, 50, 200, 400, 700]),
        }
    }

    /// The same, with each line's number in the place of its first letters.
    fn numbered_command(&self, first: u64) -> String {
        let last = first + self.lines - 1;
        let rest = usize::try_from(self.line_bytes).unwrap_or_default().saturating_sub(first.to_string().len() + 1);
        let to = if self.stderr { " >&2" } else { "" };
        format!("seq {first} {last} | sed \"s/$/$(head -c {rest} /dev/zero | tr '\\0' x)/\"{to}")
    }

    fn command(&self) -> String {
        let text = format!("$(head -c {} /dev/zero | tr '\\0' x)", self.line_bytes - 1);
        let to = if self.stderr { " >&2" } else { "" };
        if self.unfinished {
            format!("printf %s \"{text}\"{to}")
        } else {
            format!("yes \"{text}\" | head -n {}{to}", self.lines)
        }
    }
}

fn note(words: &str) -> String {
    format!("echo \"{words}\" >>/evidence/{DIARY}")
}

/// A sleep that a trapped signal cuts short.
fn rest(seconds: &str) -> String {
    format!("sleep {seconds} & wait $!")
}

fn seconds(ms: u64) -> Value {
    Duration::from_millis(ms).as_secs_f64().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_valid_json_and_counts_what_it_writes() {
        let mut draw = Draw::new(1, 1, "x");
        let mut job = Job::draw(&mut draw, "a".into());
        let chunk = |stderr, lines, unfinished| Chunk { stderr, lines, line_bytes: 10, unfinished, rest_ms: 0 };
        job.chunks = vec![chunk(false, 3, false), chunk(true, 2, false), chunk(false, 1, true), chunk(false, 2, false)];
        assert_eq!(job.counts(1), Counts { stdout_bytes: 30, stdout_lines: 3, ..Counts::default() });
        let all = Counts { stdout_bytes: 59, stdout_lines: 5, stderr_bytes: 20, stderr_lines: 2 };
        assert_eq!(job.counts(9), all);
        assert!(serde_json::from_str::<Value>(&job.spec("/e")).is_ok());
    }
}
