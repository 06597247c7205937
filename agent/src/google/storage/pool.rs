//! Transfers side by side, a few at once.

use std::pin::pin;

use futures_util::{StreamExt, stream::FuturesUnordered};

/// How many are under way at once.
const MOST: usize = 8;

/// Transfers that are under way. Dropped, they stop where they are.
pub struct Pool<F>(FuturesUnordered<F>);

impl<F: Future> Pool<F> {
    pub fn new() -> Self {
        Self(FuturesUnordered::new())
    }

    /// Begins another; where there are enough, waits for one of them first, whose outcome is returned.
    pub async fn add(&mut self, transfer: F) -> Option<F::Output> {
        let ended = if self.0.len() >= MOST { self.0.next().await } else { None };
        self.0.push(transfer);
        ended
    }

    /// Waits for other work, while they go on; returns the outcomes of those that ended meanwhile too.
    pub async fn beside<T>(&mut self, work: impl Future<Output = T>) -> (T, Vec<F::Output>) {
        let (mut work, mut outcomes) = (pin!(work), Vec::new());
        loop {
            tokio::select! {
                biased;
                done = &mut work => return (done, outcomes),
                Some(outcome) = self.0.next() => outcomes.push(outcome),
            }
        }
    }

    /// Waits for the next one to end; `None` when there are no more.
    pub async fn next(&mut self) -> Option<F::Output> {
        self.0.next().await
    }
}

impl<F: Future> Default for Pool<F> {
    fn default() -> Self {
        Self::new()
    }
}
