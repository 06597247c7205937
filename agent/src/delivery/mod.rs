//! Getting the report out: the same bytes are POSTed until they are taken, or will never be. What goes in is on disk
//! already; what comes out is how it went.

mod answer;
mod guest;
mod obstacle;

use std::time::Duration;

use bytes::Bytes;
use hyper::{Request, Uri, header};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use self::answer::{Verdict, judge};
pub use self::{
    guest::{GuestAttributes, note_elsewhere, reported_elsewhere},
    obstacle::Obstacle,
};
use crate::{
    gate::{Outgoing, Tree},
    http::{Answer, Http},
    job::CallbackAuth,
    metadata::{Metadata, Token, TokenError},
    retry::Delays,
};

/// What the callback's URL is called where it is refused.
pub const CALLBACK_URL: &str = "`callback-url`";

/// One POST, from the connection to the answer.
const TRY_DEADLINE: Duration = Duration::from_secs(30);
/// What is read of an answer that nobody needs: enough for an error's text.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How long a refusal's reason is looked for.
const OBSTACLE_PATIENCE: Duration = Duration::from_secs(5);
/// How much longer than usual a slow retry waits.
const SLOW_RETRY: Duration = Duration::from_secs(15);

/// How far the delivery has come; kept in the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub tries: u32,
    /// A try was begun and nothing has been heard of it: should the agent die now, its answer never came.
    in_flight: bool,
    /// The answer of some try never came, so the endpoint may hold the report.
    unanswered: bool,
    /// The endpoint could not take the whole report; now it gets the one without log texts.
    shrunk: bool,
    /// The time spent trying, restarts included, in seconds.
    spent_s: f64,
    pub end: Option<End>,
}

impl Progress {
    /// Without a time that cannot be.
    #[must_use]
    pub fn plausible(self) -> Self {
        let spent_s = if (0.0..=3.2e9).contains(&self.spent_s) { self.spent_s } else { 0.0 };
        Self { spent_s, ..self }
    }
}

/// How the delivery ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Delivered,
    /// There was no callback URL to deliver to.
    NotWanted,
    GaveUp(String),
}

/// Where and how to deliver.
pub struct Delivery<'a> {
    pub http: &'a Http,
    pub metadata: &'a Metadata,
    pub url: &'a Uri,
    pub auth: &'a CallbackAuth,
    /// From the first try on.
    pub give_up_after: Duration,
}

