//! One job through the real agent, with what the process cost.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use fakecloud::{Config, FakeCloud, Recorded};
use tokio::{process::Command, time::sleep};

use crate::Result;

/// A finished job.
pub(crate) struct Finished {
    pub(crate) cloud: FakeCloud,
    pub(crate) callback: Recorded,
    /// From the agent's start until the report came. That the container is removed then keeps nobody waiting.
    pub(crate) wall_s: f64,
    pub(crate) cost: Cost,
}

/// What a process used, as far as it was seen: looked at every few milliseconds until it ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) cpu_s: f64,
    pub(crate) rss_kb: u64,
    pub(crate) peak_rss_kb: u64,
}

/// Runs a job from its attributes to its delivered report. `number` keeps jobs apart.
pub(crate) async fn run(agent: &Path, docker_host: &str, spec: &str, number: u64) -> Result<Finished> {
    run_watched(agent, docker_host, spec, number, |_| {}).await
}

/// The same, with a look at the agent every few milliseconds.
pub(crate) async fn run_watched(
    agent: &Path,
    docker_host: &str,
    spec: &str,
    number: u64,
    look: impl FnMut(Cost),
) -> Result<Finished> {
    let mut config = Config { instance_id: 9_000_000_000_000_000_000 + number, ..Config::default() };
    config.attributes.insert("job-spec".into(), spec.into());
    let cloud = FakeCloud::start(config).await?;
    let state = StateDir::new(number)?;
    let began = Instant::now();
    let mut child = Command::new(agent)
        .args(["run", "--metadata-host", &cloud.metadata_host(), "--docker-host", docker_host])
        .args(["--callback-allow", "127.0.0.1", "--state-dir"])
        .arg(&state.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().ok_or("the agent has no process id")?;
    let (cost, status) = tokio::join!(watch(pid, look), child.wait());
    let status = status?;
    if !status.success() {
        return Err(format!("the agent ended with {status}").into());
    }
    let callback = cloud.next_accepted(Duration::from_secs(5)).await.ok_or("no callback came")?;
    let wall_s = callback.at.duration_since(began).as_secs_f64();
    Ok(Finished { cloud, callback, wall_s, cost })
}

/// Watches a process until it is gone.
pub(crate) async fn cost_of(pid: u32) -> Cost {
    watch(pid, |_| {}).await
}

async fn watch(pid: u32, mut look: impl FnMut(Cost)) -> Cost {
    let mut cost = Cost::default();
    while let Some(now) = look_at(pid) {
        cost = now;
        look(cost);
        sleep(Duration::from_millis(5)).await;
    }
    cost
}

fn look_at(pid: u32) -> Option<Cost> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // utime and stime, fields 14 and 15 of proc(5), in hundredths of a second.
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kb = |key| status.lines().find_map(|line| line.strip_prefix(key))?.trim().trim_end_matches(" kB").parse().ok();
    Some(Cost { cpu_s: ticks / 100.0, rss_kb: kb("VmRSS:")?, peak_rss_kb: kb("VmHWM:")? })
}

struct StateDir(PathBuf);

impl StateDir {
    fn new(number: u64) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("vmjob-bench-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
