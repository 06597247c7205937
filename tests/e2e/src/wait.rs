//! Waiting for something to become true, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Longer than anything takes on a busy machine: reached only by what will never come.
pub const DEADLINE: Duration = Duration::from_mins(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `look` until it finds something, and returns that. `what` is named when it never does.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, look).await
}

/// The same with a deadline of its own.
pub async fn until_within<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {} s for {what}", deadline.as_secs());
        sleep(PAUSE).await;
    }
}