impl Delivery<'_> {
    /// Sends `report` until it is delivered or given up. Before each try `save` is called with the progress, to be put on
    /// disk. May be dropped at any time: from the saved progress another call goes on.
    pub async fn deliver(&self, report: &Outgoing, progress: &mut Progress, mut save: impl FnMut(&Progress)) -> End {
        if progress.in_flight {
            progress.unanswered = true;
        }
        let began = Instant::now();
        let spent_before = progress.spent_s;
        let mut delays = Delays::new(Duration::from_secs(1), Duration::from_mins(1));
        loop {
            let small = if progress.shrunk { without_logs(report) } else { None };
            let body = Bytes::copy_from_slice(small.as_ref().unwrap_or(report).as_str().as_bytes());
            progress.tries = progress.tries.saturating_add(1);
            progress.in_flight = true;
            save(progress);
            let answer = self.post(body).await;
            progress.in_flight = false;

            let usual = delays.next().unwrap_or_default();
            let (problem, delay) = match answer {
                Ok(answer) => match judge(answer.status, progress.unanswered) {
                    Verdict::Delivered => {
                        info!(tries = progress.tries, status = answer.status.as_u16(), "the report was delivered");
                        return End::Delivered;
                    }
                    Verdict::Stop(why) => return gave_up(format!("{}: {why}", answered(&answer))),
                    Verdict::Shrink if progress.shrunk => {
                        return gave_up(format!("{}, also without log texts", answered(&answer)));
                    }
                    Verdict::Shrink => {
                        progress.shrunk = true;
                        (format!("{}; trying once more without log texts", answered(&answer)), Duration::ZERO)
                    }
                    Verdict::Retry(advice) => {
                        let delay = answer.retry_after().map_or(usual, |wanted| wanted.max(usual));
                        let advice = advice.map(|advice| format!(": {advice}")).unwrap_or_default();
                        (format!("{}{advice}", answered(&answer)), delay)
                    }
                    Verdict::RetrySlowly(advice) => {
                        if let Ok(Some(obstacle)) = Obstacle::find(self.metadata, self.auth, OBSTACLE_PATIENCE).await {
                            return gave_up(format!("{}: {obstacle}", answered(&answer)));
                        }
                        let delay = usual + SLOW_RETRY;
                        (
                            format!("{}: {advice}", answered(&answer)),
                            answer.retry_after().map_or(delay, |wanted| wanted.max(delay)),
                        )
                    }
                },
                Err(PostError::Token(TokenError::NoServiceAccount)) => {
                    return gave_up(format!(
                        "{}; create the VM with a service account that has the permission \
                         `workflows.callbacks.send`, and the scope `cloud-platform`",
                        TokenError::NoServiceAccount
                    ));
                }
                Err(PostError::Token(error)) => (format!("no token: {error}"), usual),
                Err(PostError::Http { reason, may_have_arrived }) => {
                    progress.unanswered |= may_have_arrived;
                    (reason, usual)
                }
            };

            let spent = spent_before + began.elapsed().as_secs_f64();
            progress.spent_s = spent;
            let left = self.give_up_after.as_secs_f64() - spent;
            if left <= 0.0 {
                return gave_up(format!("{problem}, after {} tries in {spent:.0} s", progress.tries));
            }
            // However long an answer asks us to wait, the last try is within the time.
            let delay = delay.min(Duration::try_from_secs_f64(left).unwrap_or(delay));
            warn!(
                tries = progress.tries,
                "the report is not out yet: {problem}; next try in {:.1} s",
                delay.as_secs_f32()
            );
            sleep(delay).await;
        }
    }

    async fn post(&self, body: Bytes) -> Result<Answer, PostError> {
        let mut request = Request::post(self.url.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = self.token().await? {
            let bearer = token.bearer().map_err(|_| TokenError::Malformed)?;
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let http_error = |reason: String, may_have_arrived| PostError::Http { reason, may_have_arrived };
        let request = request.body(body).map_err(|error| http_error(error.to_string(), false))?;
        self.http
            .send(request, TRY_DEADLINE, MAX_ANSWER_BYTES)
            .await
            .map_err(|error| http_error(error.to_string(), error.may_have_arrived))
    }

    async fn token(&self) -> Result<Option<Token>, TokenError> {
        match self.auth {
            CallbackAuth::None => Ok(None),
            CallbackAuth::AccessToken => self.metadata.access_token().await.map(Some),
            CallbackAuth::IdToken { audience } => {
                let url = self.url.to_string();
                self.metadata.identity_token(audience.as_deref().unwrap_or(&url)).await.map(Some)
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("{reason}")]
    Http { reason: String, may_have_arrived: bool },
}

/// How long to go on trying where the job does not say: the larger of an hour and a tenth of the run time, a day at most.
pub fn default_give_up_after(run: Duration) -> Duration {
    (run / 10).clamp(Duration::from_hours(1), Duration::from_hours(24))
}

fn gave_up(reason: String) -> End {
    warn!("the report could not be delivered: {reason}");
    End::GaveUp(reason)
}

fn answered(answer: &Answer) -> String {
    let body = answer.body.as_deref().unwrap_or_default();
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]).replace(['\n', '\r'], " ");
    let text = text.trim();
    if text.is_empty() {
        format!("the callback endpoint answered {}", answer.status)
    } else {
        format!("the callback endpoint answered {} ({text})", answer.status)
    }
}

/// A report once more with the log texts dropped, for an endpoint that finds it too large or cannot read it. `None` if there
/// is nothing to drop.
pub(crate) fn without_logs(report: &Outgoing) -> Option<Outgoing> {
    let small = report.without(|tree| {
        let Some(logs) = tree.field("logs") else { return };
        for text in ["head", "tail"] {
            if let Some(text) = logs.field(text) {
                *text = Tree::Text(String::new());
            }
        }
        if let Some(errors) = logs.field("errors").and_then(Tree::items) {
            errors.clear();
        }
    });
    (small.as_str().len() < report.as_str().len()).then_some(small)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patience_grows_with_the_job() {
        let hours = Duration::from_hours;
        for (run, patience) in [(0, 1), (5, 1), (20, 2), (240, 24), (2400, 24)] {
            assert_eq!(default_give_up_after(hours(run)), hours(patience), "{run} h");
        }
    }
}
