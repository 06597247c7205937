//! A life: the agent runs its job, the schedule happens to it, and what can be seen from outside is written down.

mod process;
mod steps;

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use fakecloud::{Config, FakeCloud};
use serde_json::Value;
use tokio::{net::TcpListener, process::Child, task::JoinSet, time::sleep};

use crate::{
    agent::{Launch, Run},
    cli::Agent,
    diary, docker, engine,
    evidence::{self, Evidence, Fired},
    job::DIARY,
    log_file::Harmed,
    plan::{Kind, Plan},
    schedule::{LogDamage, Phase, Schedule, What},
    silence::Road,
    world,
};

/// How often the world is looked at: phases that are shorter are seen as passed.
const TICK: Duration = Duration::from_millis(3);
/// A life without anything slow on purpose is over long before.
const DEADLINE: Duration = Duration::from_mins(5);
/// The engine's events are late on a slow machine.
const EVENTS_DEADLINE: Duration = Duration::from_secs(5);

/// The life under way.
pub(crate) struct Life<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) launch: Launch,
    pub(crate) cloud: FakeCloud,
    pub(crate) child: Option<Child>,
    pub(crate) boots: u64,
    began: Instant,
    wall_began: SystemTime,
    restart_at: Option<Instant>,
    runs: Vec<Run>,
    /// When each phase was first seen.
    seen: Vec<(Phase, Instant)>,
    job_ended: Option<Instant>,
    wall_job_ended: Option<SystemTime>,
    /// When each step was carried out.
    done: Vec<Option<Instant>>,
    fired: Vec<Fired>,
    awaited: usize,
    /// How long the next agent waits for its turn, where the schedule says so.
    pause_ms: Option<u64>,
    /// What is being done to the Docker daemon; it takes a while.
    pub(crate) trouble: JoinSet<io::Result<()>>,
    /// What is done to the log's file just before the next start, and what was done.
    pub(crate) harm_before_start: Option<(PathBuf, LogDamage)>,
    pub(crate) harmed: Vec<Harmed>,
    /// The agent's way to an engine that half dies.
    pub(crate) road: Option<Road>,
    /// Where a log driver hangs.
    log_server: Option<TcpListener>,
    watcher: Child,
    names: [String; 2],
}

/// Lives `plan` in `dir`, which is to be empty, and cleans up after it.
pub async fn live(plan: &Plan, agent: &Agent, dir: &Path) -> io::Result<Evidence> {
    let (binary, libfaketime) = match &agent.clocked {
        Some(clocked) if plan.kind == Kind::Clock => (&clocked.agent, Some(clocked.libfaketime.clone())),
        _ => (&agent.binary, None),
    };
    let launch = Launch {
        binary: binary.clone(),
        metadata_host: String::new(),
        dir: dir.to_owned(),
        boot_id: None,
        docker_host: None,
        libfaketime,
    };
    fs::create_dir_all(launch.state_dir())?;
    launch.set_clock(0)?;
    fs::create_dir_all(dir.join("evidence"))?;
    if let Some(kib) = plan.schedule.disk_kib {
        world::mount(&launch.state_dir(), kib).await?;
    }
    let seen = Life::begin(plan, launch).await?.go().await;
    if plan.schedule.disk_kib.is_some() {
        world::unmount(&dir.join("state")).await?;
    }
    seen
}

/// How long a life may take, with what is slow on purpose.
fn deadline(schedule: &Schedule) -> Duration {
    let count = |words: &str| u32::try_from(schedule.callback.matches(words).count()).unwrap_or_default();
    // By then the pauses between tries have grown to a minute.
    let was_down = schedule.steps.iter().any(|step| matches!(step.what, What::CallbackDown | What::MetadataDown));
    let hung_metadata = schedule.metadata.iter().any(|(_, script)| script.contains("hang"));
    // A POST has 30 s, a refused permission is tried again after 15 s and more, a metadata request has 10 s.
    DEADLINE
        + count("hang") * Duration::from_secs(31)
        + count("403") * Duration::from_secs(20)
        + u32::from(was_down) * Duration::from_mins(1)
        + u32::from(hung_metadata) * Duration::from_secs(11)
}

/// Starts Google's side on ports that no connection is given as its own (`ip_local_port_range` begins above): a server that is
/// down for a while finds its port free when it comes back.
async fn start_cloud(number: u64) -> io::Result<FakeCloud> {
    let first = number + u64::from(std::process::id()) * 500;
    for pair in first..first + 1000 {
        let port = u16::try_from(10_000 + pair % 10_000 * 2).unwrap_or_default();
        let addr = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = Config { metadata_addr: addr(port), callback_addr: addr(port + 1), ..Config::default() };
        match FakeCloud::start(config).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            started => return started,
        }
    }
    Err(io::Error::other("there is no free port from 10000 to 30000"))
}

