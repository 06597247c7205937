//! `metadata_server: block` is a promise: a job that could get around it is refused.
//!
//! In: a job whose values have all been checked. Out: the place that breaks the promise, and what to write instead.

use std::path::{Component, Path, PathBuf};

use super::error::{JobError, Problem};
use super::spec::ATTRIBUTE;
use super::types::{Container, Job, MetadataServer, Mount, MountKind, Process, Work};

/// With these a container can leave its namespaces, or reads and writes what is not its own.
const STRONG_CAPS: [&str; 8] =
    ["ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "DAC_READ_SEARCH", "BPF", "PERFMON"];
/// The VM's memory, and what its file systems are on, by how their names begin below `/dev`.
const STRONG_DEVICES: [&str; 18] = [
    "mem", "kmem", "port", "sd", "vd", "xvd", "hd", "nvme", "mmcblk", "pmem", "md", "dm-", "loop", "nbd", "disk",
    "mapper", "block", "root",
];
/// Where the engine and the service manager listen: whoever reaches them can start something on the VM's own network. And the files of
/// all processes.
const DOORS: [&str; 9] = [
    "/run/docker.sock",
    "/run/containerd",
    "/run/podman",
    "/run/crio",
    "/run/systemd",
    "/run/dbus",
    "/run/snapd.socket",
    "/run/runc",
    "/proc",
];
/// What the VM itself runs, or reads what to run from. To be read by the job, but not written.
const VM_FILES: [&str; 15] = [
    "/etc",
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/boot",
    "/root",
    "/sys",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/google",
    "/var/lib/cloud",
    "/var/spool/cron",
    // What COS keeps `/var` on, and with it all of the above.
    "/mnt/stateful_partition/var",
];
/// Names of directories that are views of others: of COS, and one that every VM has.
const VIEWS: [(&str, &str); 3] =
    [("/mnt/stateful_partition/var", "/var"), ("/mnt/stateful_partition/home", "/home"), ("/var/run", "/run")];
/// Where the agent keeps its state, as far as a job can tell.
pub(super) const STATE_DIR: &str = "/var/lib/vmjob";

impl Job {
    /// Whether the job can get around it on a VM whose agent keeps its state in this directory: what is blocked is written down
    /// there.
    ///
    /// # Errors
    /// The place in the job where it could.
    pub fn check_block(&self, state_dir: &Path) -> Result<(), JobError> {
        if self.metadata_server == MetadataServer::Allow {
            return Ok(());
        }
        match &self.work {
            Work::Container(container) => check_container(container, state_dir),
            Work::Process(process) => check_process(process),
        }
        .map_err(|(place, problem, fix)| {
            let problem =
                format!("{problem} cannot be kept from the metadata server, as metadata_server \"block\" asks");
            Problem::new(problem).fix(fix).at(ATTRIBUTE, place)
        })
    }
}

type Broken = (String, String, &'static str);

fn check_container(container: &Container, state_dir: &Path) -> Result<(), Broken> {
    let broken = |place: &str, what: &str, fix| Err((format!("container.{place}"), what.to_owned(), fix));
    let network = container.network.as_deref().unwrap_or_default();
    if network == "host" || network.starts_with("container:") {
        return broken("network", &format!("a container on the network {network:?}"), "use \"bridge\"");
    }
    if container.privileged {
        return broken("privileged", "a privileged container", "name the devices and capabilities that it needs");
    }
    for cap in &container.cap_add {
        let name = cap.to_ascii_uppercase();
        if STRONG_CAPS.contains(&name.strip_prefix("CAP_").unwrap_or(&name)) {
            return broken("cap_add", &format!("a container with {cap}"), "leave it out");
        }
    }
    for (index, device) in container.devices.iter().enumerate() {
        let host = resolved(Path::new(&device.host));
        let name = host.strip_prefix("/dev").ok().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| name.is_empty() || STRONG_DEVICES.iter().any(|strong| name.starts_with(strong))) {
            let what = format!("a container with the device {}", device.host);
            return broken(&format!("devices[{index}]"), &what, "mount a directory of the disk instead");
        }
    }
    for (index, mount) in container.mounts.iter().enumerate() {
        if let Some(what) = way_out(mount, state_dir) {
            return broken(&format!("mounts[{index}].source"), what, "mount only what the job needs");
        }
    }
    Ok(())
}

/// What is wrong with a mount, if something is. Links of the VM's are not followed, but for those in [`VIEWS`].
fn way_out(mount: &Mount, state_dir: &Path) -> Option<&'static str> {
    let MountKind::Bind { source, .. } = &mount.kind else { return None };
    let source = resolved(Path::new(source));
    let meets_path = |path: &Path| source.starts_with(path) || path.starts_with(&source);
    let meets = |paths: &[&str]| paths.iter().any(|path| meets_path(Path::new(path)));
    if meets(&DOORS) {
        return Some("a container that sees the engine's socket, the service manager's, or the VM's processes");
    }
    (!mount.read_only && (meets(&VM_FILES) || meets_path(&resolved(state_dir))))
        .then_some("a container that can write the VM's own files")
}

