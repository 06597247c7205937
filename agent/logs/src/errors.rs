//! Which lines of a log look like the reason of a failure. Lines go in; the few windows that tell most are kept, in a byte budget.

use serde::{Deserialize, Serialize};

use crate::{
    Stream,
    grammar::{self, Context, Judgement},
    signs,
    text::{alike, shorten, text_of},
    trace::{MAX_DETAIL_LINES, MAX_TRACE_LINES, Trace},
    vocabulary::GoesOn,
};

/// A line's beginning, as far as it is looked at.
pub(crate) const MAX_LINE_BYTES: usize = 8192;
/// How much of it is shown.
const MAX_SHOWN_BYTES: usize = 1024;
/// A sign within so many bytes is shown with the line's beginning.
const NEAR_BYTES: usize = MAX_SHOWN_BYTES * 3 / 4;
/// How many of stderr's last lines are kept, and of its first.
const STDERR_LINES: usize = 8;

/// How many kinds of lines there may be that are perhaps a hint, and of those that are one, for all to be shown.
const MAX_KINDS: [usize; 2] = [4, 16];
/// How many stay where there are more.
const KEPT_OF_MANY: [usize; 2] = [0, 4];

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
    /// The first of each weight, one of a kind; four times how many more there were of it are added to the weight.
    kept: Vec<(u64, Window)>,
    /// The last crash that is not among them: what comes last may be what ended the job.
    last_crash: Option<Window>,
    /// The last error.
    #[serde(default)]
    last_error: Option<Window>,
    /// The last hint.
    #[serde(default)]
    last_hint: Option<Window>,
    /// How many kinds of lines there were that are perhaps a hint, and of those that are one.
    #[serde(default)]
    kinds: [usize; 2],
    /// Of each stream the trace that is under way.
    traces: [Option<Trace>; 2],
    /// The last line that was kept, and what it weighs: in a flood of its like none needs to be judged again.
    #[serde(skip)]
    last_kept: Option<(Vec<u8>, u8)>,
    stderr_begins: Lines,
    stderr_ends: Lines,
}

/// Some lines with their numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Lines(Vec<(u64, Text)>);

/// A line that need not be UTF-8.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Text(#[serde(with = "crate::base64_bytes")] Vec<u8>);

impl Errors {
    pub(crate) fn set_budget(&mut self, bytes: usize) {
        self.budget_bytes = bytes;
    }

    /// Looks at whole lines. The first has the number `line`; `before` is the end of the log up to it.
    pub(crate) fn look_at(&mut self, stream: Stream, mut line: u64, lines: &[u8], before: &[u8]) {
        if stream == Stream::Stderr {
            self.note_stderr(line, lines);
        }
        let (mut at, mut counted) = (0, 0);
        while at < lines.len() {
            if self.traces[stream as usize].is_some() {
                let end = line_end(lines, at);
                line += count_lines(&lines[counted..at]);
                self.follow(stream, line, &lines[at..lines.len().min(end + 1)], || context(before, &lines[..at]));
                (at, counted) = (end + 1, at);
                continue;
            }
            let Some(found) = signs::find(lines, at) else { return };
            let start = memchr::memrchr(b'\n', &lines[at..found]).map_or(at, |newline| at + newline + 1);
            let end = line_end(lines, found);
            let content = &lines[start..lines.len().min(end + 1)];
            // Lines are counted only up to those that are kept: most of those with a sign are not.
            let number = || {
                line += count_lines(&lines[std::mem::replace(&mut counted, start)..start]);
                line
            };
            self.look_at_sign(stream, number, content, found - start, || context(before, &lines[..start]));
            at = end + 1;
        }
    }

