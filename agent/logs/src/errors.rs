//! Which lines of a log look like the reason of a failure. Lines go in; the few windows that tell most are kept, in a byte budget.

use serde::{Deserialize, Serialize};

use crate::{
    Stream,
    signs::{self, GoesOn, Sign},
    text,
};

/// A line's beginning, as far as it is looked at.
pub(crate) const MAX_LINE_BYTES: usize = 1024;
/// How many lines after a sign may belong to it: a stack trace's last line is the one that counts.
const MAX_TRACE_LINES: u32 = 2000;
/// How many of stderr's last lines are kept, and of its first.
const STDERR_LINES: usize = 8;

/// Lines of the log that belong together, as the report shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Of the first of them; from 1, both streams together.
    pub(crate) line: u64,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Errors {
    budget_bytes: usize,
    used_bytes: usize,
    /// The first of each weight.
    kept: Vec<(u8, Window)>,
    /// The last crash that found no room: what comes last may be what ended the job.
    last_crash: Option<Window>,
    /// Of each stream the trace that is under way.
    traces: [Option<Trace>; 2],
    stderr_begins: Lines,
    stderr_ends: Lines,
}

/// Some lines with their numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Lines(Vec<(u64, Text)>);

/// A line that need not be UTF-8.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Text(#[serde(with = "crate::base64_bytes")] Vec<u8>);

/// A sign and the lines that follow it, as far as they belong to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trace {
    weight: u8,
    window: Window,
    /// Whether the first line that is not indented is the last that belongs to it.
    and_one: bool,
    /// What stands before the sign, as a prefix that other lines may have as well.
    #[serde(with = "crate::base64_bytes")]
    prefix: Vec<u8>,
    lines: u32,
    /// Where lines are left out, once there are too many.
    cut_at: Option<usize>,
}

impl Errors {
    pub(crate) fn set_budget(&mut self, bytes: usize) {
        self.budget_bytes = bytes;
    }

    /// Looks at whole lines, of which the first has the number `line`.
    pub(crate) fn look_at(&mut self, stream: Stream, mut line: u64, lines: &[u8]) {
        if stream == Stream::Stderr {
            self.note_stderr(line, lines);
        }
        let mut at = 0;
        while at < lines.len() {
            if self.traces[stream as usize].is_some() {
                let end = line_end(lines, at);
                self.follow(stream, line, &lines[at..end]);
                (at, line) = (end + 1, line + 1);
                continue;
            }
            let Some((found, sign)) = signs::find(lines, at) else { return };
            let start = memchr::memrchr(b'\n', &lines[at..found]).map_or(at, |newline| at + newline + 1);
            line += count_lines(&lines[at..start]);
            let end = line_end(lines, found);
            self.look_at_sign(stream, line, &lines[start..end], found - start, sign);
            (at, line) = (end + 1, line + 1);
        }
    }

    /// Looks at one line with a sign at `found`, the first of those it has.
    fn look_at_sign(&mut self, stream: Stream, line: u64, content: &[u8], found: usize, sign: &'static Sign) {
        let content = shown(content);
        if found >= content.len() {
            return;
        }
        let begins = |found, sign: &Sign| (sign.goes_on != GoesOn::No).then_some((found, sign.goes_on));
        let (mut weight, mut trace) = (sign.weight, begins(found, sign));
        let mut at = found;
        while let Some((found, sign)) = signs::find(content, at + 1) {
            weight = weight.max(sign.weight);
            trace = trace.or(begins(found, sign));
            at = found;
        }
        if trace.is_none() && self.is_full_for(weight, content.len()) {
            return;
        }
        let window = Window { line, text: text_of(content) };
        match trace {
            Some((found, goes_on)) => {
                let (prefix, and_one) = (content[..found].to_vec(), goes_on == GoesOn::AndOne);
                self.traces[stream as usize] = Some(Trace { weight, window, and_one, prefix, lines: 0, cut_at: None });
            }
            None => self.keep(weight, window),
        }
    }

