//! How long a call is made again.

use std::{fmt::Display, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::{retry::Delays, waits::Waits};

/// The tries of one call: until when, and the pauses between.
pub struct Patience {
    all: Duration,
    end: Instant,
    delays: Delays,
    tries: u32,
    waits: Waits,
}

impl Patience {
    pub(super) fn new(all: Duration, waits: &Waits) -> Self {
        Self { all, end: Instant::now() + all, delays: delays(all), tries: 0, waits: waits.clone() }
    }

    /// After a try that failed with `error`: waits for the next one; false where there is none. `retry`: after how long, at
    /// least, another may do better.
    pub async fn lasts(&mut self, error: &(dyn Display + Sync), retry: Option<Duration>) -> bool {
        let now = Instant::now();
        let Some(wait) = retry.filter(|_| now < self.end) else { return false };
        // The last try comes at the end, whatever the delay, and whatever the API asks for.
        let delay = self.delays.next().unwrap_or_default().max(wait).min(self.end - now);
        self.tries += 1;
        self.waits.failed(error);
        if self.tries == 3 {
            warn!("{error}; still trying for {} s", self.all.as_secs());
        } else {
            debug!("{error}; trying again");
        }
        sleep(delay).await;
        true
    }

    /// Resets the deadline and the back-off after progress.
    pub fn moved(&mut self) {
        (self.end, self.delays, self.tries) = (Instant::now() + self.all, delays(self.all), 0);
    }
}

fn delays(all: Duration) -> Delays {
    Delays::new(Duration::from_millis(500), Duration::from_secs(30).min(all / 10))
}
