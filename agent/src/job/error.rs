//! What is wrong with a job, as one sentence its author can act on.
//!
//! In: a [`Problem`] from a check that knows the value but not where it stood. Out: a [`JobError`] with the place.

use super::discreet;

/// A job that cannot run as written. Shown as one sentence: attribute, place, what is wrong, what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", self.message(), self.fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default())]
pub struct JobError {
    /// `job-spec` or `docker-command`.
    pub attribute: &'static str,
    /// Such as `container.mounts[2].target` or `--memory`; empty when it is the whole text.
    pub place: String,
    pub problem: String,
    pub fix: Option<String>,
}

impl JobError {
    /// As an error of the text in a field of `attribute`.
    pub(super) fn inside(self, attribute: &'static str, field: &str) -> Self {
        let place = if self.place.is_empty() { field.to_owned() } else { format!("{field}: {}", self.place) };
        Self { attribute, place, ..self }
    }

    /// As an error of the flag that made the field of the container.
    pub(super) fn of_flag(mut self) -> Self {
        if let Some(field) = self.place.strip_prefix("container.") {
            let name = field.split('[').next().unwrap_or_default().replace('_', "-");
            self.place = format!("docker_command: --{}", name.trim_end_matches('s'));
        }
        self
    }

    /// The sentence without the fix, for reports that carry `fix` apart.
    pub fn message(&self) -> String {
        if self.place.is_empty() {
            format!("{}: {}", self.attribute, self.problem)
        } else {
            format!("{}: {}: {}", self.attribute, self.place, self.problem)
        }
    }
}

/// A [`JobError`] that does not know its place yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    problem: String,
    fix: Option<String>,
}

impl Problem {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: None }
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    pub(super) fn fix_if_none(self, fix: &str) -> Self {
        if self.fix.is_some() { self } else { self.fix(fix) }
    }

    /// With a place in the text.
    pub(super) fn in_place(self, place: &str) -> Self {
        Self { problem: format!("{place}: {}", self.problem), fix: self.fix }
    }

    /// With the likely reason, and what to do about that.
    pub(super) fn because(self, reason: &str, fix: String) -> Self {
        Self { problem: format!("{}: {reason}", self.problem), fix: Some(fix) }
    }

    pub(super) fn at(self, attribute: &'static str, place: impl Into<String>) -> JobError {
        JobError { attribute, place: place.into(), problem: self.problem, fix: self.fix }
    }
}

/// The known name that was probably meant: at most one slip in three letters away.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 40;
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(&name, &known.to_lowercase()), known))
        .filter(|(slips, _)| slips * 3 <= name.len().max(3))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, known)| known)
}

/// The text in quotes, escaped, cut to a length that fits a sentence, and without what may be a secret: the sentence goes to
/// the report, the console and the log.
pub(super) fn quote(text: &str) -> String {
    const MOST_CHARS: usize = 60;
    let text = discreet::without_secrets(text);
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
        None => format!("{text:?}"),
    }
}