    /// Looks at the line after those of a trace.
    fn follow(&mut self, stream: Stream, line: u64, content: &[u8]) {
        let place = &mut self.traces[stream as usize];
        let Some(mut trace) = place.take() else { return };
        let content = shown(content);
        let sign = signs::find(content, 0);
        let is_another = sign.is_some_and(|(_, sign)| sign.goes_on != GoesOn::No);
        let plain = content.strip_prefix(&trace.prefix[..]).unwrap_or(content);
        let is_inside = !is_another && plain.first().is_none_or(|byte| matches!(byte, b' ' | b'\t'));
        let belongs = is_inside || (trace.and_one && !is_another);
        if belongs {
            trace.push(content, self.budget_bytes / 3);
        }
        if is_inside && trace.lines < MAX_TRACE_LINES {
            *place = Some(trace);
            return;
        }
        self.keep(trace.weight, trace.window);
        if !belongs && let Some((found, sign)) = sign {
            self.look_at_sign(stream, line, content, found, sign);
        }
    }

    /// A part of the budget is for what came last.
    fn budget_of_first(&self) -> usize {
        self.budget_bytes - self.budget_bytes / 4
    }

    fn is_full_for(&self, weight: u8, bytes: usize) -> bool {
        weight < 3
            && self.used_bytes + bytes > self.budget_of_first()
            && self.kept.iter().all(|(kept, _)| *kept >= weight)
    }

    /// When the budget is full, what tells least makes room; among equals the newest, for what comes first is mostly the cause of
    /// the rest. The end of the log is in the tail anyway.
    fn keep(&mut self, weight: u8, mut window: Window) {
        window.text.truncate(window.text.floor_char_boundary(self.budget_bytes / 2));
        self.used_bytes += window.text.len();
        self.kept.push((weight, window));
        while self.used_bytes > self.budget_of_first() {
            let least = (0..self.kept.len()).min_by_key(|at| (self.kept[*at].0, usize::MAX - at));
            let Some(least) = least else { return };
            let (weight, window) = self.kept.remove(least);
            self.used_bytes -= window.text.len();
            if weight >= 3 && window.text.len() <= self.budget_bytes / 4 {
                self.last_crash = Some(window);
            }
        }
    }

    fn note_stderr(&mut self, line: u64, lines: &[u8]) {
        let body = lines.strip_suffix(b"\n").unwrap_or(lines);
        let room = STDERR_LINES - self.stderr_begins.0.len();
        if room > 0 {
            for (number, content) in (line..).zip(body.split(|byte| *byte == b'\n')).take(room) {
                self.stderr_begins.push(number, content);
            }
        }
        let start = memchr::memrchr_iter(b'\n', body).nth(STDERR_LINES - 1).map_or(0, |at| at + 1);
        let number = line + count_lines(&body[..start]);
        for (number, content) in (number..).zip(body[start..].split(|byte| *byte == b'\n')) {
            self.stderr_ends.push(number, content);
        }
    }

    /// What was kept, in the order of the log. `in_head` and `in_tail` are the numbers of the last line that the head shows and
    /// the first of the tail: what stands there needs no hint.
    pub(crate) fn into_windows(mut self, in_head: u64, in_tail: u64) -> Vec<Window> {
        for trace in std::mem::take(&mut self.traces).into_iter().flatten() {
            self.keep(trace.weight, trace.window);
        }
        let mut windows: Vec<Window> = self.kept.into_iter().map(|(_, window)| window).collect();
        windows.extend(self.last_crash);
        for lines in [self.stderr_ends, self.stderr_begins] {
            let used: usize = windows.iter().map(|window| window.text.len()).sum();
            let room = (self.budget_bytes - used.min(self.budget_bytes)).min(self.budget_bytes / 4);
            let is_shown = |line: u64| {
                line <= in_head
                    || line >= in_tail
                    || windows.iter().any(|window| (window.line..window.line + window.lines()).contains(&line))
            };
            windows.extend(lines.window(room, is_shown));
        }
        windows.sort_by_key(|window| window.line);
        windows
    }
}

impl Window {
    fn lines(&self) -> u64 {
        count_lines(self.text.as_bytes()) + 1
    }
}

