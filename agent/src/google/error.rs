//! What a call to one of Google's APIs may fail with, and the one table that says whether to call again.

use std::time::Duration;

use serde_json::Value;

use crate::{http::Answer, metadata::TokenError};

/// What is shown of an API's own words.
const MAX_TEXT_BYTES: usize = 300;

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The API answered with an error.
    #[error("{api} answered {status}{}", in_brackets(text))]
    Answered {
        api: &'static str,
        status: u16,
        /// Its words for people.
        text: String,
        /// After how long, at least, the same call may do better; `None` if it never will.
        retry: Option<Duration>,
    },
    /// No answer came, or only a part of one.
    #[error("{0}")]
    Broken(String),
    /// The request cannot be made, or may not be sent there.
    #[error("{0}")]
    Refused(String),
    #[error("{}", TokenError::NoServiceAccount)]
    NoAccount,
}

impl CallError {
    pub(super) fn of(api: &'static str, answer: &Answer) -> Self {
        let body = answer.body.as_deref().unwrap_or_default();
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &value["error"];
        let body = String::from_utf8_lossy(body);
        let text = error["message"].as_str().unwrap_or(&body);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let status = answer.status.as_u16();
        let is_transient = is_transient(status, error["errors"][0]["reason"].as_str().unwrap_or_default());
        Self::Answered {
            api,
            status,
            text: text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned(),
            retry: is_transient.then(|| answer.retry_after().unwrap_or_default()),
        }
    }

    pub(super) fn broken(problem: &impl ToString) -> Self {
        Self::Broken(problem.to_string())
    }

    pub(super) fn refused(problem: &impl ToString) -> Self {
        Self::Refused(problem.to_string())
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the service account may not do this, for want of an access scope.
    pub fn is_without_scope(&self) -> bool {
        matches!(self, Self::Answered { status: 403, text, .. } if text.contains("scope"))
    }

    /// After how long, at least, the same call may do better; `None` if it never will.
    pub fn retry(&self) -> Option<Duration> {
        match self {
            Self::Answered { retry, .. } => *retry,
            Self::Broken(_) => Some(Duration::ZERO),
            Self::Refused(_) | Self::NoAccount => None,
        }
    }
}

/// A reason decides before the status does: 403 is also what too many calls are answered with. 401 is a token that has just
/// expired, or that the API does not know yet.
/// Sources: <https://cloud.google.com/storage/docs/retry-strategy>, <https://cloud.google.com/compute/docs/errors>.
fn is_transient(status: u16, reason: &str) -> bool {
    match reason {
        "rateLimitExceeded" | "userRateLimitExceeded" | "resourceNotReady" => true,
        _ => matches!(status, 401 | 408 | 429 | 500..=599),
    }
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn an_answer_says_what_it_is_and_whether_to_call_again() {
        let error = |status, body: &'static str| {
            let (status, headers) = (StatusCode::from_u16(status).unwrap(), HeaderMap::new());
            CallError::of("Cloud X", &Answer { status, headers, body: Ok(Bytes::from_static(body.as_bytes())) })
        };
        for (status, body, shown, is_transient) in [
            (503, "", "Cloud X answered 503", true),
            (401, "", "Cloud X answered 401", true),
            (400, r#"{"error": {"message": "no\n  good"}}"#, "Cloud X answered 400 (no good)", false),
            (403, "<p>denied", "Cloud X answered 403 (<p>denied)", false),
            (
                403,
                r#"{"error": {"message": "slow down", "errors": [{"reason": "rateLimitExceeded"}]}}"#,
                "Cloud X answered 403 (slow down)",
                true,
            ),
        ] {
            let error = error(status, body);
            assert_eq!((error.to_string().as_str(), error.retry().is_some()), (shown, is_transient));
        }
    }
}
