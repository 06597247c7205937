//! Transfers side by side, a few at once.

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
