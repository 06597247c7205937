//! The client of the engine's API over its unix socket: one method a call, each with its deadline.
//! Source: <https://docs.docker.com/reference/api/engine/>.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, BollardRequest, Docker,
    errors::Error,
    models::ContainerCreateBody,
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures_util::StreamExt;
use hyper::{Response, body::Incoming, header::HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use super::{
    ContainerNames, EngineError,
    ask_again::ask_again,
    inspect::{
        ContainerAnswer, EngineInfo, Found, Image, ImageAnswer, Inspected, Listed, ListedContainer, NetworkAnswer,
        VolumeAnswer,
    },
    metadata_block::Blocked,
    output::{OutputStream, Replay},
    read_ahead::read_ahead,
};
use crate::{
    clock,
    http::{UnixError, send_unix},
    metadata::percent_encode,
    plain_file,
    retry::Delays,
    waits::Waits,
};

/// Longer than any job: a stream is quiet for as long as nothing happens.
pub(super) const NO_DEADLINE: Duration = Duration::from_hours(24 * 366);
/// An ordinary call: the engine only has to look something up. One that is overloaded takes a minute.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(75);
/// Sign of life: an answer that takes no look at any container.
const PING_DEADLINE: Duration = Duration::from_secs(5);
/// A removal that is under way already, and between two looks at it.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(15);
const REMOVAL_PAUSE: Duration = Duration::from_millis(200);
/// Creating and starting prepare file systems and networks, on slow disks at boot.
const START_DEADLINE: Duration = Duration::from_mins(5);

/// A connection to an engine whose API version has been negotiated. Each call opens a connection of its own.
#[derive(Clone)]
pub struct DockerEngine {
    pub(super) docker: Docker,
    pub(super) socket: PathBuf,
}

/// A container that was made.
pub struct Created {
    pub id: String,
    pub warnings: Vec<String>,
}

/// The process that the engine is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    pid: i64,
    /// Seconds since boot, to a hundredth.
    started_since_boot_s: f64,
}

impl Daemon {
    /// Whether `at`, by the wall clock, lies before its start.
    pub fn started_after(&self, at: Timestamp) -> bool {
        let ago = Timestamp::now().duration_since(at).as_secs_f64();
        clock::since_boot().is_ok_and(|now| now.as_secs_f64() - ago < self.started_since_boot_s)
    }
}

