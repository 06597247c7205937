//! What the job uses, read from its control group's own files: they are opened once, and a sample is a read of each.
//! Source: Linux `Documentation/admin-guide/cgroup-v1/` and `cgroup-v2.rst`.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What was used up to the last sample; null where nothing could be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub cpu_s: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    pub oom_kills: Option<u64>,
}

/// The open files of one control group.
pub struct Meter {
    /// Holds nanoseconds (v1), or `usage_usec` among others (v2).
    cpu: Option<File>,
    peak_memory: Option<File>,
    /// Holds `oom_kill` among others.
    oom: Option<File>,
}

impl Meter {
    /// The meter of the control group of process `pid`.
    pub fn of(pid: i64) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Some(Self::open(&groups, Path::new("/sys/fs/cgroup")))
    }

    /// `groups` has a line a hierarchy, `ID:CONTROLLERS:PATH`; the one of v2 names no controllers (`cgroups(7)`).
    fn open(groups: &str, root: &Path) -> Self {
        let path = |controller: &str| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let has = parts.next()?.split(',').any(|name| name == controller);
                // The process of a job that has just ended is in the root group, which is the whole machine's.
                let path = parts.next()?.trim_start_matches('/');
                (has && !path.is_empty()).then(|| root.join(controller).join(path))
            })
        };
        let open = |directory: Option<&PathBuf>, file: &str| File::open(directory?.join(file)).ok();
        let (memory, cpuacct, unified) = (path("memory"), path("cpuacct"), path(""));
        let either = |v1: Option<&PathBuf>, v1_file: &str, v2_file: &str| {
            open(v1, v1_file).or_else(|| open(unified.as_ref(), v2_file))
        };
        Self {
            cpu: either(cpuacct.as_ref(), "cpuacct.usage", "cpu.stat"),
            peak_memory: either(memory.as_ref(), "memory.max_usage_in_bytes", "memory.peak"),
            oom: either(memory.as_ref(), "memory.oom_control", "memory.events"),
        }
    }

    /// Brings `usage` up to date. What can no longer be read, as the group is gone, stays as it was.
    pub fn sample(&self, usage: &mut Usage) {
        let cpu = read(self.cpu.as_ref());
        let nanoseconds = cpu.as_deref().and_then(|text| text.trim().parse::<f64>().ok());
        let microseconds = cpu.as_deref().and_then(|text| field(text, "usage_usec"));
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a few centuries fit")]
        let cpu_s = nanoseconds.map(|ns| ns / 1e9).or(microseconds.map(|us| us as f64 / 1e6));
        usage.cpu_s = cpu_s.map(|seconds| (seconds * 1000.0).round() / 1000.0).or(usage.cpu_s);
        let peak = read(self.peak_memory.as_ref()).and_then(|text| text.trim().parse().ok());
        usage.peak_memory_bytes = peak.or(usage.peak_memory_bytes);
        let kills = read(self.oom.as_ref()).and_then(|text| field(&text, "oom_kill"));
        usage.oom_kills = kills.or(usage.oom_kills);
    }
}

fn read(file: Option<&File>) -> Option<String> {
    let mut text = [0; 1024];
    let length = file?.read_at(&mut text, 0).ok()?;
    Some(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// The number behind `name` on a line of its own.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let root = std::env::temp_dir().join(format!("vmjob-usage-{}", std::process::id()));
        let files = [
            ("memory/docker/c/memory.max_usage_in_bytes", "4096\n"),
            ("memory/docker/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("cpuacct/docker/c/cpuacct.usage", "1500000000\n"),
            ("docker/c/memory.peak", "8192\n"),
            ("docker/c/memory.events", "low 0\noom 1\noom_kill 1\noom_group_kill 0\n"),
            ("docker/c/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
        ];
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut usage = Usage::default();
        Meter::open("9:memory:/docker/c\n4:cpu,cpuacct:/docker/c\n0::/other\n", &root).sample(&mut usage);
        assert_eq!(usage, Usage { cpu_s: Some(1.5), peak_memory_bytes: Some(4096), oom_kills: Some(2) });
        Meter::open("0::/docker/c\n", &root).sample(&mut usage);
        assert_eq!(usage, Usage { cpu_s: Some(2.5), peak_memory_bytes: Some(8192), oom_kills: Some(1) });
        Meter::open("0::/gone\n", &root).sample(&mut usage);
        assert_eq!(usage.cpu_s, Some(2.5), "what was read stays");
        fs::remove_dir_all(root).unwrap();
    }
}