/// The path without `.` and `..`, which the engine takes out before it follows a link, and by the name that [`VIEWS`] has for it.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => resolved.push(name),
            Component::ParentDir => _ = resolved.pop(),
            _ => {}
        }
    }
    for (view, name) in VIEWS {
        if let Ok(rest) = resolved.strip_prefix(view) {
            resolved = Path::new(name).join(rest);
        }
    }
    resolved
}

fn check_process(process: &Process) -> Result<(), Broken> {
    let user = process.user.as_deref().unwrap_or("root");
    if matches!(user.split(':').next(), Some("root" | "0")) {
        return Err(("process.user".into(), "a process of root".into(), "name another user"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use crate::job::{Job, parse_spec};

    #[test]
    fn a_job_that_could_get_around_it_is_refused_at_its_place() {
        let refused = |work: Value| {
            let mut job = json!({"metadata_server": "block"});
            job.as_object_mut().unwrap().extend(work.as_object().unwrap().clone());
            let parsed = match parse_spec(job.to_string().as_bytes()) {
                Ok(parsed) => parsed,
                Err(error) => return Some(error.place),
            };
            assert_eq!(parsed.job.to_json()["metadata_server"], "block");
            None
        };
        let container = |mut fields: Value| {
            fields["image"] = json!("a");
            refused(json!({ "container": fields }))
        };
        let bind = |source: &str| json!({"mounts": [{"type": "bind", "source": source, "target": "/x"}]});
        let read = |mut fields: Value| {
            fields["mounts"][0]["read_only"] = json!(true);
            fields
        };
        for (fields, place) in [
            (json!({"network": "host"}), Some("container.network")),
            (json!({"network": "container:x"}), Some("container.network")),
            (json!({"privileged": true}), Some("container.privileged")),
            (json!({"cap_add": ["NET_ADMIN", "cap_sys_admin"]}), Some("container.cap_add")),
            (json!({"cap_add": ["SYS_RAWIO"]}), Some("container.cap_add")),
            (json!({"cap_add": ["CAP_DAC_READ_SEARCH"]}), Some("container.cap_add")),
            (bind("/var/run"), Some("container.mounts[0].source")),
            (bind("/run/docker.sock"), Some("container.mounts[0].source")),
            (bind("/var/run/docker.sock"), Some("container.mounts[0].source")),
            (bind("/tmp/../run/docker.sock"), Some("container.mounts[0].source")),
            (bind("/var/./run/../run"), Some("container.mounts[0].source")),
            (bind("/run/containerd/containerd.sock"), Some("container.mounts[0].source")),
            (bind("/run/systemd/private"), Some("container.mounts[0].source")),
            (read(bind("/proc")), Some("container.mounts[0].source")),
            (read(bind("/")), Some("container.mounts[0].source")),
            (bind("/"), Some("container.mounts[0].source")),
            (bind("/etc/cron.d"), Some("container.mounts[0].source")),
            (bind("/var/lib"), Some("container.mounts[0].source")),
            (bind("/sys/fs/cgroup"), Some("container.mounts[0].source")),
            (bind("/var/run/../spool/cron"), Some("container.mounts[0].source")),
            (bind("/var/lib/vmjob"), Some("container.mounts[0].source")),
            (bind("/var/lib/vmjob/result-1"), Some("container.mounts[0].source")),
            (bind("/mnt"), Some("container.mounts[0].source")),
            (bind("/mnt/stateful_partition"), Some("container.mounts[0].source")),
            (bind("/mnt/stateful_partition/var"), Some("container.mounts[0].source")),
            (bind("/mnt/stateful_partition/var/lib/vmjob"), Some("container.mounts[0].source")),
            (bind("/mnt/stateful_partition/home/../var/lib/docker"), Some("container.mounts[0].source")),
            (read(bind("/mnt/stateful_partition/var/run/docker.sock")), Some("container.mounts[0].source")),
            (bind("/mnt/stateful_partition/var/data"), None),
            (bind("/mnt/stateful_partition/home/job"), None),
            (bind("/mnt/stateful_partition/data"), None),
            (read(bind("/mnt/stateful_partition")), None),
            (read(bind("/var/lib/vmjob")), None),
            (read(bind("/etc/ssl")), None),
            (read(bind("/sys")), None),
            (bind("/var/runner"), None),
            (bind("/run/mine"), None),
            (bind("/mnt/disks/data"), None),
            (json!({"devices": ["/dev/sda1"]}), Some("container.devices[0]")),
            (json!({"devices": ["/dev/fuse", "/dev/../dev/mem"]}), Some("container.devices[1]")),
            (json!({"devices": ["/dev/disk/by-id/google-persistent-disk-0"]}), Some("container.devices[0]")),
            (json!({"devices": ["/dev/fuse", "/dev/nvidia0", "/dev/net/tun"]}), None),
            (json!({"network": "mine", "cap_add": ["NET_ADMIN", "SYS_PTRACE"]}), None),
            (json!({}), None),
        ] {
            assert_eq!(container(fields.clone()).as_deref(), place, "{fields}");
        }
        for (user, place) in [
            (json!(null), Some("process.user")),
            (json!("root"), Some("process.user")),
            (json!("0:1000"), Some("process.user")),
            (json!("job"), None),
        ] {
            let mut process = json!({"command": ["/x"]});
            if !user.is_null() {
                process["user"] = user.clone();
            }
            assert_eq!(refused(json!({ "process": process })).as_deref(), place, "{user}");
        }
    }

    #[test]
    fn the_agent_s_own_state_directory_is_kept_from_the_job() {
        let job = |source: &str, is_read_only: bool, metadata_server: &str| {
            let mount = json!({"type": "bind", "source": source, "target": "/x", "read_only": is_read_only});
            let job = json!({"container": {"image": "a", "mounts": [mount]}, "metadata_server": metadata_server});
            parse_spec(job.to_string().as_bytes()).unwrap().job
        };
        for (source, state_dir, is_refused) in [
            ("/home/vmjob", "/home/vmjob", true),
            ("/home", "/home/vmjob", true),
            ("/home/vmjob/result-1", "/home/x/../vmjob/", true),
            ("/mnt/stateful_partition/home/vmjob", "/home/vmjob", true),
            ("/home/vmjob", "/mnt/stateful_partition/home/vmjob", true),
            ("/home/vmjobs", "/home/vmjob", false),
            ("/home/vmjob", "/var/lib/vmjob", false),
        ] {
            let place = |job: Job| job.check_block(Path::new(state_dir)).err().map(|error| error.place);
            let expected = is_refused.then_some("container.mounts[0].source");
            assert_eq!(place(job(source, false, "block")).as_deref(), expected, "{source} {state_dir}");
            assert_eq!(place(job(source, true, "block")), None);
            assert_eq!(place(job(source, false, "allow")), None);
        }
    }
}
