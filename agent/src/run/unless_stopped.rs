//! Work before the job runs, which a stop ends: with it goes what the agent was waiting for.

use tokio::time::{Duration, sleep};

use super::{Cut, Run};
use crate::outcome::Failure;

impl Run<'_> {
    /// Does `work` unless there is a reason to stop, which is written down then. `work` has `grace` left to end, and is dropped
    /// where it stands.
    pub(super) async fn unless_stopped<T, F: Into<Failure>>(
        &mut self,
        grace: Duration,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, F>,
    ) -> Result<T, Cut> {
        let mut notices = self.notices.clone();
        let waits = self.waits.clone();
        let stop = async {
            let stop = notices.stop().await;
            let mut waiting = waits.told();
            // Even a sleep of nothing would let work that is done at once pass.
            if !grace.is_zero() {
                sleep(grace).await;
                // A call that had only just begun may be one that is never answered.
                waiting = waiting.or_else(|| waits.told());
            }
            (stop, waiting)
        };
        let (stop, waiting) = tokio::select! {
            biased;
            stop = stop => stop,
            result = work(self) => return result.map_err(Cut::from),
        };
        if let Some(waiting) = waiting {
            self.note(&format!("nothing of the job had run when the stop came: the agent was {waiting}"));
        }
        self.note_stop(stop)?;
        Err(Cut::Stopped)
    }
}
