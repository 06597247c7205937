//! The control group of a job without a container: who belongs to the job, however it forks. The service manager gives the shim one;
//! where there is none, the shim makes its own. Source: Linux `Documentation/admin-guide/cgroup-v1/` and `cgroup-v2.rst`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const ROOT: &str = "/sys/fs/cgroup";
/// What a job is measured by; each may have a hierarchy of its own.
const CONTROLLERS: [&str; 2] = ["memory", "cpuacct"];
/// How long the processes of a shim that was killed may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The shim's and the job's groups, one a hierarchy.
#[derive(Debug)]
pub(super) struct Group {
    dirs: Vec<PathBuf>,
    is_made: bool,
}

impl Group {
    /// The group that the shim is in, or a new one that it moves into. Where no group can be had the job runs without, and is known
    /// by its session alone.
    pub(super) fn enter(name: &str, has_own: bool) -> io::Result<Self> {
        if has_own {
            return Ok(Self { dirs: own_dirs(&fs::read_to_string("/proc/self/cgroup")?), is_made: false });
        }
        let is_unified = Path::new(ROOT).join("cgroup.procs").exists();
        let hierarchies = if is_unified { vec![PathBuf::from(ROOT)] } else { CONTROLLERS.map(under_root).to_vec() };
        let enter = |dir: PathBuf| {
            fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join("cgroup.procs"), "0")).ok().map(|()| dir)
        };
        let mut dirs: Vec<PathBuf> =
            hierarchies.into_iter().filter(|root| root.exists()).filter_map(|root| enter(root.join(name))).collect();
        dirs.dedup();
        Ok(Self { dirs, is_made: true })
    }

    /// The groups that somebody has to remove once they are empty.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        if self.is_made { self.dirs.clone() } else { Vec::new() }
    }

    /// Kills all that is in the group but the shim, again until nothing is left or `patience` is over.
    pub(super) fn kill_others(&self, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            let others = self.others();
            for pid in &others {
                // It may have ended meanwhile.
                let _ = kill_process(*pid, Signal::KILL);
            }
            if others.is_empty() || Instant::now() >= end {
                return;
            }
            sleep(LOOK_INTERVAL);
        }
    }

    fn others(&self) -> Vec<Pid> {
        let text = self.dirs.first().and_then(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
        let own = process::id();
        let pids = text.unwrap_or_default();
        let others = pids.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| pid.unsigned_abs() != own);
        others.filter_map(Pid::from_raw).collect()
    }

    /// How often the kernel killed something in the group for memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let count = |dir: &PathBuf| {
            let file = ["memory.events", "memory.oom_control"].map(|name| fs::read_to_string(dir.join(name)).ok());
            let text = file.into_iter().flatten().next()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        };
        self.dirs.iter().filter_map(count).max().unwrap_or_default()
    }
}

/// Kills what is left in the groups that a shim made, and removes them.
pub fn end_groups(dirs: &[PathBuf]) {
    let group = Group { dirs: dirs.to_vec(), is_made: true };
    let end = Instant::now() + END_PATIENCE;
    // What was killed leaves its group a moment later.
    while dirs.iter().any(|dir| fs::remove_dir(dir).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)) {
        if Instant::now() >= end {
            return;
        }
        group.kill_others(LOOK_INTERVAL);
        sleep(LOOK_INTERVAL);
    }
}

/// Where the groups of `/proc/self/cgroup` are in the file system: `ID:CONTROLLERS:PATH` a line (`cgroups(7)`).
fn own_dirs(text: &str) -> Vec<PathBuf> {
    let dir = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        match controllers {
            "" => Some(Path::new(ROOT).join(path)),
            _ => CONTROLLERS
                .into_iter()
                .find(|name| controllers.split(',').any(|has| has == *name))
                .map(|name| under_root(name).join(path)),
        }
    };
    text.lines().filter_map(dir).filter(|dir| dir.join("cgroup.procs").exists()).collect()
}

fn under_root(controller: &str) -> PathBuf {
    Path::new(ROOT).join(controller)
}
