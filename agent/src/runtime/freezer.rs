//! Control groups that an engine's pause has frozen. Under cgroup v1 a frozen process takes no signal, not even KILL, until it is thawed.
//! Source: the kernel's `cgroup-v1/freezer-subsystem.rst` and `cgroup-v2.rst`.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use rustix::io::Errno;

/// Thaws the control groups that process `pid` is in. A process that is gone, or that nothing has frozen, is fine.
pub(super) fn thaw(pid: i32) -> io::Result<()> {
    let Ok(groups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return Ok(()) };
    groups.lines().flat_map(freezers).try_for_each(|freezer| freezer.thaw())
}

/// The file that freezes a group.
#[derive(Debug, PartialEq)]
struct Freezer {
    file: PathBuf,
    thawed: &'static str,
}

impl Freezer {
    fn thaw(&self) -> io::Result<()> {
        match fs::read_to_string(&self.file) {
            Ok(now) if now.trim() != self.thawed => match fs::write(&self.file, self.thawed) {
                // The group is gone with its last process.
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NODEV)) => Ok(()),
                result => result,
            },
            _ => Ok(()),
        }
    }
}

/// Of a line of `/proc/PID/cgroup` (`ID:CONTROLLERS:PATH`), the freezers of the group and of those above it.
fn freezers(line: &str) -> Vec<Freezer> {
    let mut fields = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (mounts, name, thawed): (&[&str], _, _) = match controllers {
        // Beside v1's controllers it is mounted below `unified`.
        "" => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "cgroup.freeze", "0"),
        "freezer" => (&["/sys/fs/cgroup/freezer"], "freezer.state", "THAWED"),
        _ => return Vec::new(),
    };
    let group = Path::new(path.trim_start_matches('/'));
    // A group outside this process's cgroup namespace begins so.
    if group.components().any(|part| part == Component::ParentDir) {
        return Vec::new();
    }
    let above = group.ancestors().filter(|group| !group.as_os_str().is_empty());
    above
        .flat_map(|group| {
            mounts.iter().map(move |mount| Freezer { file: Path::new(mount).join(group).join(name), thawed })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_and_those_above_it_are_thawed_under_both_versions() {
        let files =
            |line| freezers(line).into_iter().map(|freezer| freezer.file.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            files("7:freezer:/docker/c0ffee"),
            ["/sys/fs/cgroup/freezer/docker/c0ffee/freezer.state", "/sys/fs/cgroup/freezer/docker/freezer.state"]
        );
        assert_eq!(
            files("0::/s.slice/c:1"),
            [
                "/sys/fs/cgroup/s.slice/c:1/cgroup.freeze",
                "/sys/fs/cgroup/unified/s.slice/c:1/cgroup.freeze",
                "/sys/fs/cgroup/s.slice/cgroup.freeze",
                "/sys/fs/cgroup/unified/s.slice/cgroup.freeze"
            ]
        );
        for line in ["", "0::/", "0::/../x", "3:memory:/docker/c", "7:freezer", "0::../../etc"] {
            assert!(files(line).is_empty(), "{line}");
        }
    }
}
