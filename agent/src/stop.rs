//! Stop reasons meet here: signals, preemption and `job-cancel` become one [`StopReason`], the first one wins, and the
//! stop has one clock. (The timeout joins them where its clock is, in the run.)

use std::{io, os::unix::net::UnixStream, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::{
    io::AsyncReadExt,
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    clock::{self, SinceBoot},
    metadata::{Metadata, Watched},
};

/// Why the job is to end before it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StopReason {
    Timeout,
    Cancelled,
    Preempted,
    VmShutdown,
}

/// A stop as the journal keeps it: written before the first signal is sent, so that a restarted agent knows whose
/// signal ended the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    pub reason: StopReason,
    /// When it was asked for, in wall time, for people.
    pub at: String,
    /// The same by the clock that the stop runs on. Where the record holds none, that begins anew.
    #[serde(rename = "since_boot_s", deserialize_with = "since_boot_or_now")]
    pub since_boot: SinceBoot,
}

fn since_boot_or_now<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SinceBoot, D::Error> {
    let time = serde_json::from_value(serde_json::Value::deserialize(deserializer)?);
    Ok(time.unwrap_or_else(|_| SinceBoot::now().unwrap_or_default()))
}

impl Stop {
    /// A stop that is asked for now.
    pub fn now(reason: StopReason) -> Self {
        Self { reason, at: clock::now(), since_boot: SinceBoot::now().unwrap_or_default() }
    }
}

impl StopReason {
    /// What is left until the VM is gone, from the notice on; `None` where the VM stays. A Spot VM has 30 s in all, a
    /// standard one about 90 (<https://cloud.google.com/compute/docs/instances/preemptible>,
    /// <https://cloud.google.com/compute/docs/shutdownscript>).
    pub fn vm_time_left(self) -> Option<Duration> {
        match self {
            Self::Preempted => Some(Duration::from_secs(30)),
            Self::VmShutdown => Some(Duration::from_secs(90)),
            Self::Timeout | Self::Cancelled => None,
        }
    }
}

/// Of the VM's last seconds, those that are kept for the last logs and the report.
pub const REPORT_SHARE: Duration = Duration::from_secs(10);

/// And those that are kept besides for uploading what the job has left, where it is to be.
pub const OUTPUTS_SHARE: Duration = Duration::from_secs(8);

/// How long before the VM's end the agent drops everything but the report.
pub const LAST_MOMENT: Duration = Duration::from_secs(7);

/// The attribute that stops the job, and how long one look at it may take.
const CANCEL: &str = "job-cancel";
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

/// What the agent is told from outside.
#[derive(Clone)]
pub struct Notices {
    notice: watch::Receiver<Notice>,
}

#[derive(Debug, Clone, Default)]
struct Notice {
    /// The first stop that was asked for; later ones change nothing about why and when.
    stop: Option<Stop>,
    /// When the VM will be gone, by the most pressing notice.
    vm_end: Option<Instant>,
    /// The agent is to go and leave the job as it is.
    handover: bool,
}

impl Notices {
    /// Listens to SIGTERM, SIGINT and SIGHUP from now on, and to `preempted` and `job-cancel` on the metadata server. The
    /// listening tasks live as long as the runtime.
    pub fn listen(metadata: &Metadata) -> io::Result<Self> {
        let (notices, notice) = watch::channel(Notice::default());

        let mut hangups = signal_stream(&[SIGHUP])?;
        let sender = notices.clone();
        tokio::spawn(async move {
            while hangups.read_u8().await.is_ok() {
                info!("SIGHUP: leaving the job as it is; the next `vmjob-agent run` carries on");
                sender.send_modify(|notice| notice.handover = true);
            }
        });

        let mut terminations = signal_stream(&[SIGTERM, SIGINT])?;
        let (sender, source) = (notices.clone(), metadata.clone());
        tokio::spawn(async move {
            while terminations.read_u8().await.is_ok() {
                // When it came, and not when it is known why.
                let (asked, at) = (Stop::now(StopReason::VmShutdown), Instant::now());
                tell(&sender, Stop { reason: why_terminated(&source).await, ..asked }, at);
            }
        });

        let (sender, mut preempted) = (notices.clone(), metadata.watch("instance/preempted", Watched::Value));
        tokio::spawn(async move {
            while preempted.next().await.trim_ascii() != b"TRUE" {}
            tell(&sender, Stop::now(StopReason::Preempted), Instant::now());
        });

        let metadata = metadata.clone();
        tokio::spawn(async move {
            until_cancelled(&metadata).await;
            tell(&notices, Stop::now(StopReason::Cancelled), Instant::now());
        });
        Ok(Self { notice })
    }