impl Lines {
    /// Adds a line; the oldest goes, and its memory is used again.
    fn push(&mut self, number: u64, content: &[u8]) {
        let mut text = if self.0.len() < STDERR_LINES { Vec::new() } else { self.0.remove(0).1.0 };
        text.clear();
        text.extend_from_slice(&content[..content.len().min(MAX_LINE_BYTES / 4)]);
        self.0.push((number, Text(text)));
    }

    /// As many of the last of these lines as are not shown elsewhere and fit.
    fn window(self, room: usize, is_shown: impl Fn(u64) -> bool) -> Option<Window> {
        let mut window: Option<Window> = None;
        for (line, text) in self.0.iter().rev().skip_while(|(line, _)| is_shown(*line)) {
            let text = text_of(shown(&text.0));
            let used = window.as_ref().map_or(0, |window| window.text.len() + 1);
            if is_shown(*line) || used + text.len() > room {
                break;
            }
            let text = window.map_or_else(|| text.clone(), |window| format!("{text}\n{}", window.text));
            window = Some(Window { line: *line, text });
        }
        window.filter(|window| !window.text.trim().is_empty())
    }
}

impl Trace {
    /// Adds a line. Where there is no more room, lines in the middle go: the first and the last tell most.
    fn push(&mut self, content: &[u8], budget: usize) {
        const CUT: &str = "\n…";
        self.lines += 1;
        let text = &mut self.window.text;
        text.push('\n');
        text.push_str(&text_of(content));
        while text.len() > budget {
            let cut_at = *self.cut_at.get_or_insert_with(|| {
                let cut_at = text[..text.floor_char_boundary(budget / 3)].rfind('\n').or_else(|| text.find('\n'));
                let cut_at = cut_at.unwrap_or(text.len());
                text.insert_str(cut_at, CUT);
                cut_at
            });
            let kept_from = cut_at + CUT.len();
            let second = text[kept_from..].char_indices().skip(1).find(|(_, c)| *c == '\n');
            let Some((length, _)) = second else {
                // One line that is too long by itself.
                text.truncate(text.floor_char_boundary(budget));
                // The place may have been cut off with it.
                self.cut_at = self.cut_at.filter(|_| kept_from <= text.len());
                break;
            };
            text.replace_range(kept_from..kept_from + length, "");
        }
    }
}

fn line_end(lines: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &lines[at..]).map_or(lines.len(), |length| at + length)
}

pub(crate) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Whole characters: a line may have been cut.
fn text_of(content: &[u8]) -> String {
    text::Text::beginning(content, content.len()).text
}