    /// Looks at one line with a sign at `found`, one of the first that it has.
    fn look_at_sign(
        &mut self,
        stream: Stream,
        number: impl FnOnce() -> u64,
        content: &[u8],
        found: usize,
        around: impl Fn() -> Context,
    ) {
        // A line that came in pieces is known as far as this.
        let content = &content[..content.len().min(MAX_LINE_BYTES)];
        // Which of a long line's signs the search meets first depends on where the search began.
        let found = match content.len() {
            ..=NEAR_BYTES => found,
            _ => match signs::find(content, 0) {
                Some(found) => found,
                None => return,
            },
        };
        // Of a long line what is around the sign.
        let from = if found < NEAR_BYTES { 0 } else { found - MAX_SHOWN_BYTES / 4 };
        let from = from + content[from..].iter().take_while(|byte| from > 0 && (0x80..0xc0).contains(*byte)).count();
        let content = &content[from..content.len().min(from + MAX_SHOWN_BYTES)];
        let is_like = |kept: &[u8]| alike(kept, content) == (kept.len(), content.len());
        let known = self.last_kept.as_ref().filter(|(kept, _)| is_like(kept)).map(|(_, weight)| *weight);
        let judged = match known {
            Some(weight) => Some((weight, None)),
            None => grammar::judge(content, around).map(|Judgement { weight, begins, .. }| (weight, begins)),
        };
        let Some((weight, begins)) = judged else { return };
        let text = if from > 0 { "…".to_owned() + &text_of(shown(content)) } else { text_of(shown(content)) };
        let window = Window { line: number(), text };
        if let Some((found, goes_on)) = begins {
            let (prefix, and_one) = (content[..found].to_vec(), goes_on == GoesOn::AndOne);
            self.traces[stream as usize] = Some(Trace { weight, window, and_one, prefix, lines: 0, cut_at: None });
            return;
        }
        if known.is_none() {
            self.last_kept = Some((content.to_vec(), weight));
        }
        self.keep(weight, window);
    }

    /// Looks at the line after those of a trace.
    fn follow(&mut self, stream: Stream, line: u64, content: &[u8], around: impl Fn() -> Context) {
        let place = &mut self.traces[stream as usize];
        let Some(mut trace) = place.take() else { return };
        let indent = |text: &[u8]| text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let (alike, behind) = alike(&trace.prefix, content);
        let (plain, base) =
            if alike == trace.prefix.len() { (&content[behind..], 0) } else { (content, indent(&trace.prefix)) };
        let (at, plain_shown) = (indent(plain), shown(plain));
        // Also those of Python's exception groups, which begin with a bar.
        let is_frame = plain_shown.is_empty() || at > base || (at > 0 && matches!(plain[at], b'|' | b'+'));
        let sign = signs::find(&plain[..plain.len().min(MAX_SHOWN_BYTES)], 0)
            .and_then(|_| grammar::judge(plain, || Context::LOG));
        let begins = !trace.and_one && sign.is_some_and(|sign| sign.at == at && sign.weight > 1);
        // A field's name is the line before what is wrong with it.
        let is_detail = trace.is_told() && !plain_shown.is_empty() && !plain_shown.contains(&b' ');
        let is_inside = !begins && (is_frame || is_detail);
        let is_another = sign.is_some_and(|sign| {
            sign.weight > 2 && sign.begins.is_some_and(|(found, goes_on)| found == 0 || goes_on == GoesOn::AndOne)
        });
        let is_last = !is_inside && trace.and_one && !is_another;
        if is_inside || is_last {
            trace.push(shown(content), self.budget_bytes / 3, self.budget_bytes / 2);
            if is_last {
                (trace.and_one, trace.lines) = (false, MAX_TRACE_LINES - MAX_DETAIL_LINES + 1);
            }
            if trace.lines < MAX_TRACE_LINES {
                *place = Some(trace);
                return;
            }
        }
        self.keep(trace.weight, trace.window);
        // What was pushed is not looked at again.
        if !is_inside
            && !is_last
            && let Some(found) = signs::find(content, 0)
        {
            self.look_at_sign(stream, || line, content, found, around);
        }
    }

    /// A part of the budget is for what came last.
    fn budget_of_first(&self) -> usize {
        self.budget_bytes - self.budget_bytes / 4 - self.budget_bytes / 8
    }

