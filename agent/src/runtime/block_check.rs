//! `metadata_server: block`, as far as the VM has to be looked at: where links lead, which volumes there are, and what a device is.
//! In: a job, and the VM's own directories. Out: the place in the job that is not allowed. Done at each create and start, as an
//! earlier attempt's job may have planted links since.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{major, minor};
use tokio::{sync::oneshot, time::timeout};

use super::{
    ContainerNames,
    escalation::{User, lets_be_root},
    inspect::VolumeAnswer,
};
use crate::{
    job::{Job, JobError, bind_place, is_allowed_source, not_blocked, refused_device, refused_source},
    shim::{uid_and_groups, user_name},
    threads,
};

/// Directories on networks may not answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// Numbers of devices that give nothing away: fuse, null, zero, full, random, urandom, tty.
/// Source: Linux `Documentation/admin-guide/devices.txt`.
const DEVICES: [(u32, u32); 7] = [(10, 229), (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];
/// NVIDIA's; and what renders of the others, from this minor number on.
const NVIDIA_MAJOR: u32 = 195;
const RENDER: (u32, u32) = (226, 128);
/// Where the engine and the service manager listen, and the files of all processes. No setting opens them.
const DOORS: [&str; 9] = [
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/podman",
    "/run/crio",
    "/run/systemd",
    "/run/dbus",
    "/proc",
    "/sys",
];
/// Who is in one of these gets root's rights: by an engine, a disk, `sudo` in a session that is not the job's, or files that root
/// runs.
const STRONG_GROUPS: [&str; 17] = [
    "root",
    "docker",
    "podman",
    "lxd",
    "incus",
    "incus-admin",
    "libvirt",
    "disk",
    "kmem",
    "shadow",
    "sudo",
    "wheel",
    "admin",
    "google-sudoers",
    "netdev",
    "staff",
    "systemd-network",
];

/// What of the VM a blocked job may have, and what it may not.
pub struct BlockRules {
    /// `VMJOB_BLOCK_MOUNTS`.
    pub allowed: Vec<PathBuf>,
    /// The agent's directories, the engine's directory and its socket.
    pub closed: Vec<PathBuf>,
}

/// Looks at a job's bind mounts, devices and user.
///
/// # Errors
/// The first that is not allowed, or that cannot be looked at.
pub async fn check_block(job: &Job, rules: BlockRules) -> Result<(), JobError> {
    job.check_block_mounts(&rules.allowed)?;
    let job = job.clone();
    let (done, checked) = oneshot::channel();
    threads::spawn(move || {
        // Who asked may have stopped waiting.
        let _ = done.send(check_files(&job, &rules));
    });
    timeout(DEADLINE, checked)
        .await
        .unwrap_or_else(|_| Ok(Err(does_not_answer())))
        .unwrap_or_else(|_| Err(does_not_answer()))
}

fn does_not_answer() -> JobError {
    let what = format!("a container whose mounts do not answer within {} s", DEADLINE.as_secs());
    not_blocked("container.mounts", &what, "look at the VM's disks and network file systems")
}

/// Looks at a volume that is there already: only one of this very job is as good as a new one.
pub(super) fn check_volume(index: usize, name: &str, volume: &VolumeAnswer, claim: &str) -> Result<(), JobError> {
    let is_plain = volume.driver == "local" && volume.options.as_ref().is_none_or(HashMap::is_empty);
    let is_ours =
        volume.labels.as_ref().and_then(|labels| labels.get(ContainerNames::CLAIM)).is_some_and(|of| of == claim);
    if is_plain && is_ours {
        return Ok(());
    }
    let what = format!("a container with the volume {name:?}, which was there before the job,");
    Err(not_blocked(&bind_place(index), &what, "name a new one"))
}

fn check_files(job: &Job, rules: &BlockRules) -> Result<(), JobError> {
    let allowed: Vec<PathBuf> = rules.allowed.iter().map(|dir| resolved(dir).unwrap_or_else(|_| dir.clone())).collect();
    let doors = DOORS.iter().map(PathBuf::from);
    let closed: Vec<PathBuf> = rules
        .closed
        .iter()
        .cloned()
        .chain(doors)
        .flat_map(|dir| [resolved(&dir).unwrap_or_else(|_| dir.clone()), dir])
        .collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for (index, source) in job.blocked_binds() {
        let refused = |what: String| Err(not_blocked(&bind_place(index), &what, "mount only what the job needs"));
        let path = match resolved(Path::new(source)) {
            Ok(path) => path,
            Err(error) => {
                return refused(format!("a container with the mount {source:?}, which cannot be looked at ({error}),"));
            }
        };
        if !is_allowed_source(&path, &allowed) {
            let leads_to = Some(path.as_path()).filter(|path| *path != Path::new(source));
            return Err(refused_source(index, Path::new(source), leads_to));
        }
        if let Some(own) = closed.iter().find(|own| path.starts_with(own) || own.starts_with(&path)) {
            return refused(format!("a container that sees {}, which is the VM's own,", own.display()));
        }
        if let Some(origin) = view_of_the_vm(&path, &mounts, &allowed) {
            return refused(format!("a container with the mount {source:?}, which shows {origin} of the VM,"));
        }
    }
    for (index, device) in
        job.blocked_container().map(|container| &container.devices[..]).unwrap_or_default().iter().enumerate()
    {
        match fs::metadata(&device.host) {
            Ok(node) if node.file_type().is_char_device() && is_harmless(node.rdev()) => {}
            // The engine says so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(refused_device(index, &device.host)),
        }
    }
    check_user(job)
}

/// The path without links, also where its end is not there yet.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok(resolved(parent)?.join(name)),
                _ => Err(error),
            }
        }
        // A link that leads nowhere may lead somewhere in a moment.
        resolved => resolved,
    }
}

