//! The report on its way out: to stdout, and to the callback endpoint until it is taken, or never will be.

use std::{io::Write, time::Duration};

use tokio::{sync::oneshot, time::timeout};
use tracing::warn;

use super::Run;
use crate::{
    console::REPORT_MARK,
    delivery::{self, Delivery, End, default_give_up_after},
    gate::Outgoing,
    job::CallbackAuth,
    marker::Sent,
    threads,
};

/// How long the report waits for the reader of stdout.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// Exited → Delivered. `None` if the VM's time ran out first: the next run goes on.
    pub(super) async fn deliver(&mut self) -> Option<End> {
        let Some(report) = self.record.report.clone() else {
            return Some(End::GaveUp("the journal holds no report".into()));
        };
        self.note_begun().await;
        if self.record.delivery.tries == 0 {
            announce(&report).await;
        }
        let job = self.job();
        let auth = job.as_ref().map_or(CallbackAuth::AccessToken, |job| job.callback.auth.clone());
        let url = match self.endpoint(&auth) {
            Ok(Some(url)) => url,
            Ok(None) => return Some(End::NotWanted),
            Err(error) => {
                warn!("the report could not be delivered: {error}");
                return Some(End::GaveUp(error.to_string()));
            }
        };
        let run = Duration::try_from_secs_f64(self.record.attempt.run_s.unwrap_or_default()).unwrap_or_default();
        let give_up_after =
            job.and_then(|job| job.callback.give_up_after).unwrap_or_else(|| default_give_up_after(run));
        let delivery = Delivery { http: &self.http, metadata: &self.metadata, url: &url, auth: &auth, give_up_after };

        let mut progress = self.record.delivery.clone();
        let (journal, record) = (&self.journal, &self.record);
        let save = |progress: &crate::delivery::Progress| {
            let mut record = record.clone();
            record.delivery = progress.clone();
            if let Err(error) = journal.save(&record) {
                warn!("failed to write the delivery's progress down: {error}");
            }
        };
        let mut notices = self.notices.clone();
        let end = tokio::select! {
            end = delivery.deliver(&report, &mut progress, save) => Some(end),
            () = notices.near_vm_end(Duration::from_secs(1)) => {
                warn!("the VM is going down with the report not delivered; the next `vmjob-agent run` carries on");
                None
            }
        };
        self.record.delivery = progress;
        end.map(|end| match end {
            End::GaveUp(why) => End::GaveUp(self.gate.text(&why)),
            end => end,
        })
    }

    /// Before the report leaves: a journal that is lost after this costs no second report.
    async fn note_begun(&self) {
        if self.record.preflight.cannot_report {
            return;
        }
        if let Err(error) = self.marker.set(Sent::Begun) {
            warn!("failed to write down that the report is being sent: {error}");
            delivery::note_elsewhere(&self.metadata, &self.record.claim).await;
        }
    }

    /// The report is out, or given up for good, whatever becomes of the journal.
    pub(super) fn note_settled(&self) {
        // A VM that could not report may be mended, and run the job then.
        if !self.record.preflight.cannot_report
            && let Err(error) = self.marker.set(Sent::Settled)
        {
            warn!("failed to write down that the report is out: {error}");
        }
        self.panics.clear();
    }
}

/// The report as one line on stdout, for the serial console and journald. By a thread, as both may stand still, and then the report is to go
/// out nevertheless.
async fn announce(report: &Outgoing) {
    let line = format!("{REPORT_MARK}{}\n", report.as_str());
    let (done, written) = oneshot::channel();
    threads::spawn(move || {
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()) {
            warn!("failed to write the report to stdout: {error}");
        }
        let _ = done.send(());
    });
    if timeout(ANNOUNCE_PATIENCE, written).await.is_err() {
        warn!("nobody reads stdout: the report is sent before it is there");
    }
}
