//! `metadata_server: block` is a promise: a job gets what this list allows, and any other is refused.
//!
//! In: a job whose values have all been checked. Out: the place that is not on the list, and what to write instead. This is what
//! the text alone tells; where links lead, which volumes there are and a device's number are looked at in the VM, at each create
//! (`runtime/block_check.rs`).

use std::path::{Component, Path, PathBuf};

use super::error::{JobError, Problem, quote};
use super::names::JOB_SPEC;
use super::types::{Container, Job, MetadataServer, MountKind, Process, Work};

/// Below these a job finds its data, and nothing that the VM itself runs on.
const MOUNTS: [&str; 3] = ["/srv", "/data", "/scratch"];
/// Allowed only below, as Container-Optimized OS keeps the VM's own files in the second.
const DISKS: [&str; 2] = ["/mnt", "/mnt/stateful_partition"];
/// Docker's own default (moby `oci/caps/defaults.go`), and two for the scheduler and the memory of GPUs.
const CAPABILITIES: [&str; 16] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
    "SYS_NICE",
];
/// By their names; what they are the VM tells by their number.
const DEVICES: [&str; 7] =
    ["/dev/fuse", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
const GPUS: [&str; 2] = ["/dev/nvidia", "/dev/dri/renderD"];
const NETWORKS: [&str; 3] = ["bridge", "default", "none"];
/// What leaves the engine's default as it is, or narrows it.
const SECURITY_OPTS: [&str; 8] = [
    "no-new-privileges",
    "no-new-privileges=true",
    "no-new-privileges:true",
    "no-new-privileges=false",
    "no-new-privileges:false",
    "apparmor=docker-default",
    "apparmor:docker-default",
    "seccomp=builtin",
];
const FIX_MOUNTS: &str = "mount a directory below one of these, or name it in VMJOB_BLOCK_MOUNTS in the VM";

impl Job {
    /// What the job's text alone tells, but for the sources of mounts, which the VM's settings allow.
    pub(super) fn check_block(&self) -> Result<(), JobError> {
        match (self.metadata_server, &self.work) {
            (MetadataServer::Allow, _) => Ok(()),
            (_, Work::Container(container)) => check_container(container),
            (_, Work::Process(process)) => check_process(process),
        }
    }

    /// The sources of bind mounts, by their names. `allowed` are those of `VMJOB_BLOCK_MOUNTS`.
    ///
    /// # Errors
    /// The first that is not allowed.
    pub fn check_block_mounts(&self, allowed: &[PathBuf]) -> Result<(), JobError> {
        self.blocked_binds().try_for_each(|(index, source)| {
            if Path::new(source).components().any(|part| part == Component::ParentDir) {
                let what = format!("a container with the mount {}, which has a \"..\" in it,", quote(source));
                return Err(not_blocked(&bind_place(index), &what, "write the path without"));
            }
            let source = clean(source);
            if is_allowed_source(&source, allowed) { Ok(()) } else { Err(refused_source(index, &source, None)) }
        })
    }

    /// The sources of bind mounts with their indexes, where `block` wants them looked at.
    pub fn blocked_binds(&self) -> impl Iterator<Item = (usize, &str)> {
        self.blocked_container().into_iter().flat_map(|container| container.mounts.iter().enumerate()).filter_map(
            |(index, mount)| match &mount.kind {
                MountKind::Bind { source, .. } => Some((index, source.as_str())),
                _ => None,
            },
        )
    }

    /// The process, where `block` wants it looked at.
    pub fn blocked_process(&self) -> Option<&Process> {
        match &self.work {
            Work::Process(process) if self.metadata_server == MetadataServer::Block => Some(process),
            _ => None,
        }
    }

    /// The container, where `block` wants it looked at.
    pub fn blocked_container(&self) -> Option<&Container> {
        match &self.work {
            Work::Container(container) if self.metadata_server == MetadataServer::Block => Some(container),
            _ => None,
        }
    }
}

/// Whether a path, of which all links are resolved, is one of a job's data.
pub fn is_allowed_source(source: &Path, allowed: &[PathBuf]) -> bool {
    let is_below = |dir: &str| source.starts_with(dir);
    let [disks, own] = DISKS;
    MOUNTS.into_iter().any(is_below)
        || (is_below(disks) && source != Path::new(disks) && !is_below(own))
        || allowed.iter().any(|dir| source.starts_with(dir))
}

/// The error for a mount; `leads_to` is where its source leads, if elsewhere.
pub fn refused_source(index: usize, source: &Path, leads_to: Option<&Path>) -> JobError {
    let leads = leads_to.map(|to| format!(", a link to {},", quote(&to.to_string_lossy()))).unwrap_or_default();
    let what = format!(
        "a container with the mount {}{leads} which is not below /mnt (but /mnt/stateful_partition), /srv, /data or /scratch,",
        quote(&source.to_string_lossy())
    );
    not_blocked(&bind_place(index), &what, FIX_MOUNTS)
}

pub fn bind_place(index: usize) -> String {
    format!("container.mounts[{index}].source")
}

/// `what` could get around it.
pub fn not_blocked(place: &str, what: &str, fix: &str) -> JobError {
    let problem = format!("{what} cannot be kept from the metadata server, as metadata_server \"block\" asks");
    Problem::new(problem).fix(fix).at(JOB_SPEC, place)
}

/// Without doubled slashes and dots.
fn clean(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

fn check_container(container: &Container) -> Result<(), JobError> {
    // Taken apart, so that a new field has to be thought of here.
    let Container {
        network,
        privileged,
        cap_add,
        devices,
        security_opt,
        // A way out that is none of the above.
        image: _,
        entrypoint: _,
        args: _,
        env: _,
        secret_env: _,
        workdir: _,
        user: _,
        hostname: _,
        mounts: _,
        gpus: _,
        cpus: _,
        memory: _,
        shm_size: _,
        pids_limit: _,
        ulimits: _,
        init: _,
        read_only: _,
        cap_drop: _,
        labels: _,
        extra_hosts: _,
        pull: _,
        tty: _,
        log_driver: _,
        log_options: _,
    } = container;
    if let Some(network) = network.as_deref().filter(|network| !NETWORKS.contains(network)) {
        let what = format!("a container on the network {}", quote(network));
        return Err(not_blocked("container.network", &what, "use \"bridge\", or leave it out"));
    }
    if *privileged {
        let fix = "leave it out; what it is for may be one of the capabilities or devices that are allowed";
        return Err(not_blocked("container.privileged", "a privileged container", fix));
    }
    for (index, cap) in cap_add.iter().enumerate() {
        let name = cap.to_ascii_uppercase();
        if !CAPABILITIES.contains(&name.strip_prefix("CAP_").unwrap_or(&name)) {
            let fix = "leave it out: allowed are Docker's default ones, SYS_NICE and IPC_LOCK";
            return Err(not_blocked(&format!("container.cap_add[{index}]"), &format!("a container with {cap}"), fix));
        }
    }
    for (index, option) in security_opt.iter().enumerate() {
        if !SECURITY_OPTS.contains(&option.as_str()) {
            let what = format!("a container with the security option {}", quote(option));
            let fix = "leave it out: allowed is no-new-privileges";
            return Err(not_blocked(&format!("container.security_opt[{index}]"), &what, fix));
        }
    }
    for (index, device) in devices.iter().enumerate() {
        let path = clean(&device.host);
        let name = path.to_string_lossy();
        let goes_up = path.components().any(|part| part == Component::ParentDir);
        if goes_up || !(DEVICES.contains(&&*name) || GPUS.iter().any(|gpu| name.starts_with(gpu))) {
            return Err(refused_device(index, &device.host));
        }
    }
    Ok(())
}

pub fn refused_device(index: usize, host: &str) -> JobError {
    let fix = "leave it out: allowed are the nodes of GPUs, and fuse, null, zero, full, random, urandom and tty of /dev; \
               of a disk mount a directory";
    not_blocked(&format!("container.devices[{index}]"), &format!("a container with the device {}", quote(host)), fix)
}

fn check_process(process: &Process) -> Result<(), JobError> {
    let user = process.user.as_deref().unwrap_or("root");
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    if matches!(name, "root" | "0") {
        return Err(not_blocked("process.user", "a process of root", "name another user"));
    }
    if matches!(group, "root" | "0") {
        return Err(not_blocked("process.user", "a process in the group of root", "name another group"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::job::parse_spec;

    /// The place that is refused: by the text, or by the sources of its mounts.
    fn refused(work: &Value, allowed: &[&str]) -> Option<String> {
        let mut job = json!({"metadata_server": "block"});
        job.as_object_mut().unwrap().extend(work.as_object().unwrap().clone());
        let allowed: Vec<PathBuf> = allowed.iter().map(PathBuf::from).collect();
        let checked = parse_spec(job.to_string().as_bytes()).and_then(|parsed| {
            assert_eq!(parsed.job.to_json()["metadata_server"], "block");
            parsed.job.check_block_mounts(&allowed)
        });
        let error = checked.err()?;
        assert!(error.fix.is_some() && error.problem.contains("cannot be kept from the metadata server"), "{error}");
        job["metadata_server"] = json!("allow");
        let parsed = parse_spec(job.to_string().as_bytes()).unwrap();
        assert_eq!(parsed.job.check_block_mounts(&allowed), Ok(()), "without block it is fine");
        Some(error.place)
    }

    #[test]
    fn what_is_not_allowed_is_refused_at_its_place() {
        let bind =
            |source: &str| json!({"mounts": [{"type": "bind", "source": source, "target": "/x", "read_only": true}]});
        let source = Some("container.mounts[0].source");
        let device = Some("container.devices[0]");
        for (mut fields, place) in [
            (json!({}), None),
            (json!({"network": "bridge"}), None),
            (json!({"network": "none"}), None),
            (json!({"network": "host"}), Some("container.network")),
            (json!({"network": "container:x"}), Some("container.network")),
            (json!({"network": "mine"}), Some("container.network")),
            (json!({"privileged": true}), Some("container.privileged")),
            (json!({"cap_add": ["SYS_NICE", "cap_ipc_lock", "CAP_CHOWN", "NET_RAW"], "cap_drop": ["ALL"]}), None),
            (json!({"cap_add": ["SYS_NICE", "NET_ADMIN"]}), Some("container.cap_add[1]")),
            (json!({"cap_add": ["ALL"]}), Some("container.cap_add[0]")),
            (json!({"cap_add": ["cap_sys_ptrace"]}), Some("container.cap_add[0]")),
            (json!({"security_opt": ["no-new-privileges", "seccomp=builtin", "apparmor=docker-default"]}), None),
            (json!({"security_opt": ["seccomp=unconfined"]}), Some("container.security_opt[0]")),
            (json!({"security_opt": ["seccomp={}"]}), Some("container.security_opt[0]")),
            (json!({"security_opt": ["apparmor=unconfined"]}), Some("container.security_opt[0]")),
            (json!({"security_opt": ["label=disable"]}), Some("container.security_opt[0]")),
            (json!({"devices": ["/dev/fuse", "/dev/nvidia0", "/dev//null", "/dev/dri/renderD128"]}), None),
            (json!({"devices": ["/dev/sda1"]}), device),
            (json!({"devices": ["/dev/sg0"]}), device),
            (json!({"devices": ["/dev/net/tun"]}), device),
            (json!({"devices": ["/dev/nvidia/../mem"]}), device),
            (json!({"devices": ["/proc/self/root/dev/loop0:/dev/x"]}), device),
            (json!({"devices": ["/mnt/null"]}), device),
            (json!({"gpus": "all"}), None),
            (bind("/mnt/disks/data"), None),
            (bind("/mnt//x/./y/"), None),
            (bind("/srv"), None),
            (bind("/data"), None),
            (bind("/scratch/x"), None),
            (bind("/opt/data"), None),
            (bind("/mnt"), source),
            (bind("/mnt/stateful_partition"), source),
            (bind("/mnt/stateful_partition/data"), source),
            (bind("/mnt/./stateful_partition//home"), source),
            (bind("/mnt/x/../stateful_partition"), source),
            (bind("/"), source),
            (bind("/database"), source),
            (bind("/run/docker"), source),
            (bind("/proc"), source),
            (bind("/tmp"), source),
            (bind("/etc/ssl"), source),
            (bind("/home/job"), source),
            (bind("/var/lib/vmjob/result-1"), source),
            (bind("/opt"), source),
            (
                json!({"mounts": [{"type": "volume", "source": "data", "target": "/x"}, {"type": "tmpfs", "target": "/y"}]}),
                None,
            ),
        ] {
            fields["image"] = json!("a");
            assert_eq!(refused(&json!({ "container": fields }), &["/opt/data"]).as_deref(), place, "{fields}");
        }
        for (user, place) in [
            (json!(null), Some("process.user")),
            (json!("root"), Some("process.user")),
            (json!("0:1000"), Some("process.user")),
            (json!("job:0"), Some("process.user")),
            (json!("job:root"), Some("process.user")),
            (json!("job"), None),
        ] {
            let process = json!({"command": ["/x"], "user": user});
            assert_eq!(refused(&json!({ "process": process }), &[]).as_deref(), place, "{user}");
        }
    }
}