/// A line as it is looked at and shown.
fn shown(content: &[u8]) -> &[u8] {
    content[..content.len().min(MAX_LINE_BYTES)].trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of these blocks in 2000 bytes.
    fn windows(blocks: &[(Stream, &str)]) -> Vec<Window> {
        let mut errors = Errors::default();
        errors.set_budget(2000);
        let mut line = 1;
        for (stream, lines) in blocks {
            errors.look_at(*stream, line, lines.as_bytes());
            line += count_lines(lines.as_bytes());
        }
        let windows = errors.into_windows(0, u64::MAX);
        let bytes: usize = windows.iter().map(|window| window.text.len()).sum();
        assert!(bytes <= 2000, "{bytes} bytes");
        windows
    }

    #[test]
    fn each_window_has_the_line_that_names_the_error_and_its_number() {
        let deep = "  File \"/app/train.py\", line 120, in descend\n    descend(depth + 1)\n".repeat(500);
        let deep = format!("Traceback (most recent call last):\n{deep}RecursionError: too deep\n");
        let cases = [
            (deep.as_str(), "\nRecursionError: too deep"),
            (
                "[rank0]: Traceback (most recent call last):\n[rank0]:   File \"a\"\n[rank0]: KeyError\n",
                "\n[rank0]: KeyError",
            ),
            (
                "Traceback (most recent call last):\n  File \"a.py\", line 1\n    assert False\nAssertionError\n",
                "\nAssertionError",
            ),
            (
                "thread 'main' (7) panicked at src/main.rs:2:5:\nindex out of bounds\nnote: run\n",
                "\nindex out of bounds",
            ),
            ("panic: no config\n\ngoroutine 1 [running]:\n", "panic: no config\n\ngoroutine 1"),
            (
                "Exception in thread \"main\" X: y\n\tat A.b(A.java:1)\nCaused by: Z: disk\n\tat C\n",
                "Caused by: Z: disk\n\tat C",
            ),
            ("terminate called after throwing an instance of 'std::runtime_error'\n  what():  boom\n", "what():  boom"),
            ("main.sh: line 3: 77 Segmentation fault      (core dumped) ./x\n", "Segmentation fault"),
            ("é error: no such thing\n", "é error: no such thing"),
            ("time=2026-11-24T04:23:55Z level=error msg=\"no disk\"\n", "msg=\"no disk\""),
            ("{\"level\":\"error\",\"msg\":\"no disk\"}\n", "no disk"),
            ("{\"severity\": \"error\", \"message\": \"no disk\"}\n", "no disk"),
            ("{\"level\":\"fatal\",\"msg\":\"no disk\"}\n", "no disk"),
            ("npm ERR! code ELIFECYCLE\n", "ELIFECYCLE"),
            ("npm error code ENOENT\n", "ENOENT"),
            ("make[1]: *** [Makefile:2: all] Error 1\n", "[Makefile:2: all] Error 1"),
            ("make: *** No rule to make target 'x'.  Stop.\n", "make target 'x'"),
        ];
        for (failure, words) in cases {
            let noise = "all is well\n".repeat(5000);
            let windows = windows(&[(Stream::Stdout, &noise), (Stream::Stdout, failure), (Stream::Stdout, &noise)]);
            let first = if words.starts_with("Caused") { 5003 } else { 5001 };
            let window = windows.iter().find(|window| window.line == first);
            let window = window.unwrap_or_else(|| panic!("{words}: {windows:?}"));
            assert!(window.text.contains(words), "{words}: {windows:?}");
        }
    }

    #[test]
    fn the_first_crash_and_the_last_stay_however_much_follows() {
        let crash = |name: &str| format!("Traceback (most recent call last):\n  File \"x.py\"\n{name}: x\n");
        let mut log = String::from("all is well\nERROR first\n");
        for number in 0..1000 {
            log += &crash(&format!("Error{number}"));
            log += "ERROR again and again\n";
        }
        let windows = windows(&[(Stream::Stdout, &log)]);
        assert!(windows[0].line == 3 && windows[0].text.ends_with("Error0: x"), "{windows:?}");
        assert!(windows.iter().any(|window| window.text.ends_with("Error999: x")), "{windows:?}");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = format!("error: {}\n", "é".repeat(2000));
        for window in windows(&[
            (Stream::Stderr, &line),
            (Stream::Stdout, &line),
            (Stream::Stdout, "Traceback (most recent call last):\n"),
            (Stream::Stdout, &line),
        ]) {
            assert!(window.text.ends_with('é') && window.text.len() > 200, "{window:?}");
        }
    }

    #[test]
    fn a_trace_of_long_lines_only_is_cut_as_often_as_it_takes() {
        for length in [200, 221, 222, 223, 660, 666, 900, 1500] {
            let line = format!("{}\n", "é".repeat(length / 2));
            let trace = format!("thread 'main' panicked at {line} {line} {line}\t{line}the end\n");
            let windows = windows(&[(Stream::Stdout, &trace)]);
            assert!(windows[0].text.starts_with("thread 'main' panicked at é"), "{windows:?}");
        }
    }

    #[test]
    fn what_stderr_says_is_kept_where_nothing_looks_like_an_error() {
        let noise = "all is well\n".repeat(1000);
        let chatter = "noise\n".repeat(100);
        let windows = windows(&[
            (Stream::Stderr, "cannot read the tape\n"),
            (Stream::Stdout, &noise),
            (Stream::Stderr, &chatter),
            (Stream::Stdout, &noise),
            (Stream::Stderr, "the tape is on fire\n"),
            (Stream::Stdout, &noise),
        ]);
        assert_eq!((windows[0].line, windows[0].text.lines().next()), (1, Some("cannot read the tape")), "{windows:?}");
        let last = windows.last().unwrap();
        assert!(last.text.ends_with("noise\nthe tape is on fire"), "{windows:?}");
    }
}