/// What a mount of the VM that lies at, above or below `path` shows of the VM itself: another name for it that no link is.
/// Source: `proc_pid_mountinfo(5)`.
fn view_of_the_vm(path: &Path, mountinfo: &str, allowed: &[PathBuf]) -> Option<String> {
    let mounts: Vec<[&str; 4]> = mountinfo.lines().filter_map(mount).collect();
    let device_of = |at: &str| mounts.iter().rev().find(|[.., target, _]| *target == at).map(|[device, ..]| *device);
    let own = ["/", "/mnt/stateful_partition", "/var", "/run", "/dev"].map(device_of);
    let is_over = |[.., target, _]: &&[&str; 4]| *target != "/" && path.starts_with(target);
    let over = mounts.iter().filter(is_over).max_by_key(|[.., target, _]| target.len());
    let below =
        mounts.iter().filter(|[.., target, _]| Path::new(target).starts_with(path) && Path::new(target) != path);
    for [device, root, target, kind] in over.into_iter().chain(below) {
        if matches!(
            *kind,
            "proc" | "sysfs" | "devtmpfs" | "devpts" | "cgroup" | "cgroup2" | "debugfs" | "tracefs" | "nsfs"
        ) {
            return Some(format!("the {kind} at {target:?}"));
        }
        let shown: PathBuf =
            Path::new(root).join(path.strip_prefix(target).unwrap_or(Path::new(""))).components().collect();
        if own.contains(&Some(device)) && *root != *target && !is_allowed_source(&shown, allowed) {
            return Some(format!("{}", shown.display()));
        }
    }
    None
}

