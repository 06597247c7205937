//! Clients of the engine that follow a job's log, watched from outside.

use std::process::Stdio;

use tokio::{io::AsyncReadExt, process::Command};

use crate::{Result, agent::cost_of};

/// What following a job took, and how many of its bytes came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) wall_s: f64,
    /// From the job's start to its end, as the engine says.
    pub(crate) run_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) peak_rss_kb: u64,
    /// `None` where nobody followed.
    pub(crate) bytes: Option<u64>,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.wall_s += other.wall_s;
        self.run_s += other.run_s;
        self.cpu_s += other.cpu_s;
        self.peak_rss_kb = self.peak_rss_kb.max(other.peak_rss_kb);
        self.bytes = other.bytes.map(|bytes| bytes + self.bytes.unwrap_or_default());
    }

    /// Of which container.
    pub(crate) fn of(self, container: String) -> (String, Self) {
        (container, self)
    }
}

/// Runs a client to its end and counts what it prints. `is_raw`: in the engine's frames, of eight bytes and as many as they say.
pub(crate) async fn watch(program: &str, arguments: &[&str], is_raw: bool) -> Result<Seen> {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let pid = child.id().ok_or("the client has no process id")?;
    let mut output = child.stdout.take().ok_or("the client has no output")?;
    let count = async {
        let (mut buffer, mut bytes, mut frame) = (vec![0; 64 * 1024], 0, Frames::default());
        loop {
            match output.read(&mut buffer).await? {
                0 => return Ok::<u64, std::io::Error>(bytes),
                length if is_raw => bytes += frame.payload(&buffer[..length]),
                length => bytes += length as u64,
            }
        }
    };
    let (cost, bytes, status) = tokio::join!(cost_of(pid), count, child.wait());
    status?;
    Ok(Seen { cpu_s: cost.cpu_s, peak_rss_kb: cost.peak_rss_kb, bytes: Some(bytes?), ..Seen::default() })
}

/// The engine's multiplexed stream: where in it the reader is.
#[derive(Default)]
struct Frames {
    header: Vec<u8>,
    left: u64,
}

impl Frames {
    /// How many of these bytes are the job's.
    fn payload(&mut self, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        while let Some(first) = bytes.first() {
            if self.left > 0 {
                let length = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= length as u64;
                count += length as u64;
                bytes = &bytes[length..];
                continue;
            }
            self.header.push(*first);
            bytes = &bytes[1..];
            if let [_, _, _, _, a, b, c, d] = self.header[..] {
                self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.header.clear();
            }
        }
        count
    }
}

/// The engine's socket, as a path.
pub(crate) fn engine_socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    host.trim_start_matches("unix://").to_owned()
}

pub(crate) async fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(arguments).output().await?;
    if !output.status.success() {
        return Err(format!("docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// How long a container ran. Of one that ends at once the engine may note the end before the start.
pub(crate) async fn run_s(container: &str) -> Result<f64> {
    let times = docker(&["inspect", "--format", "{{.State.StartedAt}} {{.State.FinishedAt}}", container]).await?;
    let times: Vec<jiff::Timestamp> = times.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
    Ok(times[0].duration_until(times[1]).as_secs_f64().max(0.0))
}
