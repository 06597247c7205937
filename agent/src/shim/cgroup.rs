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
/// The hierarchies of v1 that a shim makes groups in: what a job is measured by.
const CONTROLLERS: [&str; 3] = ["memory", "cpuacct", "blkio"];
/// How long the processes of a shim that was killed may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The shim's and the job's groups, one a hierarchy. Each bears the job's name, so that nothing else can be in it.
#[derive(Debug)]
pub(super) struct Group {
    dirs: Vec<PathBuf>,
    is_made: bool,
}

impl Group {
    /// The groups that the service manager has made for the shim, or new ones that it moves into. Where none can be had the job runs
    /// without, and is known by its session alone.
    pub(super) fn enter(name: &str, has_own: bool) -> io::Result<Self> {
        if has_own {
            let text = fs::read_to_string("/proc/self/cgroup")?;
            let dirs = own_dirs(&text, &format!("{name}.service"));
            return Ok(Self {
                dirs: dirs.into_iter().filter(|dir| dir.join("cgroup.procs").exists()).collect(),
                is_made: false,
            });
        }
        let is_unified = Path::new(ROOT).join("cgroup.procs").exists();
        let hierarchies = if is_unified {
            vec![PathBuf::from(ROOT)]
        } else {
            CONTROLLERS.map(|name| Path::new(ROOT).join(name)).to_vec()
        };
        let enter = |dir: PathBuf| {
            fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join("cgroup.procs"), "0")).ok().map(|()| dir)
        };
        let roots = hierarchies.into_iter().filter(|root| root.exists());
        Ok(Self { dirs: roots.filter_map(|root| enter(root.join(name))).collect(), is_made: true })
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

/// Kills what is in the groups that a shim made.
pub fn kill_groups(dirs: &[PathBuf]) {
    Group { dirs: dirs.to_vec(), is_made: true }.kill_others(Duration::ZERO);
}

/// Kills what is left in the groups that a shim made, and removes them.
///
/// # Errors
/// What keeps a group: a process in it that does not end, mostly.
pub fn end_groups(dirs: &[PathBuf]) -> io::Result<()> {
    let end = Instant::now() + END_PATIENCE;
    let removed = |dir: &PathBuf| match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("{}: {error}", dir.display())))
        }
        _ => Ok(()),
    };
    while let Err(error) = dirs.iter().try_for_each(removed) {
        if Instant::now() >= end {
            return Err(error);
        }
        kill_groups(dirs);
        // What was killed leaves its group a moment later.
        sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// The directories of those groups of `/proc/self/cgroup` that are the unit's. A line is `ID:CONTROLLERS:PATH`; the hierarchy of v2 has
/// no controllers, that of systemd on v1 a name (`cgroups(7)`). A controller that systemd leaves alone has its processes in the
/// root group, with everybody else's.
fn own_dirs(text: &str, unit: &str) -> Vec<PathBuf> {
    let dir = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, Path::new(parts.next()?));
        let hierarchy = match controllers {
            "" => Some(""),
            "name=systemd" => Some("systemd"),
            _ => controllers.split(',').find(|name| CONTROLLERS.contains(name)),
        };
        let is_ours = path.file_name().is_some_and(|name| name == unit);
        hierarchy
            .filter(|_| is_ours)
            .map(|hierarchy| Path::new(ROOT).join(hierarchy).join(path.strip_prefix("/").unwrap_or(path)))
    };
    text.lines().filter_map(dir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_group_of_the_unit_s_own_is_taken_for_it() {
        let cases: [(&str, &[&str]); 4] = [
            ("0::/system.slice/vmjob-a-1.service\n", &["/sys/fs/cgroup/system.slice/vmjob-a-1.service"]),
            (
                "5:memory:/\n4:cpu,cpuacct:/system.slice/vmjob-a-1.service\n1:name=systemd:/system.slice/vmjob-a-1.service\n0::/\n",
                &[
                    "/sys/fs/cgroup/cpuacct/system.slice/vmjob-a-1.service",
                    "/sys/fs/cgroup/systemd/system.slice/vmjob-a-1.service",
                ],
            ),
            ("0::/\n", &[]),
            ("0::/system.slice/vmjob-agent.service\n", &[]),
        ];
        for (text, dirs) in cases {
            assert_eq!(
                own_dirs(text, "vmjob-a-1.service"),
                dirs.iter().map(PathBuf::from).collect::<Vec<_>>(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_group_that_cannot_be_removed_is_an_error() {
        let dir = std::env::temp_dir().join(format!("vmjob-group-{}", process::id()));
        fs::create_dir_all(dir.join("busy")).unwrap();
        let error = end_groups(&[dir.join("none"), dir.clone()]).unwrap_err();
        assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
        fs::remove_dir(dir.join("busy")).unwrap();
        end_groups(&[dir]).unwrap();
    }
}
