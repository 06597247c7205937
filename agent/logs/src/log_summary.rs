//! The log as the report shows it.

use serde::Serialize;

use crate::{Lost, errors::Window, text::Text};

/// The log as the report shows it. `head` and `tail` are its two ends, both streams together; of a short log they overlap.
/// `omitted_bytes` are in neither; `lost_bytes` no longer exist and are in no other count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub stdout_lines: u64,
    pub stderr_lines: u64,
    pub(crate) head: Text,
    pub(crate) tail: Text,
    pub(crate) errors: Vec<Window>,
    pub(crate) omitted_bytes: u64,
    #[serde(rename = "lost_bytes", serialize_with = "Lost::serialize_count")]
    pub(crate) lost: Lost,
    /// Where the whole of it is.
    pub uri: Option<String>,
    /// What a terminal would show of the log in the end, so without colours and what was written over.
    #[serde(skip)]
    pub(crate) shown_bytes: u64,
}

impl LogSummary {
    /// What was gone before it could be read: by so much the counts are less than what the job wrote.
    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    /// Counts as lost what has turned out to be so after the log's end.
    pub fn add_lost(&mut self, lost: Lost) {
        self.lost.add(lost);
    }

    /// How many bytes the texts take.
    pub fn text_bytes(&self) -> usize {
        let errors: usize = self.errors.iter().map(|error| error.text.len()).sum();
        self.head.text.len() + self.tail.text.len() + errors
    }

    /// The end of the log, as it is shown.
    pub fn end_text(&self) -> &str {
        &self.tail.text
    }

    /// The same log in at most `budget` bytes of text. The end of the log is the last to go.
    #[must_use]
    pub fn within(&self, budget: usize) -> Self {
        if self.text_bytes() <= budget {
            return self.clone();
        }
        let mut left = budget - budget / 2;
        let errors = self.errors.iter().take_while(|error| {
            let fits = error.text.len() <= left / 2;
            left -= if fits { error.text.len() } else { 0 };
            fits
        });
        let errors = errors.cloned().collect();
        let head = Text::beginning(self.head.text.as_bytes(), left.min(budget / 4));
        let tail = Text::end(self.tail.text.as_bytes(), budget / 2, true);
        Self { head, tail, errors, ..self.clone() }.with_omitted()
    }

    /// The same log with none of its text.
    #[must_use]
    pub fn withheld(self) -> Self {
        let omitted_bytes = self.stdout_bytes + self.stderr_bytes;
        Self { head: Text::default(), tail: Text::default(), errors: Vec::new(), omitted_bytes, ..self }
    }

    /// The same log, each text through `mask`: what was apart when it came may have come together since.
    #[must_use]
    pub fn masked(mut self, mask: impl Fn(&str) -> String) -> Self {
        let errors = self.errors.iter_mut().map(|error| &mut error.text);
        for text in [&mut self.head.text, &mut self.tail.text].into_iter().chain(errors) {
            *text = mask(text);
        }
        self
    }

    pub(crate) fn with_omitted(mut self) -> Self {
        let shown = self.head.raw_bytes + self.tail.raw_bytes;
        self.omitted_bytes = self.shown_bytes.saturating_sub(shown);
        self
    }
}
