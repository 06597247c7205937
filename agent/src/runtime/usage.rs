//! What the job uses, read from its control group's own files: they are opened once, and a sample is a read of each.
//! Source: Linux `Documentation/admin-guide/cgroup-v1/` and `cgroup-v2.rst`.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What was used up to the last sample; null where nothing could be read. None of it ever gets less: what is later is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Usage {
    pub cpu_s: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    pub oom_kills: Option<u64>,
    /// From and to block devices: what the page cache served is not in it, and what it has not written yet neither.
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
}

/// The open files of one control group.
pub struct Meter {
    /// Holds nanoseconds (v1), or `usage_usec` among others (v2).
    cpu: Option<File>,
    peak_memory: Option<File>,
    /// Holds `oom_kill` among others.
    oom: Option<File>,
    /// Holds a line for each device and kind of access (v1), or for each device (v2).
    io: Option<File>,
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
        let (memory, cpuacct, blkio, unified) = (path("memory"), path("cpuacct"), path("blkio"), path(""));
        let either = |v1: Option<&PathBuf>, v1_file: &str, v2_file: &str| {
            open(v1, v1_file).or_else(|| open(unified.as_ref(), v2_file))
        };
        Self {
            cpu: either(cpuacct.as_ref(), "cpuacct.usage", "cpu.stat"),
            // A kernel before 5.19 tells no peak in v2: then the largest of the samples is the nearest there is.
            peak_memory: either(memory.as_ref(), "memory.max_usage_in_bytes", "memory.peak")
                .or_else(|| open(unified.as_ref(), "memory.current")),
            oom: either(memory.as_ref(), "memory.oom_control", "memory.events"),
            io: either(blkio.as_ref(), "blkio.throttle.io_service_bytes_recursive", "io.stat"),
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
        usage.peak_memory_bytes = peak.max(usage.peak_memory_bytes);
        let kills = read(self.oom.as_ref()).and_then(|text| field(&text, "oom_kill"));
        usage.oom_kills = kills.or(usage.oom_kills);
        if let Some((read, written)) = read(self.io.as_ref()).as_deref().and_then(io_bytes) {
            (usage.read_bytes, usage.written_bytes) = (Some(read), Some(written));
        }
    }
}

fn read(file: Option<&File>) -> Option<String> {
    // The longest has some 150 bytes a device.
    let mut text = [0; 8192];
    let length = file?.read_at(&mut text, 0).ok()?;
    Some(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// The number behind `name` on a line of its own.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Bytes read and written, of all devices: of `8:0 Read 4096` and `8:0 Write 0` (v1), or `8:0 rbytes=4096 wbytes=0 …` (v2). A kernel that
/// does not count says nothing but `Total 0` (v1: from Linux 6.10 on, until somebody sets a limit).
fn io_bytes(text: &str) -> Option<(u64, u64)> {
    let sum = |old: &str, new: &str| {
        let bytes = |line: &str| {
            let mut words = line.split(' ').skip(1);
            let after = |word: &str| word.strip_prefix(new)?.parse::<u64>().ok();
            words.clone().find_map(after).or_else(|| words.find(|word| *word == old).and(words.next())?.parse().ok())
        };
        text.lines().filter_map(bytes).sum()
    };
    (text.trim() != "Total 0").then(|| (sum("Read", "rbytes="), sum("Write", "wbytes=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_devices_is_added_up() {
        let v1 = "254:16 Read 8192\n254:16 Write 1\n254:16 Sync 8193\n254:16 Async 0\n254:16 Discard 0\n254:16 Total 8193\n\
                  8:0 Read 10485760\n8:0 Write 31481856\n8:0 Sync 41967616\n8:0 Async 0\n8:0 Discard 512\n8:0 Total 41968128\n\
                  Total 41976321\n";
        let v2 = "8:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n253:0 \n\
                  8:0 rbytes=180224 wbytes=5242880 rios=3 wios=6 dbytes=50331648 dios=3021 cost.usage=7\n";
        for (text, bytes) in [
            (v1, Some((10_493_952, 31_481_857))),
            (v2, Some((184_320, 5_242_880))),
            // Nothing was read or written yet; nothing is counted.
            ("", Some((0, 0))),
            ("Total 0\n", None),
        ] {
            assert_eq!(io_bytes(text), bytes, "{text}");
        }
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let root = std::env::temp_dir().join(format!("vmjob-usage-{}", std::process::id()));
        let files = [
            ("memory/docker/c/memory.max_usage_in_bytes", "4096\n"),
            ("memory/docker/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("cpuacct/docker/c/cpuacct.usage", "1500000000\n"),
            ("blkio/docker/c/blkio.throttle.io_service_bytes_recursive", "8:0 Read 5\n8:0 Write 6\nTotal 11\n"),
            ("docker/c/io.stat", "8:0 rbytes=7 wbytes=8 rios=1 wios=1\n"),
            ("docker/c/memory.peak", "8192\n"),
            ("docker/c/memory.events", "low 0\noom 1\noom_kill 1\noom_group_kill 0\n"),
            ("docker/c/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
            ("docker/c/memory.current", "1\n"),
        ];
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut usage = Usage::default();
        let wanted = |cpu_s, peak: u64, kills, read, written| Usage {
            cpu_s: Some(cpu_s),
            peak_memory_bytes: Some(peak),
            oom_kills: Some(kills),
            read_bytes: Some(read),
            written_bytes: Some(written),
        };
        let groups = "9:memory:/docker/c\n7:blkio:/docker/c\n4:cpu,cpuacct:/docker/c\n0::/other\n";
        Meter::open(groups, &root).sample(&mut usage);
        assert_eq!(usage, wanted(1.5, 4096, 2, 5, 6));
        Meter::open("0::/docker/c\n", &root).sample(&mut usage);
        assert_eq!(usage, wanted(2.5, 8192, 1, 7, 8));
        fs::remove_file(root.join("docker/c/memory.peak")).unwrap();
        for (bytes, peak) in [(9000, 9000), (10_000, 10_000), (500, 10_000)] {
            fs::write(root.join("docker/c/memory.current"), format!("{bytes}\n")).unwrap();
            Meter::open("0::/docker/c\n", &root).sample(&mut usage);
            assert_eq!(usage.peak_memory_bytes, Some(peak));
        }
        Meter::open("0::/gone\n", &root).sample(&mut usage);
        assert_eq!(usage.cpu_s, Some(2.5), "what was read stays");
        fs::remove_dir_all(root).unwrap();
    }
}
