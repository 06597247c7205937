//! What a check found: how good it is, what it is, and what to do about it.

use std::{fmt, time::Duration};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    Ok,
    /// A job can be run and reported all the same.
    Warn,
    Fail,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or three.
    pub subject: &'static str,
    pub grade: Grade,
    pub text: String,
    /// What to do about it; empty where all is well.
    pub fix: String,
}

impl Finding {
    pub fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, grade: Grade::Ok, text: text.into(), fix: String::new() }
    }

    pub fn warn(subject: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { subject, grade: Grade::Warn, text: text.into(), fix: fix.into() }
    }

    pub fn fail(subject: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { subject, grade: Grade::Fail, text: text.into(), fix: fix.into() }
    }

    /// What `check` finds, or that it found nothing within `deadline`.
    pub async fn within(deadline: Duration, subject: &'static str, check: impl Future<Output = Self>) -> Self {
        let late = || Self::warn(subject, format!("no answer within {} s", deadline.as_secs()), "is the network up?");
        tokio::time::timeout(deadline, check).await.unwrap_or_else(|_| late())
    }

    pub fn is_ok(&self) -> bool {
        self.grade == Grade::Ok
    }
}

/// As one line of a log.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.text)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", self.fix) }
    }
}
