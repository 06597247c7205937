//! From the job to the engine's container configuration: field by field, nothing guessed.
//! Source of the field names: <https://docs.docker.com/reference/api/engine/version/v1.41/#operation/ContainerCreate>.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountTmpfsOptions,
    MountType, MountVolumeOptions, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::{
    google::SecretValue,
    job::{Container, Gpus, Job, MetadataServer, MountKind, OwnMount, Process, RESULT_DIR},
    service::can_start_units,
    shim::ProcessSpec,
};

/// The result file's name, on both sides of the mount.
pub const RESULT_FILE: &str = "result.json";

/// The secret part of a job's environment.
pub type SecretEnv = BTreeMap<String, SecretValue>;

/// What a container of the job's is known by: its name, its labels, its environment.
#[derive(Debug, Clone)]
pub struct JobIdentity {
    pub job_id: String,
    pub claim: String,
    /// From 1.
    pub attempt: u32,
    /// The boot in which the attempt was begun.
    pub boot_id: String,
    /// What the job is told of itself, whatever it is given else.
    pub variables: Vec<(String, String)>,
    /// Where these are known already.
    pub image: Option<String>,
    pub container: Option<String>,
}

/// The names that tie a container to the job and attempt it belongs to.
pub struct ContainerNames;

impl ContainerNames {
    /// On a container: which claim it belongs to, and the boot in which it was created.
    pub const CLAIM: &str = "vmjob.claim";
    pub const BOOT_ID: &str = "vmjob.boot-id";
    pub const ATTEMPT: &str = "vmjob.attempt";

    /// The container's name.
    pub fn of(job_id: &str, attempt: u32) -> String {
        format!("vmjob-{job_id}-{attempt}")
    }
}

/// Directories of the VM that an attempt has.
pub struct Dirs {
    /// In which the job's result is to appear.
    pub result: PathBuf,
    /// For inputs and outputs under none of the container's mounts.
    pub files: PathBuf,
}

/// The configuration of the container for the job's current attempt.
pub(super) fn container_config(
    identity: &JobIdentity,
    job: &Job,
    container: &Container,
    secrets: &SecretEnv,
    dirs: &Dirs,
) -> ContainerCreateBody {
    let secrets = secrets.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned()));
    let env = container.env.clone().into_iter().chain(secrets).chain(job_env(identity, Path::new(RESULT_DIR)));
    let env = env.map(|(name, value)| format!("{name}={value}")).collect();
    let labels = container.labels.clone().into_iter().chain(labels(identity)).collect();
    ContainerCreateBody {
        image: Some(container.image.clone()),
        entrypoint: container.entrypoint.clone(),
        cmd: some_unless_empty(&container.args),
        env: Some(env),
        working_dir: container.workdir.clone(),
        user: container.user.clone(),
        hostname: container.hostname.clone(),
        tty: Some(container.tty),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some(labels),
        host_config: Some(host_config(identity, job, container, dirs)),
        ..ContainerCreateBody::default()
    }
}

/// As [`container_config`], for a job without a container.
pub(super) fn process_spec(
    name: &str,
    identity: &JobIdentity,
    job: &Job,
    process: &Process,
    result_dir: &Path,
) -> ProcessSpec {
    ProcessSpec {
        name: name.to_owned(),
        command: process.command.clone(),
        env: process.env.clone().into_iter().chain(job_env(identity, result_dir)).collect(),
        workdir: process.workdir.clone(),
        user: process.user.clone(),
        labels: labels(identity).into(),
        has_own_group: can_start_units(),
        has_secrets: !process.secret_env.is_empty(),
        no_new_privileges: job.metadata_server == MetadataServer::Block,
    }
}

/// What every job is told of itself.
pub fn job_env(identity: &JobIdentity, result_dir: &Path) -> Vec<(String, String)> {
    let result_file = result_dir.join(RESULT_FILE).display().to_string();
    identity.variables.iter().cloned().chain([("JOB_RESULT_FILE".to_owned(), result_file)]).collect()
}

