//! The engine's answers about containers, images and itself, as far as they are needed. bollard's own models of these answers are
//! complete, and for that a tenth of the whole binary.
//! Source of the field names: <https://docs.docker.com/reference/api/engine/version/v1.41/#operation/ContainerInspect>.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::PathBuf,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EngineError;
use crate::clock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Created and never started, or a start of it failed.
    Created,
    Running,
    Exited,
    /// It was started and does not run, and nobody knows how it ended.
    Lost,
}

/// What the engine says about a container that runs no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    pub code: i64,
    /// The engine saw the kernel kill something in the container for memory.
    pub oom_killed: bool,
    /// The engine's own error text; empty mostly.
    pub error: String,
    /// Whether the engine was away when the job ended, and nobody else saw the end.
    pub is_unseen: bool,
}

/// What the engine knows of a container.
#[derive(Debug, Clone)]
pub struct Inspected {
    pub id: String,
    /// The main process, while it runs.
    pub pid: Option<i64>,
    pub status: Status,
    pub exit: Exit,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Where the engine keeps its json-file log.
    pub log_path: Option<PathBuf>,
    /// The signal with which this image wants to be stopped.
    pub stop_signal: String,
    pub(super) labels: HashMap<String, String>,
    pub container: ContainerFacts,
}

/// What only a container has.
#[derive(Debug, Clone, Default)]
pub struct ContainerFacts {
    /// The image, as it was named at the create.
    pub image: String,
    pub is_paused: bool,
    /// It has ended, and the engine is about to start it again.
    pub is_restarting: bool,
    pub settings: Option<Settings>,
    /// The command of its HEALTHCHECK, which the engine runs as `docker exec` does.
    pub health_command: Option<String>,
}

/// What of a container can be changed while it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub name: String,
    /// `no`, or when the engine starts it again.
    pub restart_policy: String,
    pub memory_bytes: i64,
    pub nano_cpus: i64,
    pub cpuset: String,
    pub pids_limit: i64,
    pub networks: BTreeSet<String>,
}

/// What a look for a container finds.
pub enum Found {
    Container(Box<Inspected>),
    Nothing,
}

