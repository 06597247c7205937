//! The delays between tries: exponential back-off with full jitter. The one place that touches the
//! `backoff` crate, which is unmaintained (RUSTSEC-2025-0012).

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// An endless row of delays: the n-th lies anywhere between zero and `first · 2ⁿ`, or `longest` where that is less.
/// How long to go on is the caller's to bound.
pub struct Delays(ExponentialBackoff);

impl Delays {
    pub fn new(first: Duration, longest: Duration) -> Self {
        // A randomization factor of 1 spreads each delay over 0 to twice the interval: full jitter over twice the
        // half. Without `None` the crate would stop after 15 minutes and a report would be dropped.
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(first / 2)
                .with_max_interval(longest / 2)
                .with_multiplier(2.0)
                .with_randomization_factor(1.0)
                .with_max_elapsed_time(None)
                .build(),
        )
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next_backoff()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_are_spread_and_stay_bounded() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_mins(1));
        let rows: Vec<Vec<Duration>> = (0..200).map(|_| Delays::new(first, longest).take(12).collect()).collect();
        assert!(rows.iter().all(|row| row[0] <= first));
        assert!(rows.iter().flatten().all(|delay| *delay <= longest));
        assert!(rows.iter().any(|row| row[11] > longest / 2), "late delays use the whole range");
        assert!(rows.iter().any(|row| row[11] < longest / 10), "late delays are jittered down to nothing");
    }
}
