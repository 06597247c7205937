//! Debian: the package, and a root to install it in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Ran, Scratch, repository, run, succeed, third_party};

/// Builds the package of the agent under test, for this machine and with a version of its own, into a directory; skips the test
/// where there is no nFPM.
pub fn deb(version: &str, directory: &Path) -> Option<PathBuf> {
    let mut build = Command::new(repository().join("packaging/deb/build.sh"));
    build.arg("amd64").arg(e2e::agent_binary()).arg(directory);
    build.env("NFPM", third_party("nfpm/bin/nfpm")?).env("VERSION", version).env("SOURCE_DATE_EPOCH", "1700000000");
    succeed(&build, Duration::from_mins(1));
    Some(directory.join(format!("vmjob-agent_{version}-1_amd64.deb")))
}

/// The root of a Debian machine, removed when dropped.
#[derive(Debug)]
pub struct Root(Scratch);

impl Root {
    /// A fresh one; skips the test where none can be had, which takes root.
    pub fn new() -> Option<Self> {
        let tar = third_party("debian-root.tar")?;
        let scratch = Scratch::new();
        let mut unpack = Command::new("tar");
        unpack.arg("--extract").arg("--numeric-owner").arg("--file").arg(tar).arg("--directory").arg(scratch.path());
        succeed(&unpack, Duration::from_mins(2));
        Some(Self(scratch))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path outside of one inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs a line of shell in it as in an image that is built: without an init, and without a network.
    pub fn chroot(&self, line: &str) -> String {
        let ran = self.try_chroot(line);
        assert!(ran.succeeded(), "{line}: {ran:#?}");
        ran.stdout
    }

    /// The same, where it may fail.
    pub fn try_chroot(&self, line: &str) -> Ran {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--root"]).arg(self.path());
        command.args(["--wd", "/", "bash", "-euo", "pipefail", "-c"]);
        command.arg(format!("mount -t proc proc /proc\n{line}"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        run(&command, Duration::from_mins(3))
    }
}
