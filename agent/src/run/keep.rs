//! `keep-on-failure`: after the report of a failed job its container and the VM stay as they are for a while. The end is in the
//! record, so that a restarted agent keeps to it. A stop ends it early: it is the VM's end, or somebody who needs it no longer.

use serde_json::Value;
use tokio::time::sleep;
use tracing::info;

use super::Run;
use crate::gate::Outgoing;

impl Run<'_> {
    /// The report is out, or given up: from now on the time runs. It gets to the disk with the next save.
    pub(super) fn begin_keeping(&mut self) {
        let has_failed = self.record.report.as_ref().is_some_and(has_failed);
        let keep = self.record.keep.take().filter(|_| has_failed);
        self.record.keep = keep.map(|mut keep| {
            keep.begin(&self.boot_id);
            keep
        });
    }

    /// Waits until what is left of the job may go.
    pub(super) async fn keep(&mut self) {
        let Some(keep) = self.record.keep.take() else { return };
        if let (Some(until), left) = (&keep.until, keep.left(&self.boot_id)) {
            info!("keep-on-failure: the container and the VM stay until {}; a job-cancel ends that", until.at);
            self.service.status(&format!("job {}: failed, kept until {}", self.record.job_id, until.at));
            let mut notices = self.notices.clone();
            tokio::select! {
                biased;
                stop = notices.stop() => info!("{}: no longer kept", stop.reason.cause().name()),
                () = sleep(left) => info!("kept long enough"),
            }
        }
        // A restart after this does not begin to keep again.
        self.save_if_possible();
    }
}

fn has_failed(report: &Outgoing) -> bool {
    serde_json::from_str::<Value>(report.as_str()).is_ok_and(|report| report["state"] == "FAILED")
}
