//! The package: what Debian's own tools say of it, and its life on a machine.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use packaging::{Root, Scratch, deb, has, run, sh, sha256};

#[test]
fn lintian_has_no_objection() {
    let scratch = Scratch::new();
    let Some(package) = deb("1.2.3", scratch.path()) else { return };
    if !has("lintian") {
        return;
    }
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(package);
    let ran = run(&lintian, Duration::from_mins(2));
    assert!(ran.succeeded() && ran.stdout.is_empty(), "{ran:#?}");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let scratch = Scratch::new();
    let Some(package) = deb("1.2.3", scratch.path()) else { return };
    let first = sha256(&fs::read(package).unwrap());
    // The time of a build is to be nowhere in it.
    std::thread::sleep(Duration::from_millis(1100));
    let again = deb("1.2.3", scratch.path()).unwrap();
    assert_eq!(sha256(&fs::read(again).unwrap()), first);
}

/// All files but the package manager's own records, as far as an administrator sees them.
const FILES: &str = "find / -xdev \\( -path /proc -o -path /tmp -o -path /dev -o -path /sys -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache/apt -o -path /var/log \
    -o -path /root \\) -prune -o -printf '%p %y %m %u:%g %l\\n' | sort";

/// The lines that only one of two texts has.
fn difference<'a>(one: &'a str, other: &'a str) -> Vec<&'a str> {
    let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (one.lines().collect(), other.lines().collect());
    ours.symmetric_difference(&theirs).copied().collect()
}

/// In a chroot, as an image is built; with the two packages of an upgrade.
#[test]
fn it_comes_and_goes_and_leaves_nothing_behind() {
    let Some(root) = Root::new() else { return };
    let Some(old) = deb("0.0.1", &root.join("tmp")) else { return };
    let new = deb("0.0.2", &root.join("tmp")).unwrap();
    let inside = |path: &std::path::Path| format!("/tmp/{}", path.file_name().unwrap().display());
    let before = root.chroot(FILES);

    // It needs nothing that is not there, it is enabled, and nothing is started.
    root.chroot(&format!("apt-get install -qq -y --no-install-recommends {}", inside(&old)));
    assert_eq!(root.chroot("systemctl is-enabled vmjob-agent"), "enabled\n");
    assert!(root.chroot("/usr/bin/vmjob-agent --version").starts_with("vmjob-agent "));
    assert!(!root.join("var/lib/vmjob").exists());

    // What the administrator decided outlives an upgrade.
    root.chroot("systemctl disable --quiet vmjob-agent && echo RUST_LOG=debug >>/etc/default/vmjob-agent");
    root.chroot(&format!("dpkg --install {}", inside(&new)));
    assert_eq!(root.try_chroot("systemctl is-enabled vmjob-agent").stdout, "disabled\n");
    assert!(root.chroot("cat /etc/default/vmjob-agent").ends_with("RUST_LOG=debug\n"));
    root.chroot("systemctl mask --quiet vmjob-agent");
    root.chroot(&format!("dpkg --install {}", inside(&old)));
    assert_eq!(root.try_chroot("systemctl is-enabled vmjob-agent").stdout, "masked\n");
    root.chroot("systemctl unmask --quiet vmjob-agent");

    // Removed, it can be installed again with its settings and its journal; purged, it never was.
    root.chroot("mkdir -p /var/lib/vmjob && echo {} >/var/lib/vmjob/journal.json");
    root.chroot("dpkg --remove vmjob-agent");
    assert!(
        !root.join("usr/bin/vmjob-agent").exists() && !root.join("lib/systemd/system/vmjob-agent.service").exists()
    );
    assert!(root.join("var/lib/vmjob/journal.json").exists() && root.join("etc/default/vmjob-agent").exists());
    root.chroot("dpkg --purge vmjob-agent");
    assert_eq!(difference(&before, &root.chroot(FILES)), [""; 0]);
    assert_eq!(root.try_chroot("dpkg-query --show vmjob-agent").status, Some(1));
}

#[test]
fn it_is_removed_whole_also_while_it_is_not_configured() {
    let Some(root) = Root::new() else { return };
    let Some(package) = deb("0.0.1", &root.join("tmp")) else { return };
    let before = root.chroot(FILES);
    root.chroot(&format!("dpkg --unpack /tmp/{}", package.file_name().unwrap().display()));
    root.chroot("dpkg --purge vmjob-agent");
    assert_eq!(difference(&before, &root.chroot(FILES)), [""; 0]);
}

#[test]
fn it_is_for_both_architectures() {
    for (name, architecture) in [("amd64", "amd64"), ("arm64", "arm64")] {
        let Some(directory) = packaging::dist("") else { return };
        let package = directory.join(format!("vmjob-agent_{}-1_{name}.deb", env!("CARGO_PKG_VERSION")));
        assert_eq!(sh(format!("dpkg-deb --field {} Architecture", package.display())).trim(), architecture);
    }
}
