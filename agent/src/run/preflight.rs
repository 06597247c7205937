//! The look at whether the report will get out, beside the wait for the engine.

use hyper::Uri;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::Run;
use crate::{checks::Preflight, job::CallbackAuth, journal::Preflighted, outcome::Failure};

/// The checks under way; `None` where they were made before.
pub(super) type Looking = Option<JoinHandle<(Preflighted, Result<(), Failure>)>>;

impl Run<'_> {
    /// Begins to look. `url`: where the report is to go.
    pub(super) fn begin_preflight(&self, url: Option<Uri>, auth: &CallbackAuth) -> Looking {
        let Preflighted { is_done, cannot_report, .. } = self.record.preflight;
        if is_done && !cannot_report {
            return None;
        }
        let preflight = Preflight {
            http: self.http.clone(),
            metadata: self.metadata.clone(),
            vm: self.record.vm.clone(),
            callback: url.map(|url| (url, auth.clone())),
            state_dir: self.journal.dir().to_owned(),
        };
        Some(tokio::spawn(preflight.run()))
    }

    /// Waits for what was found, and writes it down.
    pub(super) async fn heed_preflight(&mut self, looking: Looking) -> Result<(), Failure> {
        let Some(looking) = looking else { return Ok(()) };
        let (found, verdict) =
            looking.await.map_err(|error| Failure::Agent(format!("the preflight failed: {error}")))?;
        for warning in &found.warnings {
            warn!("{warning}");
        }
        if found.warnings.is_empty() && verdict.is_ok() {
            info!("nothing is in the way of the report");
        }
        self.record.preflight = found;
        self.save_if_possible();
        verdict
    }
}
