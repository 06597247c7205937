//! What boots a machine: which script does, what that needs, and how long it may take.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::packaging::repository;

const NSPAWN_PARTS: [&str; 4] =
    ["/usr/bin/systemd-nspawn", "/usr/bin/google_metadata_script_runner", "/usr/sbin/dockerd", "/usr/bin/cloud-init"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// systemd-nspawn: with this machine's kernel and programs, in seconds.
    Nspawn,
    /// QEMU: with a kernel of its own, and what is only seen with one.
    Qemu,
}

impl Kind {
    /// The command that reads commands to the machine.
    pub(crate) fn script(self, dir: &Path) -> Command {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        match self {
            Self::Nspawn => {
                let mut command = Command::new(here.join("machine"));
                command.arg(dir);
                command
            }
            Self::Qemu => {
                let mut command = Command::new(here.join("qemu"));
                command.arg(dir).arg(disks());
                command
            }
        }
    }

    /// What has to be on this machine.
    pub(crate) fn parts(self) -> Vec<PathBuf> {
        match self {
            Self::Nspawn => NSPAWN_PARTS.map(PathBuf::from).into(),
            Self::Qemu => vec!["/usr/bin/qemu-system-x86_64".into(), disks().join("disk")],
        }
    }

    /// Longer than a boot, a job and a shutdown take on a busy machine: reached only by what will never come.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::Nspawn => Duration::from_mins(10),
            Self::Qemu => Duration::from_mins(20),
        }
    }
}

/// What `qemu-root.sh` has made.
fn disks() -> PathBuf {
    repository().join("target/third-party/qemu")
}
