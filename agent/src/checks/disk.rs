//! Whether a directory can be written to, and has room.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::Finding;

/// Enough for the journal and the log summary many times over.
const STATE_BYTES: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// Looks at the state directory, or at where it would be made. Writes nothing: an agent may be at work there.
pub(super) fn state_dir(dir: &Path) -> Finding {
    let subject = "state directory";
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    if let Err(error) = access(there, Access::WRITE_OK) {
        let fix = "give `--state-dir` a writable directory on a disk, and run as root";
        return Finding::fail(subject, format!("{} is not writable: {error}", there.display()), fix);
    }
    match free_bytes(there) {
        Some(free) if free < STATE_BYTES => Finding::warn(
            subject,
            format!("only {} MiB are free in {}", free / MIB, there.display()),
            "give the VM a larger boot disk, or make room on it",
        ),
        Some(free) => Finding::ok(subject, format!("{}, with {} MiB free", dir.display(), free / MIB)),
        None => Finding::ok(subject, dir.display().to_string()),
    }
}

/// What is free for everybody in the file system of `path`; `None` where that cannot be told.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    statvfs(path).ok().map(|system| system.f_bavail * system.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Grade;

    #[test]
    fn a_directory_that_is_not_there_yet_is_looked_at_where_it_would_be() {
        let dir = std::env::temp_dir().join("vmjob-no-such-dir/a/b");
        let found = state_dir(&dir);
        assert!(found.is_ok() && found.text.contains("a/b, with "), "{found:?}");
        // The kernel's own tables take no new file, not even root's.
        let found = state_dir(Path::new("/proc/sys/vmjob"));
        assert!(found.is_ok() || found.grade == Grade::Fail, "{found:?}");
    }
}
