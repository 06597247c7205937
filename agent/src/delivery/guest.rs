//! The channel that needs no callback: the VM's guest attributes `vmjob/state`, `vmjob/heartbeat` and `vmjob/report`, which
//! whoever may read the instance can look at. Written by a task of its own, so that nothing ever waits for it.
//! Source: <https://cloud.google.com/compute/docs/metadata/manage-guest-attributes>.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    clock,
    gate::Outgoing,
    marker::Sent,
    metadata::{Metadata, MetadataError},
};

const HEARTBEAT_INTERVAL: Duration = Duration::from_mins(1);
/// The server takes ten writes a minute from a VM; two are left to others.
const MAX_WRITES: usize = 8;
/// Of these the last are kept for the report and the state after it, however often the state changes before.
const KEPT_WRITES: usize = 2;
const WRITES_WINDOW: Duration = Duration::from_mins(1);
/// After a write that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// The writer of the VM's guest attributes. Where the VM has none, it notices once and is quiet.
pub struct GuestAttributes {
    updates: UnboundedSender<(&'static str, Bytes)>,
    task: JoinHandle<()>,
}

impl GuestAttributes {
    pub fn start(metadata: &Metadata) -> Self {
        let (updates, queue) = unbounded_channel();
        let writer = Writer { metadata: metadata.clone(), pending: BTreeMap::new(), written: VecDeque::new() };
        Self { updates, task: tokio::spawn(writer.run(queue)) }
    }

    pub fn set_state(&self, state: &'static str) {
        // The task may have ended: the VM has no guest attributes.
        let _ = self.updates.send(("state", state.into()));
    }

    pub fn set_report(&self, report: &Outgoing) {
        let _ = self.updates.send(("report", Bytes::copy_from_slice(report.as_str().as_bytes())));
    }

    /// Waits, for at most `patience`, until all is written.
    pub async fn finish(self, patience: Duration) {
        drop(self.updates);
        let _ = timeout(patience, self.task).await;
    }
}

/// Where a VM that can write nothing down keeps which job's report was being sent, across a reboot: the job's claim.
const REPORTED: &str = "instance/guest-attributes/vmjob/reported";
/// One read or write of it.
const REPORTED_DEADLINE: Duration = Duration::from_secs(2);

/// Whether the guest attributes say that the report of the job with this claim left the VM.
pub async fn reported_elsewhere(metadata: &Metadata, claim: &str) -> Sent {
    match metadata.get_once(REPORTED, REPORTED_DEADLINE).await {
        Ok(Some(value)) if value.trim_ascii() == claim.as_bytes() => Sent::Begun,
        _ => Sent::No,
    }
}

/// Writes that into the guest attributes, where the VM has them.
pub async fn note_elsewhere(metadata: &Metadata, claim: &str) {
    let write = metadata.put(REPORTED, Bytes::copy_from_slice(claim.as_bytes()));
    if !matches!(timeout(REPORTED_DEADLINE, write).await, Ok(Ok(()))) {
        warn!("nothing remembers that the report is being sent: after a reboot the job may be reported again");
    }
}

struct Writer {
    metadata: Metadata,
    /// The newest value of each key that has not been written: older ones are of no use to anybody.
    pending: BTreeMap<&'static str, Bytes>,
    /// When the latest writes were made, [`MAX_WRITES`] of them at the most.
    written: VecDeque<Instant>,
}

impl Writer {
    /// Ends when the queue has ended and all is written, or when there is nothing to write to.
    async fn run(mut self, mut queue: UnboundedReceiver<(&'static str, Bytes)>) {
        let mut heartbeat_at = Instant::now();
        let mut retry_at = heartbeat_at;
        let mut open = true;
        while open || !self.pending.is_empty() {
            let is_last = !open || self.pending.contains_key("report");
            let allowed = if is_last { MAX_WRITES } else { MAX_WRITES - KEPT_WRITES };
            let write_at = retry_at.max(self.allowed_at(allowed).unwrap_or(retry_at));
            tokio::select! {
                biased;
                update = queue.recv(), if open => match update {
                    Some((key, value)) => {
                        self.pending.insert(key, value);
                    }
                    None => open = false,
                },
                () = sleep_until(heartbeat_at), if open => {}
                () = sleep_until(write_at), if !self.pending.is_empty() => {}
            }
            let now = Instant::now();
            if open && now >= heartbeat_at {
                heartbeat_at = now + HEARTBEAT_INTERVAL;
                self.pending.insert("heartbeat", clock::now().into());
            }
            if now < write_at {
                continue;
            }
            // The report is what somebody may be waiting for.
            if let Some(key) = ["report", "state", "heartbeat"].into_iter().find(|key| self.pending.contains_key(key)) {
                match self.write(key).await {
                    Ok(()) => {}
                    Err(MetadataError::Refused { status: StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, .. }) => {
                        info!(
                            "this VM has no guest attributes (enable-guest-attributes=TRUE): state and report do not go there"
                        );
                        return;
                    }
                    Err(error) => {
                        debug!("{error}; writing vmjob/{key} again later");
                        retry_at = Instant::now() + RETRY_PAUSE;
                    }
                }
            }
        }
    }

    async fn write(&mut self, key: &'static str) -> Result<(), MetadataError> {
        let Some(value) = self.pending.get(key).cloned() else { return Ok(()) };
        self.written.push_back(Instant::now());
        if self.written.len() > MAX_WRITES {
            self.written.pop_front();
        }
        self.metadata.put(&format!("instance/guest-attributes/vmjob/{key}"), value).await?;
        self.pending.remove(key);
        Ok(())
    }

    /// When the next write is one of so many within the window; `None` if it is now.
    fn allowed_at(&self, most: usize) -> Option<Instant> {
        self.written.len().checked_sub(most).map(|first| self.written[first] + WRITES_WINDOW)
    }
}