impl<'a> Life<'a> {
    async fn begin(plan: &'a Plan, mut launch: Launch) -> io::Result<Self> {
        let cloud = start_cloud(plan.number).await?;
        launch.metadata_host = cloud.metadata_host();
        let mut job = plan.job.clone();
        let mut log_server = None;
        if job.has_hung_log() {
            log_server = Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        }
        if let Some(server) = &log_server {
            job.log_address = Some(format!("tcp://{}", server.local_addr()?));
        }
        cloud.set_attribute("job-spec", job.spec(&launch.dir.join("evidence").to_string_lossy()));
        if let Some(ms) = job.keep_ms {
            cloud.set_attribute("keep-on-failure", format!("{ms}ms"));
        }
        let road = plan.is_silent().then(|| Road::open(&launch.dir)).transpose()?;
        launch.docker_host = road.as_ref().map(Road::host);
        let script = |text: &str| text.parse().map_err(io::Error::other);
        cloud.script_callback(script(&plan.schedule.callback)?);
        for (prefix, text) in &plan.schedule.metadata {
            cloud.script_metadata(prefix, script(text)?);
        }
        if plan.kind == Kind::Engine {
            engine::set_live_restore(plan.schedule.live_restore).await?;
        }
        let names = [1, 2].map(|attempt| format!("vmjob-{}-{attempt}", plan.job.id));
        let wall_began = SystemTime::now();
        let watcher = docker::watch(&names, wall_began, &launch.events())?;
        Ok(Self {
            plan,
            launch,
            cloud,
            child: None,
            boots: 0,
            began: Instant::now(),
            restart_at: Some(Instant::now()),
            runs: Vec::new(),
            seen: Vec::new(),
            job_ended: None,
            wall_job_ended: None,
            done: vec![None; plan.schedule.steps.len()],
            fired: Vec::new(),
            awaited: 0,
            pause_ms: None,
            trouble: JoinSet::new(),
            harm_before_start: None,
            harmed: Vec::new(),
            road,
            log_server,
            watcher,
            names,
            wall_began,
        })
    }

    async fn go(mut self) -> io::Result<Evidence> {
        let end = self.began + deadline(&self.plan.schedule);
        let mut overdue = false;
        loop {
            if Instant::now() > end {
                overdue = true;
                self.kill().await?;
                break;
            }
            self.look();
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
                && !self.goes_on_after(status.into())
            {
                break;
            }
            self.see_trouble_over()?;
            self.fire_what_is_due().await?;
            if self.restart_at.is_some_and(|at| Instant::now() >= at) {
                self.start()?;
            }
            sleep(TICK).await;
        }

        while let Some(done) = self.trouble.join_next().await {
            done.map_err(io::Error::other)??;
        }
        self.log_server = None;
        let posts_before_rerun =
            if self.plan.schedule.rerun && !overdue { Some(self.run_once_more().await?) } else { None };
        // The last event is written a moment after what it tells of, and not at all by an engine that was away.
        let end = Instant::now() + EVENTS_DEADLINE;
        while !docker::are_over(&docker::events(&self.launch.events(), self.wall_began)?) && Instant::now() < end {
            sleep(TICK).await;
        }
        self.watcher.kill().await?;
        let posts = self.cloud.callback_requests();
        let state_files = evidence::files(&self.launch.state_dir())?;
        let written = [state_files.clone(), vec![self.launch.log(), self.launch.stdout()]].concat();
        let left_containers = docker::containers(&format!("vmjob-{}-", self.plan.job.id)).await?;
        for name in &left_containers {
            docker::docker(&["rm", "--force", name]).await?;
        }
        Ok(Evidence {
            began: self.wall_began,
            runs: self.runs,
            fired: self.fired,
            harmed: self.harmed,
            diary: diary::read(&self.launch.dir.join("evidence").join(DIARY)),
            job_ended: self.wall_job_ended,
            events: docker::events(&self.launch.events(), self.wall_began)?,
            leaks: evidence::leaks(&written, &posts),
            posts,
            posts_before_rerun,
            journal: read_journal(&self.launch.state_dir()),
            stdout: fs::read(self.launch.stdout()).unwrap_or_default(),
            state_bytes: bytes_of(&state_files),
            left_containers,
            overdue,
        })
    }

    /// Notes what has changed since the last look.
    fn look(&mut self) {
        let now = Instant::now();
        if let Some(phase) = self.phase()
            && self.seen.iter().all(|(seen, _)| *seen < phase)
        {
            self.seen.push((phase, now));
        }
        if self.job_ended.is_none() && diary::has_ended(&self.launch.dir.join("evidence").join(DIARY)) {
            self.job_ended = Some(now);
            self.wall_job_ended = Some(SystemTime::now());
        }
        if self.plan.schedule.awaited && self.cloud.accepted().len() > self.awaited {
            self.awaited += 1;
            self.cloud.consume_callback();
        }
    }

    pub(crate) fn phase(&self) -> Option<Phase> {
        Phase::named(read_journal(&self.launch.state_dir())["phase"].as_str()?)
    }
}

/// The journal as it is now; null where it is not there, or not whole.
fn read_journal(state_dir: &Path) -> Value {
    let text = fs::read(state_dir.join("journal.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn bytes_of(files: &[PathBuf]) -> u64 {
    files
        .iter()
        .filter(|file| !file.ends_with(world::BALLAST))
        .filter_map(|file| Some(fs::metadata(file).ok()?.len()))
        .sum()
}
