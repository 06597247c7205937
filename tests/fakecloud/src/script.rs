//! Faults as data: what the servers shall do with the next requests.
//!
//! A script is written as comma-separated steps, each with `+` modifiers:
//!
//! | step | what happens |
//! |---|---|
//! | `pass` | the server behaves normally |
//! | `503` (any status) | that answer; the request does not reach the server |
//! | `hang` | the request is read, then nothing, until the client leaves |
//! | `hang-after` | the server takes the request (a callback is queued), then nothing |
//! | `reset` | the connection is reset before the body is read |
//! | `reset-after` | the server takes the request, then the connection is reset |
//! | `truncate` | the server takes the request, its answer ends before its `Content-Length` |
//! | `garbage` | bytes that are not HTTP |
//! | `cut-1000` | Cloud Storage: so many bytes of the data, in or out, then the connection is reset |
//! | `stall-1000` | Cloud Storage: so many bytes of the data, in or out, then nothing |
//!
//! Modifiers: `+delay=2s` before the answer, `+retry-after=2`, `+body=TEXT`, `+NAME:VALUE` for any header, and `*3`
//! to repeat a step: `503*2,429+retry-after=2,reset-after,pass+delay=500ms`.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Steps for successive requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script(VecDeque<Step>);

/// What to do with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happens.
    pub action: Action,
    /// How long the answer (or its lack) is put off.
    pub delay: Duration,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The server behaves normally.
    Pass,
    /// This answer, and the request does not reach the server.
    Answer {
        /// Status code.
        status: u16,
        /// Headers besides the usual ones.
        headers: Vec<(String, String)>,
        /// Body.
        body: Vec<u8>,
    },
    /// The request is read and never answered.
    Hang,
    /// The server takes the request, and never answers.
    HangAfter,
    /// The connection is reset (TCP RST) before the body is read.
    Reset,
    /// The server takes the request, then the connection is reset.
    ResetAfter,
    /// The server takes the request; its answer ends before its `Content-Length`.
    Truncate,
    /// Bytes that are not HTTP.
    Garbage,
    /// Only so many bytes of the data that a request brings or fetches; then the connection is reset.
    Cut(usize),
    /// The same, but then nothing, until the client leaves.
    Stall(usize),
}

/// A script that cannot be read: the step, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    step: String,
    problem: String,
}

impl Script {
    /// The next step, or `None` at the end.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        self.0.pop_front()
    }

    /// This script, then another.
    pub(crate) fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Self { action, delay: Duration::ZERO }
    }
}

impl FromIterator<Step> for Script {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut steps = VecDeque::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let fail = |problem: &str| ScriptError { step: word.into(), problem: problem.into() };
            let (step, times) = match word.rsplit_once('*') {
                Some((step, times)) => {
                    let times = times.parse().ok().filter(|times| (1..=10_000).contains(times));
                    (step, times.ok_or_else(|| fail("a number from 1 to 10000 follows `*`"))?)
                }
                None => (word, 1_usize),
            };
            let step: Step = step.parse()?;
            steps.extend(std::iter::repeat_n(step, times));
        }
        Ok(Self(steps))
    }
}

impl FromStr for Step {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let fail = |problem: String| ScriptError { step: text.into(), problem };
        let mut parts = text.split('+');
        let mut step = Self::from(parse_action(parts.next().unwrap_or_default()).map_err(fail)?);
        for modifier in parts {
            if let Some(delay) = modifier.strip_prefix("delay=") {
                step.delay = parse_delay(delay).map_err(fail)?;
                continue;
            }
            let Action::Answer { headers, body, .. } = &mut step.action else {
                return Err(fail(format!("`+{modifier}` goes with a status only (`503+{modifier}`)")));
            };
            if let Some(text) = modifier.strip_prefix("body=") {
                *body = text.into();
            } else if let Some(value) = modifier.strip_prefix("retry-after=") {
                headers.push(("Retry-After".into(), value.into()));
            } else if let Some((name, value)) = modifier.split_once(':') {
                headers.push((name.into(), value.trim().into()));
            } else {
                let known = "delay=TIME, retry-after=VALUE, body=TEXT and NAME:VALUE";
                return Err(fail(format!("`+{modifier}` is unknown; there are {known}")));
            }
        }
        Ok(step)
    }
}

fn parse_action(word: &str) -> Result<Action, String> {
    Ok(match word {
        "pass" => Action::Pass,
        "hang" => Action::Hang,
        "hang-after" => Action::HangAfter,
        "reset" => Action::Reset,
        "reset-after" => Action::ResetAfter,
        "truncate" => Action::Truncate,
        "garbage" => Action::Garbage,
        _ => {
            if let Some((what, bytes)) = word.split_once('-')
                && let Ok(bytes) = bytes.parse()
            {
                match what {
                    "cut" => return Ok(Action::Cut(bytes)),
                    "stall" => return Ok(Action::Stall(bytes)),
                    _ => {}
                }
            }
            let Ok(status @ 200..=599) = word.parse() else {
                let known = "pass, hang, hang-after, reset, reset-after, truncate, garbage, cut-N, stall-N";
                return Err(format!("`{word}` is neither a status (200 to 599) nor one of {known}"));
            };
            Action::Answer { status, headers: Vec::new(), body: Vec::new() }
        }
    })
}

/// `500ms`, `2s` or `2` (seconds).
fn parse_delay(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, Duration::from_millis(1)),
        None => (text.strip_suffix('s').unwrap_or(text), Duration::from_secs(1)),
    };
    let number: u32 = number.parse().map_err(|_| format!("`{text}` is no delay; write `500ms` or `2s`"))?;
    Ok(unit * number)
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to read the script step `{}`: {}", self.step, self.problem)
    }
}

impl std::error::Error for ScriptError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_step_by_step() {
        let mut script: Script = "503*2, 429+retry-after=2+X-A: b,reset-after,pass+delay=500ms".parse().unwrap();
        let answer = |status, headers: &[(&str, &str)]| Action::Answer {
            status,
            headers: headers.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            body: Vec::new(),
        };
        let mut next = || script.next_step();
        assert_eq!(next(), Some(answer(503, &[]).into()));
        assert_eq!(next(), Some(answer(503, &[]).into()));
        assert_eq!(next(), Some(answer(429, &[("Retry-After", "2"), ("X-A", "b")]).into()));
        assert_eq!(next(), Some(Action::ResetAfter.into()));
        assert_eq!(next(), Some(Step { action: Action::Pass, delay: Duration::from_millis(500) }));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_bad_step_is_named() {
        for bad in ["slow", "99", "pass+retry-after=1", "503+delay=x", "503*0", "503+what"] {
            let error = format!("503,{bad}").parse::<Script>().unwrap_err().to_string();
            assert!(error.contains(bad.split('*').next().unwrap()), "{bad}: {error}");
        }
    }
}