    /// Counts a kind of hint. Where there are many, as in a text, each tells little: the first ones stay.
    fn count_kind(&mut self, weight: u8) {
        let Some(kinds) = self.kinds.get_mut(usize::from(weight)) else { return };
        *kinds += 1;
        if *kinds == MAX_KINDS[usize::from(weight)] + 1 {
            let mut left = KEPT_OF_MANY[usize::from(weight)];
            self.kept.retain(|(kept, _)| {
                let is_kept = kept % 4 != u64::from(weight) || left > 0;
                left -= usize::from(kept % 4 == u64::from(weight) && left > 0);
                is_kept
            });
            self.used_bytes = self.kept.iter().map(|(_, window)| window.text.len()).sum();
        }
    }

    /// Keeps the first window of a kind, and counts the others. When the budget is full, what tells least makes room; among equals
    /// the newest, for what comes first is mostly the cause of the rest. The end of the log is in the tail anyway.
    fn keep(&mut self, weight: u8, mut window: Window) {
        shorten(&mut window.text, self.budget_bytes / 2);
        let is_like = |(_, kept): &(u64, Window)| {
            let (kept, text) = (kept.text.as_bytes(), window.text.as_bytes());
            alike(kept, text) == (kept.len(), text.len())
        };
        if let Some(at) = self.kept.iter().position(is_like) {
            self.kept[at].0 += 4;
            return self.keep_last(weight.into(), window);
        }
        if self.kinds.get(usize::from(weight)).is_some_and(|kinds| *kinds > MAX_KINDS[usize::from(weight)]) {
            return self.keep_last(weight.into(), window);
        }
        self.used_bytes += window.text.len();
        self.kept.push((weight.into(), window));
        self.count_kind(weight);
        while self.used_bytes > self.budget_of_first() {
            let least = (0..self.kept.len()).min_by_key(|at| (self.kept[*at].0 % 4, usize::MAX - at));
            let Some(least) = least else { return };
            let (weight, window) = self.kept.remove(least);
            self.used_bytes -= window.text.len();
            self.keep_last(weight % 4, window);
        }
    }

    fn keep_last(&mut self, weight: u64, mut window: Window) {
        let (last, room) = match weight {
            3.. => (&mut self.last_crash, self.budget_bytes / 16 * 3),
            2 => (&mut self.last_error, self.budget_bytes / 8),
            1 => (&mut self.last_hint, self.budget_bytes / 16),
            _ => return,
        };
        if last.as_ref().is_none_or(|last| last.line < window.line) {
            shorten(&mut window.text, room);
            *last = Some(window);
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
        let last = self.last_crash.into_iter().chain(self.last_error).chain(self.last_hint);
        let mut windows: Vec<Window> = last.collect();
        let mut used: usize = self.used_bytes + windows.iter().map(|window| window.text.len()).sum::<usize>();
        for (count, mut window) in self.kept {
            let note = format!(" (and {} more like it)", count / 4);
            if count > 3 && used + note.len() <= self.budget_bytes {
                used += note.len();
                window.text += &note;
            }
            windows.push(window);
        }
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

fn line_end(lines: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &lines[at..]).map_or(lines.len(), |length| at + length)
}

pub(crate) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// How much is looked at of what came before a line.
const CONTEXT_BYTES: usize = 1024;

/// The context of what follows `block`, and `before` it.
fn context(before: &[u8], block: &[u8]) -> Context {
    let end = &block[block.len().saturating_sub(CONTEXT_BYTES)..];
    if end.len() == CONTEXT_BYTES {
        return Context::after(end);
    }
    let before = &before[before.len().saturating_sub(CONTEXT_BYTES - end.len())..];
    Context::after(&[before, end].concat())
}

/// A line as it is looked at and shown.
fn shown(content: &[u8]) -> &[u8] {
    content[..content.len().min(MAX_SHOWN_BYTES)].trim_ascii_end()
}

#[cfg(test)]
mod tests;
