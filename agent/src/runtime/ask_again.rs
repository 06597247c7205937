//! A question that is not answered is asked again beside the first: an engine may lose one and answer the next at once, and one that is
//! overloaded answers the first after all.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{interval, timeout};

use super::EngineError;

/// After so long the question is asked once more, beside those before it.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(15);

/// The first answer to come within `deadline`. The question has to be one that changes nothing.
pub(super) async fn ask_again<T, F>(
    call: &'static str,
    deadline: Duration,
    ask: impl Fn() -> F,
) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let answer = async {
        let mut turns = interval(ASK_AGAIN_AFTER);
        let mut asked = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = turns.tick() => asked.push(ask()),
                Some(answer) = asked.next() => return answer,
            }
        }
    };
    timeout(deadline, answer).await.unwrap_or(Err(EngineError::Late { call, deadline }))
}