fn labels(identity: &JobIdentity) -> [(String, String); 4] {
    [
        (ContainerNames::CLAIM, identity.claim.clone()),
        (ContainerNames::BOOT_ID, identity.boot_id.clone()),
        ("vmjob.id", identity.job_id.clone()),
        (ContainerNames::ATTEMPT, identity.attempt.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn host_config(identity: &JobIdentity, job: &Job, container: &Container, dirs: &Dirs) -> HostConfig {
    let own_mounts = job.own_mounts().into_iter().map(|own| own_mount(own, &dirs.files));
    // What is given as a bind and not as a mount is made where it is missing. An engine that does not see our directory so makes
    // its own, and runs the job.
    let ours = format!("{}:{RESULT_DIR}", dirs.result.display());
    HostConfig {
        mounts: Some(
            container
                .mounts
                .iter()
                .filter(|mount| bind(mount).is_none())
                .map(|of_job| marked(mount(of_job), job, identity))
                .chain(own_mounts)
                .collect(),
        ),
        binds: Some(std::iter::once(ours).chain(container.mounts.iter().filter_map(bind)).collect()),
        devices: Some(
            container
                .devices
                .iter()
                .map(|device| DeviceMapping {
                    path_on_host: Some(device.host.clone()),
                    path_in_container: Some(device.container.clone()),
                    cgroup_permissions: Some(device.permissions.clone()),
                })
                .collect(),
        ),
        device_requests: container.gpus.as_ref().map(|gpus| vec![gpu_request(gpus)]),
        nano_cpus: container.cpus.map(nano_cpus),
        memory: container.memory.map(saturating),
        shm_size: container.shm_size.map(saturating),
        pids_limit: container.pids_limit,
        ulimits: Some(
            container
                .ulimits
                .iter()
                .map(|(name, limit)| ResourcesUlimits {
                    name: Some(name.clone()),
                    soft: Some(limit.soft),
                    hard: Some(limit.hard),
                })
                .collect(),
        ),
        network_mode: container.network.clone(),
        init: container.init.then_some(true),
        readonly_rootfs: Some(container.read_only),
        privileged: Some(container.privileged),
        cap_add: some_unless_empty(&container.cap_add),
        cap_drop: some_unless_empty(&container.cap_drop),
        security_opt: some_unless_empty(&container.security_opt),
        extra_hosts: some_unless_empty(&container.extra_hosts),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig {
            typ: Some(container.log_driver.clone()),
            config: Some(container.log_options.clone().into_iter().collect()),
        }),
        ..HostConfig::default()
    }
}

/// A mount whose source is to be made where it is missing, as the engine has it since `docker run -v`.
fn bind(mount: &crate::job::Mount) -> Option<String> {
    match &mount.kind {
        MountKind::Bind { source, create: true } => {
            Some(format!("{source}:{}{}", mount.target, if mount.read_only { ":ro" } else { "" }))
        }
        _ => None,
    }
}

fn mount(mount: &crate::job::Mount) -> Mount {
    let (typ, source, tmpfs_options) = match &mount.kind {
        MountKind::Bind { source, .. } => (MountType::BIND, Some(source.clone()), None),
        MountKind::Volume { source } => (MountType::VOLUME, source.clone(), None),
        MountKind::Tmpfs { size } => {
            let options = MountTmpfsOptions { size_bytes: size.map(saturating), ..MountTmpfsOptions::default() };
            (MountType::TMPFS, None, Some(options))
        }
    };
    Mount {
        typ: Some(typ),
        source,
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        tmpfs_options,
        ..Mount::default()
    }
}

/// A new volume of a job that may have new ones only bears its mark: for a second attempt it is one of its own.
fn marked(mut mount: Mount, job: &Job, identity: &JobIdentity) -> Mount {
    if job.metadata_server == MetadataServer::Block && mount.typ == Some(MountType::VOLUME) {
        let labels = Some(HashMap::from([(ContainerNames::CLAIM.to_owned(), identity.claim.clone())]));
        mount.volume_options = Some(MountVolumeOptions { labels, ..MountVolumeOptions::default() });
    }
    mount
}

fn own_mount(own: OwnMount, files: &Path) -> Mount {
    let source = files.join(own.target.trim_start_matches('/')).to_string_lossy().into_owned();
    Mount { typ: Some(MountType::BIND), source: Some(source), target: Some(own.target), ..Mount::default() }
}

/// As the CLI's `--gpus` asks for them.
fn gpu_request(gpus: &Gpus) -> DeviceRequest {
    let (count, device_ids) = match gpus {
        Gpus::All => (Some(-1), None),
        Gpus::Count(count) => (Some(i64::from(*count)), None),
        Gpus::Devices(ids) => (None, Some(ids.clone())),
    };
    let capabilities = Some(vec![vec!["gpu".to_owned()]]);
    DeviceRequest { count, device_ids, capabilities, options: Some(HashMap::new()), ..DeviceRequest::default() }
}

#[expect(clippy::cast_possible_truncation, reason = "a number of CPUs times 1e9 fits, and the cast saturates")]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

fn saturating(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn some_unless_empty(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}