    /// Of a world that says nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { notice: watch::channel(Notice::default()).1 }
    }

    /// Resolves once there is a reason to stop: with the first there was.
    pub async fn stop(&mut self) -> Stop {
        self.wait_for(|notice| notice.stop.clone()).await
    }

    /// Resolves once the VM is known to end, with the time at which it will be gone.
    pub async fn vm_end(&mut self) -> Instant {
        self.wait_for(|notice| notice.vm_end).await
    }

    /// Resolves when the VM's end is so near that only the report has a place in what is left.
    pub async fn last_moment(&mut self) {
        self.near_vm_end(LAST_MOMENT).await;
    }

    /// Resolves `margin` before the VM's end, which may come closer meanwhile.
    pub async fn near_vm_end(&mut self, margin: Duration) {
        loop {
            let end = self.vm_end().await;
            tokio::select! {
                () = sleep_until(end - margin) => return,
                Ok(()) = self.notice.changed() => {}
            }
        }
    }

    /// Resolves when a third of the time is over that is left until the VM's end, which may come closer meanwhile.
    pub async fn third_of_vm_time(&mut self) {
        loop {
            let left = self.vm_end().await.saturating_duration_since(Instant::now());
            tokio::select! {
                () = sleep(left / 3) => return,
                Ok(()) = self.notice.changed() => {}
            }
        }
    }

    /// The first stop, if one was asked for by now.
    pub fn asked(&self) -> Option<Stop> {
        self.notice.borrow().stop.clone()
    }

    /// When the VM will be gone, as far as is known now.
    pub fn vm_end_now(&self) -> Option<Instant> {
        self.notice.borrow().vm_end
    }

    /// Resolves once the agent is to go and leave the job as it is.
    pub async fn handover(&mut self) {
        self.wait_for(|notice| notice.handover.then_some(())).await;
    }

    async fn wait_for<T>(&mut self, pick: impl Fn(&Notice) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(&self.notice.borrow_and_update()) {
                return picked;
            }
            if self.notice.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn tell(notices: &watch::Sender<Notice>, stop: Stop, at: Instant) {
    notices.send_modify(|notice| {
        if notice.stop.is_none() {
            warn!(reason = stop.reason.cause().name(), "asked to stop the job");
        }
        if let Some(left) = stop.reason.vm_time_left() {
            let end = at + left;
            notice.vm_end = Some(notice.vm_end.map_or(end, |known| known.min(end)));
        }
        notice.stop.get_or_insert(stop);
    });
}

/// A preempted VM gets its SIGTERM too, perhaps before the watch has seen the flag: ask once, briefly.
async fn why_terminated(metadata: &Metadata) -> StopReason {
    match metadata.get_once("instance/preempted", Duration::from_secs(1)).await {
        Ok(Some(flag)) if flag.trim_ascii() == b"TRUE" => StopReason::Preempted,
        _ => StopReason::VmShutdown,
    }
}

/// Resolves once `job-cancel` is set. A key that is not there cannot be watched, so the directory is; where that cannot be read, the
/// key itself is asked for.
async fn until_cancelled(metadata: &Metadata) {
    let mut attributes = metadata.watch("instance/attributes/", Watched::Directory);
    let mut has_warned = false;
    loop {
        let problem = match attributes.try_next().await {
            Ok(text) => match serde_json::from_slice::<Value>(&text) {
                Ok(attributes) if is_true(attributes[CANCEL].as_str()) => return,
                Ok(_) => continue,
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        debug!("failed to watch the VM's attributes: {problem}");
        let answer = metadata.get_once(&format!("instance/attributes/{CANCEL}"), CANCEL_DEADLINE).await;
        if answer.is_ok() && !has_warned {
            has_warned = true;
            warn!(
                "failed to read the VM's attributes as a whole: {problem}; asking for `{CANCEL}` alone, each minute at least"
            );
        }
        if let Ok(Some(value)) = answer
            && is_true(str::from_utf8(&value).ok())
        {
            return;
        }
    }
}

fn is_true(value: Option<&str>) -> bool {
    let is_around = |c: char| c.is_whitespace() || c == '\u{feff}';
    value.is_some_and(|value| value.trim_matches(is_around).eq_ignore_ascii_case("true"))
}

/// A stream that gives a byte for each of `signals`.
fn signal_stream(signals: &[i32]) -> io::Result<tokio::net::UnixStream> {
    let (receiver, sender) = UnixStream::pair()?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, sender.try_clone()?)?;
    }
    receiver.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(receiver)
}