impl DockerEngine {
    /// Connects to the engine at `host` (`unix://PATH`) and negotiates the version; goes on trying for `patience`, for at
    /// boot Docker may not be up yet.
    pub async fn connect(host: &str, patience: Duration, waits: &Waits) -> Result<Self, EngineError> {
        let Some(socket) = host.strip_prefix("unix://").map(Path::new) else {
            return Err(EngineError::Failed("only unix://PATH can be in DOCKER_HOST".into()));
        };
        let end = Instant::now() + patience;
        for (tried, delay) in Delays::new(Duration::from_millis(100), Duration::from_secs(3)).enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            match Self::connect_once(socket, CALL_DEADLINE.min(left.max(Duration::from_secs(1)))).await {
                Ok(engine) => return Ok(engine),
                Err(error) if Instant::now() + delay >= end => return Err(error),
                Err(error) => {
                    waits.failed(&error);
                    if tried == 3 {
                        info!("waiting for the Docker daemon at {host} for up to {} s: {error}", patience.as_secs());
                    }
                }
            }
            sleep(delay).await;
        }
        unreachable!("the delays never end")
    }

    async fn connect_once(socket: &Path, deadline: Duration) -> Result<Self, EngineError> {
        let path = socket.to_owned();
        let transport = move |request: BollardRequest| {
            let path = path.clone();
            async move { send(&path, request).await }
        };
        let docker = Docker::connect_with_custom_transport(
            transport,
            Some("http://localhost"),
            CALL_DEADLINE.as_secs(),
            API_DEFAULT_VERSION,
        )?;
        let negotiate = || async { docker.clone().negotiate_version().await.map_err(EngineError::from) };
        let docker = ask_again("version", deadline, negotiate).await?;
        Ok(Self { docker, socket: socket.to_owned() })
    }

    /// Its id, and what the engine warns of.
    pub async fn create(&self, name: &str, config: ContainerCreateBody) -> Result<Created, EngineError> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let slow = self.docker.clone().with_timeout(START_DEADLINE);
        let create = Box::pin(within("create", START_DEADLINE, slow.create_container(Some(options), config)));
        let is_made = |found: Found| matches!(found, Found::Container(_));
        let created = self.unless_lost("create", name, is_made, create).await?;
        Ok(Created { id: created.id, warnings: created.warnings })
    }

    pub async fn start(&self, container: &str) -> Result<(), EngineError> {
        let slow = self.docker.clone().with_timeout(START_DEADLINE);
        let start = within("start", START_DEADLINE, slow.start_container(container, None));
        // An engine that is at it holds the container's lock, and tells nothing of it.
        self.unless_lost("start", container, |_| true, start).await
    }

    /// The containers whose label has this value, running or not.
    pub async fn labelled(&self, label: &str, value: &str) -> Result<Vec<Inspected>, EngineError> {
        let filters = serde_json::json!({ "label": [format!("{label}={value}")] }).to_string();
        let filters = percent_encode(&filters);
        let listed: Vec<Listed> = self.get("list", &format!("/containers/json?all=true&filters={filters}")).await?;
        let mut found = Vec::new();
        for Listed { id } in listed {
            if let Found::Container(container) = self.inspect(&id).await? {
                found.push(*container);
            }
        }
        Ok(found)
    }

    /// What the engine knows of the container with this name or id.
    pub async fn inspect(&self, container: &str) -> Result<Found, EngineError> {
        match self.get::<ContainerAnswer>("inspect", &format!("/containers/{container}/json")).await {
            Ok(answer) => Ok(Inspected::from(answer).into()),
            Err(error) if error.is_not_found() => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Waits until the container, which was started, runs no more: the exit code as the engine gives it. This call
    /// alone has no deadline.
    pub async fn wait(&self, container: &str) -> Result<i64, EngineError> {
        // `next-exit` would hang for ever on a container that has exited already, and one that was started can only be
        // running or have exited: so this works alike for a fresh container and after a restart of the agent.
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let patient = self.docker.clone().with_timeout(NO_DEADLINE);
        match Box::pin(patient.wait_container(container, Some(options))).next().await {
            // Podman gives a container that was removed meanwhile an exit code of 0, and an error.
            Some(Ok(answer)) => match answer.error.and_then(|error| error.message) {
                Some(message) if !message.is_empty() => Err(EngineError::Refused { status: 404, message }),
                _ => Ok(answer.status_code),
            },
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(error.into()),
            None => Err(EngineError::Unreachable("the wait ended without an answer".into())),
        }
    }

    /// Sends a signal; false if the container does not run.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<bool, EngineError> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match within("kill", CALL_DEADLINE, self.docker.kill_container(container, Some(options))).await {
            Ok(()) => Ok(true),
            Err(EngineError::Refused { status: 404 | 409, .. }) => Ok(false),
            // Older engines, and Podman, answer 500 here.
            Err(error) if error.message_has(&["is not running", "can only kill running containers"]) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets a paused container go on; one that is not paused is fine.
    pub async fn unpause(&self, container: &str) -> Result<(), EngineError> {
        match within("unpause", PING_DEADLINE, self.docker.unpause_container(container)).await {
            Err(EngineError::Refused { .. }) => Ok(()),
            result => result,
        }
    }

    /// Whether it answers anything.
    pub async fn answers(&self) -> bool {
        timeout(PING_DEADLINE, self.ask("ping", "/_ping")).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Removes the container and its anonymous volumes; one that is gone already is fine.
    pub async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match within("remove", START_DEADLINE, self.docker.remove_container(container, Some(options))).await {
            Err(EngineError::Refused { status: 404, .. }) => Ok(()),
            // Its removal is under way, asked for by a call whose answer was not waited for.
            Err(EngineError::Refused { status: 409, .. }) => self.until_removed(container).await,
            result => result,
        }
    }

    async fn until_removed(&self, container: &str) -> Result<(), EngineError> {
        let end = Instant::now() + REMOVAL_DEADLINE;
        while let Found::Container(_) = self.inspect(container).await? {
            if Instant::now() >= end {
                return Err(EngineError::Late { call: "remove", deadline: REMOVAL_DEADLINE });
            }
            sleep(REMOVAL_PAUSE).await;
        }
        Ok(())
    }

    /// Removes a container that does not run; an error if it does.
    pub async fn remove_stopped(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().v(true).build();
        match within("remove", CALL_DEADLINE, self.docker.remove_container(container, Some(options))).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// The container's output from now on. To be called before the start: then nothing is missed.
    pub async fn attach(&self, container: &str) -> Result<OutputStream, EngineError> {
        let options = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
        let (docker, container) = (self.docker.clone(), container.to_owned());
        read_ahead(async move {
            let attach = || async { Ok(docker.attach_container(&container, Some(options.clone())).await?.output) };
            ask_again("attach", CALL_DEADLINE, attach).await
        })
        .await
    }

    /// The container's output from its beginning, as far as the log driver has kept it.
    pub fn replay(&self, container: &str, Replay { follow, with_times }: Replay) -> OutputStream {
        let options = LogsOptionsBuilder::new().follow(follow).stdout(true).stderr(true).timestamps(with_times).build();
        Box::pin(self.docker.logs(container, Some(options)))
    }

    /// Whether a replay that follows has all of the output. Podman's leaves out what the job writes while it comes to the end of the
    /// file: half an entry makes it seek the end (nxadm/tail `tail.go`).
    pub async fn can_follow(&self) -> bool {
        !self.info().await.is_ok_and(|info| info.is_podman())
    }

    /// The image, if it is there.
    pub async fn image(&self, image: &str) -> Result<Option<Image>, EngineError> {
        match self.get::<ImageAnswer>("image inspect", &format!("/images/{image}/json")).await {
            Ok(found) => Ok(Some(found.found(image))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The user that the image says its containers run as; empty for root.
    pub async fn image_user(&self, image: &str) -> Result<String, EngineError> {
        Ok(self.get::<ImageAnswer>("image inspect", &format!("/images/{image}/json")).await?.user())
    }

    /// A small text file of a container; empty where there is none.
    pub async fn text_file(&self, container: &str, path: &str) -> String {
        let answer = self.ask("archive", &format!("/containers/{container}/archive?path={path}")).await;
        answer.ok().and_then(|archive| only_file_of(&archive)).unwrap_or_default()
    }

    /// Whether the container's directory, with its json-file log, can be read here.
    pub async fn has_log_file(&self, container: &str) -> Result<bool, EngineError> {
        let root = self.info().await?.docker_root_dir;
        Ok(root.is_some_and(|root| fs::read_dir(root.join("containers").join(container)).is_ok()))
    }

    /// The bridge that containers of a network are on.
    pub async fn bridge(&self, network: &str) -> Result<Blocked, EngineError> {
        let answer = self.get::<NetworkAnswer>("network inspect", &format!("/networks/{network}")).await?;
        Blocked::bridge(&answer.bridge()?)
    }

    /// A volume that is there.
    pub(super) async fn volume(&self, name: &str) -> Result<Option<VolumeAnswer>, EngineError> {
        match self.get("volume inspect", &format!("/volumes/{name}")).await {
            Ok(volume) => Ok(Some(volume)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The name of a container of this claim that runs, or may.
    pub async fn running_container(&self, claim: &str) -> Result<Option<String>, EngineError> {
        // {"label":["vmjob.claim=CLAIM"]}; engines differ in the states that they have.
        let filters = format!("%7B%22label%22%3A%5B%22{}%3D{claim}%22%5D%7D", ContainerNames::CLAIM);
        let found: Vec<ListedContainer> =
            self.get("containers", &format!("/containers/json?all=true&filters={filters}")).await?;
        let has_ended = |container: &ListedContainer| {
            matches!(container.state.as_str(), "created" | "configured" | "initialized" | "exited" | "stopped" | "dead")
        };
        let running = found.into_iter().find(|container| !has_ended(container));
        Ok(running.map(|container| container.names.into_iter().next().unwrap_or_default()))
    }

    /// What the engine says of itself.
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.get("info", "/info").await
    }

    /// The version of the API that was agreed on.
    pub fn api_version(&self) -> String {
        self.docker.client_version().to_string()
    }

    /// Which process the daemon is: another one is a daemon that was started anew. `None` where there is no pid file beside its
    /// socket, as `dockerd --pidfile` has it by default.
    pub fn daemon(&self) -> Option<Daemon> {
        let pid = plain_file::read_system(&self.socket.with_extension("pid")).ok()?.trim().parse().ok()?;
        Some(Daemon { pid, started_since_boot_s: clock::process_start(pid)?.as_secs_f64() })
    }
}

/// What bollard sends goes through here.
async fn send(path: &Path, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
    // bollard encodes registry credentials with `+` and `/`; the engine wants the URL-safe alphabet.
    if let Some(auth) = request.headers_mut().get_mut("X-Registry-Auth") {
        let url_safe: Vec<u8> = auth
            .as_bytes()
            .iter()
            .map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(&url_safe) {
            *auth = value;
        }
        auth.set_sensitive(true);
    }
    send_unix(path, request).await.map_err(|error| match error {
        UnixError::Connect(err) => Error::IOError { err },
        UnixError::Exchange(err) => Error::HyperResponseError { err },
    })
}

/// The text of an archive's first entry, if that is a file: its size is in octal digits, and its content begins at the next block.
/// Source: POSIX `pax`, "ustar Interchange Format".
fn only_file_of(archive: &[u8]) -> Option<String> {
    let (size, kind) = (archive.get(124..136)?, archive.get(156)?);
    let size = std::str::from_utf8(size).ok()?.trim_matches(['\0', ' ']);
    let size = usize::from_str_radix(size, 8).ok().filter(|_| matches!(kind, b'0' | 0))?;
    let content = archive.get(512..)?.get(..size)?;
    Some(String::from_utf8_lossy(content).into_owned())
}

/// Bounds a whole call: bollard's own time-out ends with the answer's headers.
async fn within<T>(
    call: &'static str,
    deadline: Duration,
    pending: impl Future<Output = Result<T, Error>>,
) -> Result<T, EngineError> {
    match timeout(deadline, pending).await {
        Ok(result) => result.map_err(EngineError::from),
        Err(_) => Err(EngineError::Late { call, deadline }),
    }
}