impl Inspected {
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

impl From<Inspected> for Found {
    /// One that is being removed and never ran is as good as gone: the exit code 0 that the engine gives it is nobody's.
    fn from(inspected: Inspected) -> Self {
        match (inspected.status, inspected.started_at) {
            (Status::Exited, None) => Self::Nothing,
            _ => Self::Container(Box::new(inspected)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerAnswer {
    id: String,
    state: StateAnswer,
    #[serde(default)]
    log_path: String,
    config: ConfigAnswer,
    #[serde(default)]
    name: String,
    #[serde(default)]
    host_config: HostConfigAnswer,
    #[serde(default)]
    network_settings: NetworksAnswer,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfigAnswer {
    memory: i64,
    nano_cpus: i64,
    cpuset_cpus: String,
    pids_limit: Option<i64>,
    restart_policy: RestartPolicyAnswer,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RestartPolicyAnswer {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworksAnswer {
    networks: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A container in a list.
#[derive(Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "Id")]
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StateAnswer {
    status: String,
    #[serde(default)]
    pid: i64,
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    finished_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigAnswer {
    stop_signal: Option<String>,
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    image: String,
    healthcheck: Option<HealthcheckAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthcheckAnswer {
    test: Option<Vec<String>>,
}

impl From<ContainerAnswer> for Inspected {
    fn from(answer: ContainerAnswer) -> Self {
        let ContainerAnswer { id, state, log_path, config, name, host_config, network_settings } = answer;
        let status = match state.status.as_str() {
            // Podman says `configured` and `initialized` too.
            "created" | "configured" | "initialized" => Status::Created,
            "exited" | "dead" | "removing" | "stopped" => Status::Exited,
            _ => Status::Running,
        };
        let policy = host_config.restart_policy.name;
        let settings = Settings {
            name: name.trim_start_matches('/').to_owned(),
            restart_policy: if policy.is_empty() { "no".into() } else { policy },
            memory_bytes: host_config.memory,
            nano_cpus: host_config.nano_cpus,
            cpuset: host_config.cpuset_cpus,
            pids_limit: host_config.pids_limit.unwrap_or_default(),
            networks: network_settings.networks.iter().flat_map(|networks| networks.keys().cloned()).collect(),
        };
        let health_command =
            config.healthcheck.and_then(|check| check.test).and_then(|test| Some(test.get(1..)?.join(" ")));
        let container = ContainerFacts {
            image: config.image,
            is_paused: state.status == "paused",
            is_restarting: state.status == "restarting",
            settings: Some(settings),
            health_command: health_command.filter(|command| !command.is_empty()),
        };
        Self {
            id,
            pid: Some(state.pid).filter(|pid| *pid > 0),
            status,
            exit: Exit { code: state.exit_code, oom_killed: state.oom_killed, error: state.error, is_unseen: false },
            started_at: clock::parse(&state.started_at),
            finished_at: clock::parse(&state.finished_at),
            log_path: Some(log_path).filter(|path| !path.is_empty()).map(PathBuf::from),
            // Podman gives a number, or an empty text.
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()).unwrap_or_else(|| "SIGTERM".into()),
            labels: config.labels.unwrap_or_default(),
            container,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageAnswer {
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    config: Option<ImageConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageConfig {
    user: Option<String>,
}

/// An image that is there.
#[derive(Debug, Default)]
pub struct Image {
    /// The digest by which its registry knows it.
    pub digest: Option<String>,
    /// What it was built for, such as `linux/arm64`, where the VM cannot be expected to run that.
    pub other_platform: Option<String>,
}

/// What programs of the VM's own platform, which is the agent's, may be built for.
const OWN_ARCHITECTURES: [&str; 2] = if cfg!(target_arch = "aarch64") { ["arm64", "arm"] } else { ["amd64", "386"] };

impl ImageAnswer {
    pub(super) fn user(self) -> String {
        self.config.and_then(|config| config.user).unwrap_or_default()
    }

    pub(super) fn found(&self, image: &str) -> Image {
        let Self { os, architecture, .. } = self;
        let is_known = !matches!(architecture.as_str(), "" | "unknown");
        let is_other = is_known && !OWN_ARCHITECTURES.contains(&architecture.as_str());
        Image { digest: self.digest(image), other_platform: is_other.then(|| format!("{os}/{architecture}")) }
    }

    /// The digest among those of the image that belongs to the repository of `image`, or else the first.
    fn digest(&self, image: &str) -> Option<String> {
        let mut split = self.repo_digests.iter().flatten().filter_map(|digest| digest.split_once('@'));
        let ours = split.clone().find(|(repository, _)| image.starts_with(repository));
        ours.or_else(|| split.next()).map(|(_, digest)| digest.to_owned())
    }
}

/// What the engine says of itself; what it does not say is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EngineInfo {
    pub docker_root_dir: Option<PathBuf>,
    pub server_version: String,
    /// The storage driver.
    pub driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    pub memory_limit: bool,
    pub live_restore_enabled: bool,
    buildah_version: String,
    runtimes: serde_json::Map<String, serde_json::Value>,
    discovered_devices: Vec<DiscoveredDevice>,
}

/// A device that the engine knows how to give to a container, by CDI (API 1.50 and up).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DiscoveredDevice {
    #[serde(rename = "ID")]
    id: String,
}

impl EngineInfo {
    /// Whether it says that it can give out NVIDIA's GPUs: by the runtime of NVIDIA's toolkit, or by CDI.
    pub fn knows_gpus(&self) -> bool {
        self.has_runtime("nvidia")
            || self.discovered_devices.iter().any(|device| device.id.starts_with("nvidia.com/gpu"))
    }

    pub fn has_runtime(&self, name: &str) -> bool {
        self.runtimes.contains_key(name)
    }

    /// Podman alone brings Buildah along. Source: Podman `pkg/api/handlers/types.go`.
    pub fn is_podman(&self) -> bool {
        !self.buildah_version.is_empty()
    }

    /// Whether the containers' directories, with their json-file logs, can be read here.
    pub fn has_log_files(&self) -> bool {
        self.docker_root_dir.as_ref().is_some_and(|root| fs::read_dir(root.join("containers")).is_ok())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeAnswer {
    pub(super) driver: String,
    pub(super) options: Option<HashMap<String, String>>,
    pub(super) labels: Option<HashMap<String, String>>,
}

/// One of a list of containers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedContainer {
    pub(super) names: Vec<String>,
    pub(super) state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkAnswer {
    id: String,
    driver: String,
    options: Option<HashMap<String, String>>,
}

impl NetworkAnswer {
    /// The bridge that it is in the VM: named by an option, or after the network's id. Networks of other drivers have none.
    /// Source: moby `libnetwork/drivers/bridge`.
    pub(super) fn bridge(&self) -> Result<String, EngineError> {
        if self.driver != "bridge" {
            let driver = &self.driver;
            return Err(EngineError::Failed(format!(
                "a network of the driver {driver:?} bypasses the VM's own: use \"bridge\""
            )));
        }
        let named = self.options.as_ref().and_then(|options| options.get("com.docker.network.bridge.name"));
        Ok(named.cloned().unwrap_or_else(|| format!("br-{}", self.id.get(..12).unwrap_or(&self.id))))
    }
}

/// What the engine answers with where it refuses something.
#[derive(Deserialize)]
pub(super) struct ErrorAnswer {
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_of_a_container_that_never_ran_is_no_exit() {
        let zero = "0001-01-01T00:00:00Z";
        let found = |status: &str, started: &str| {
            let answer = serde_json::json!({
                "Id": "c", "Config": {"StopSignal": null, "Labels": null},
                "State": {"Status": status, "ExitCode": 0, "StartedAt": started, "FinishedAt": zero},
            });
            let answer: ContainerAnswer = serde_json::from_value(answer).unwrap();
            match Found::from(Inspected::from(answer)) {
                Found::Container(found) => Some(found.status),
                Found::Nothing => None,
            }
        };
        assert_eq!(found("removing", zero), None);
        assert_eq!(found("dead", zero), None);
        assert_eq!(found("created", zero), Some(Status::Created));
        assert_eq!(found("running", "2026-01-01T00:00:00Z"), Some(Status::Running));
        assert_eq!(found("removing", "2026-01-01T00:00:00Z"), Some(Status::Exited));
    }
}