/// Device, root within it, where it is mounted, and type. Spaces in paths stay escaped: such a path is compared as another.
fn mount(line: &str) -> Option<[&str; 4]> {
    let (fields, rest) = line.split_once(" - ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Some([*fields.get(2)?, *fields.get(3)?, *fields.get(4)?, rest.split(' ').next()?])
}

fn is_harmless(device: u64) -> bool {
    let number = (major(device), minor(device));
    let is_nvidia = || {
        let known = fs::read_to_string("/proc/devices").unwrap_or_default();
        let characters = known.split("Block devices:").next().unwrap_or_default();
        characters
            .lines()
            .filter_map(|line| line.trim().split_once(' '))
            .any(|(major, name)| name.starts_with("nvidia") && major.parse() == Ok(number.0))
    };
    DEVICES.contains(&number)
        || number.0 == NVIDIA_MAJOR
        || (number.0 == RENDER.0 && number.1 >= RENDER.1)
        || is_nvidia()
}

/// A user that is not there is for the start to name.
fn check_user(job: &Job) -> Result<(), JobError> {
    let Some(process) = job.blocked_process() else { return Ok(()) };
    let Ok((uid, groups)) = uid_and_groups(process.user.as_deref()) else { return Ok(()) };
    if uid == 0 {
        return Err(not_blocked("process.user", "a process of root", "name another user"));
    }
    if let Some(group) = groups.iter().find(|group| STRONG_GROUPS.contains(&group.as_str())) {
        let what = format!("a process whose user is in the group {group:?}, which is as good as root,");
        return Err(not_blocked("process.user", &what, "name another user, or take it out of the group"));
    }
    let name = user_name(uid);
    let user = User { name: name.as_deref(), uid, groups: &groups };
    let Some(place) = lets_be_root(Path::new("/"), &user) else { return Ok(()) };
    let what = format!("a process whose user may become root by {place}");
    Err(not_blocked("process.user", &what, "name another user, or take it out of that file"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::job::parse_spec;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vmjob-block-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn check(source: &Path, allowed: &Path, closed: &[&Path]) -> Result<(), JobError> {
        let mount = serde_json::json!({"type": "bind", "source": source, "target": "/x"});
        let spec = serde_json::json!({"container": {"image": "a", "mounts": [mount]}, "metadata_server": "block"});
        let job = parse_spec(spec.to_string().as_bytes()).unwrap().job;
        let rules = BlockRules {
            allowed: vec![allowed.to_owned()],
            closed: closed.iter().map(|path| (*path).to_owned()).collect(),
        };
        check_files(&job, &rules)
    }

    #[test]
    fn a_mount_is_judged_by_where_its_links_lead() {
        let dir = dir("links");
        let data = dir.join("data");
        fs::create_dir_all(data.join("deep")).unwrap();
        for (name, to) in
            [("out", "/run"), ("nowhere", "/run/no/such"), ("up", "../.."), ("in", "deep"), ("loop", "loop")]
        {
            symlink(to, data.join(name)).unwrap();
        }
        for (source, is_fine) in [
            ("", true),
            ("deep", true),
            ("in", true),
            ("in/new/dir", true),
            ("new", true),
            ("out", false),
            ("out/docker.sock", false),
            ("nowhere", false),
            ("nowhere/x", false),
            ("up", false),
            ("loop", false),
        ] {
            let checked = check(&data.join(source), &data, &[]);
            assert_eq!(checked.is_ok(), is_fine, "{source}: {checked:?}");
        }
        // An allowed directory may itself be a link.
        symlink(&data, dir.join("link")).unwrap();
        assert_eq!(check(&dir.join("link/deep"), &dir.join("link"), &[]), Ok(()));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_the_vm_s_own_is_closed_wherever_it_lies() {
        let dir = dir("own");
        let state = dir.join("data/state");
        fs::create_dir_all(&state).unwrap();
        symlink(&state, dir.join("state")).unwrap();
        for (source, is_fine) in [("data", false), ("data/state", false), ("data/state/x", false), ("data/other", true)]
        {
            for name in ["data/state", "state"] {
                let checked = check(&dir.join(source), &dir, &[&dir.join(name)]);
                assert_eq!(checked.is_ok(), is_fine, "{source} {name}: {checked:?}");
            }
        }
        assert!(check(Path::new("/run"), Path::new("/"), &[]).is_err(), "no setting opens the doors");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_mount_of_the_vm_s_own_under_another_name_is_seen() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      2 1 0:5 / /dev rw - devtmpfs udev rw\n\
                      3 1 0:20 / /run rw - tmpfs tmpfs rw\n\
                      4 1 8:16 / /mnt/disks/data rw - ext4 /dev/sdb rw\n\
                      5 1 8:1 / /mnt/root rw - ext4 /dev/sda1 rw\n\
                      6 1 8:1 /srv/data /data rw - ext4 /dev/sda1 rw\n\
                      7 1 0:20 /docker /srv/sockets rw - tmpfs tmpfs rw\n\
                      8 1 0:4 / /srv/chroot/proc rw - proc proc rw\n\
                      9 1 0:30 / /mnt/disks rw - tmpfs tmpfs rw\n";
        for (path, shown) in [
            ("/mnt/disks/data/x", None),
            ("/mnt/disks", None),
            ("/srv/data", None),
            ("/data/x", None),
            ("/mnt/root/etc", Some("/etc")),
            ("/mnt/root", Some("/")),
            ("/srv/sockets", Some("/docker")),
            ("/srv/chroot", Some("the proc at \"/srv/chroot/proc\"")),
            ("/srv", Some("/docker")),
        ] {
            assert_eq!(view_of_the_vm(Path::new(path), mounts, &[]).as_deref(), shown, "{path}");
        }
    }

    #[test]
    fn a_device_is_known_by_its_number() {
        for (path, is_fine) in [("/dev/null", true), ("/dev/full", true), ("/dev/kmsg", false), ("/dev/ptmx", false)] {
            assert_eq!(is_harmless(fs::metadata(path).unwrap().rdev()), is_fine, "{path}");
        }
        let number = |major, minor| is_harmless(rustix::fs::makedev(major, minor));
        assert!(number(195, 0) && number(195, 255) && number(226, 128) && !number(226, 0) && !number(21, 0));
    }

    #[test]
    fn only_a_volume_of_the_very_job_is_as_good_as_a_new_one() {
        let volume = |text: &str| serde_json::from_str::<VolumeAnswer>(text).unwrap();
        let check = |text: &str| check_volume(0, "v", &volume(text), "c").is_ok();
        assert!(check(r#"{"Driver": "local", "Options": null, "Labels": {"vmjob.claim": "c"}}"#));
        assert!(check(r#"{"Driver": "local", "Options": {}, "Labels": {"vmjob.claim": "c"}}"#));
        assert!(!check(
            r#"{"Driver": "local", "Options": {"o": "bind", "device": "/"}, "Labels": {"vmjob.claim": "c"}}"#
        ));
        assert!(!check(r#"{"Driver": "local", "Options": null, "Labels": {"vmjob.claim": "d"}}"#));
        assert!(!check(r#"{"Driver": "local", "Options": null, "Labels": null}"#));
        assert!(!check(r#"{"Driver": "nfs", "Options": null, "Labels": {"vmjob.claim": "c"}}"#));
    }
}
