//! Getting the image: pulled with a deadline on every part, retried where that can help, with progress in the log.

use std::{collections::HashMap, fmt, time::Duration};

use bollard::{auth::DockerCredentials, models::CreateImageInfo, query_parameters::CreateImageOptionsBuilder};
use futures_util::StreamExt;
use tokio::time::{Instant, interval_at, sleep, timeout_at};
use tracing::{info, warn};

use super::{
    EngineError,
    docker::{DockerEngine, NO_DEADLINE},
};
use crate::{
    metadata::{Metadata, TokenError},
    retry::Delays,
    waits::Waits,
};

/// A pull in all, tries included.
const PULL_DEADLINE: Duration = Duration::from_hours(2);
/// At least, before a pull is given up.
const MIN_TRIES: usize = 5;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("image {image} was not found: {source}")]
    NotFound { image: String, source: EngineError },
    #[error("access to image {image} was denied: {source}")]
    Denied { image: String, source: EngineError },
    #[error("failed to pull image {image}: {source}")]
    Failed { image: String, source: EngineError },
    /// The agent gave the pull up: it took too long, or nothing moved.
    #[error("failed to pull image {image}: {problem}")]
    CutShort { image: String, problem: String },
}

impl PullError {
    /// Whether the engine ran out of disk. What the registry said is its own word.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if source.is_disk_full_of_pull())
    }
}

/// Whether the image's registry is one of Google's, which takes the VM's token; no other host is ever sent it.
/// Source: <https://cloud.google.com/artifact-registry/docs/docker/authentication>.
pub fn registry_wants_token(image: &str) -> bool {
    let host = image.split_once('/').map_or("", |(host, _)| host);
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev")
}

/// Pulls `image`. What may pass is tried again with back-off; an image that is not there, or not for us, is not. But a token may
/// expire under a large image: who is let in and then not, is asked for once more with another. A try may
/// stand still for `patience`, and two and a half times as long until the registry's first answer. A registry that is away for no
/// longer than `patience` costs nothing.
pub async fn pull(
    engine: &DockerEngine,
    metadata: &Metadata,
    image: &str,
    patience: Duration,
    waits: &Waits,
) -> Result<(), PullError> {
    let (end, try_until) = (Instant::now() + PULL_DEADLINE, Instant::now() + patience);
    let mut delays = Delays::new(Duration::from_secs(1), Duration::from_secs(30));
    let mut has_expired = false;
    for tried in 1.. {
        let mut progress = Progress::default();
        let pulled = try_pull(engine, metadata, image, patience, end, tried == 1, &mut progress).await;
        let Some(failure) = pulled.err() else { break };
        let now = Instant::now();
        let mut delay = delays.next().unwrap_or_default();
        if now < try_until {
            delay = delay.min(try_until - now);
        }
        let transient = match failure {
            PullError::Failed { .. } | PullError::CutShort { .. } => true,
            // Layers are told once the manifest is there.
            PullError::Denied { .. } if registry_wants_token(image) && !progress.layers.is_empty() => {
                !std::mem::replace(&mut has_expired, true)
            }
            _ => false,
        };
        let is_enough = tried >= MIN_TRIES && now >= try_until;
        if !transient || failure.is_disk_full() || is_enough || now + delay >= end {
            return Err(failure);
        }
        waits.failed(&failure);
        warn!("{failure}; try {} in {:.1} s", tried + 1, delay.as_secs_f32());
        sleep(delay).await;
    }
    Ok(())
}

async fn try_pull(
    engine: &DockerEngine,
    metadata: &Metadata,
    image: &str,
    patience: Duration,
    end: Instant,
    is_first: bool,
    progress: &mut Progress,
) -> Result<(), PullError> {
    let cut_short = |problem: String| PullError::CutShort { image: image.to_owned(), problem };
    let credentials = if registry_wants_token(image) {
        // A fresh token for each try.
        match metadata.access_token().await {
            Ok(token) => Some(DockerCredentials {
                username: Some("oauth2accesstoken".into()),
                password: Some(token.secret().to_owned()),
                ..DockerCredentials::default()
            }),
            // The registry may still serve a public image.
            Err(error @ TokenError::NoServiceAccount) => {
                if is_first {
                    warn!("pulling {image} without credentials: {error}");
                }
                None
            }
            // Without the token that it wants the registry would only say no.
            Err(error) => return Err(cut_short(format!("there is no token for the registry: {error}"))),
        }
    } else {
        None
    };
    let (name, tag) = split(image);
    let options = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
    let begin_patience = patience * 5 / 2;
    // What is late is told here alone, so that it is a pull that is late and no engine.
    let docker = engine.docker.clone().with_timeout(NO_DEADLINE);
    let mut events = docker.create_image(Some(options), None, credentials);
    let mut deadline = Instant::now() + begin_patience;
    let mut ticks = interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    loop {
        let event = tokio::select! {
            biased;
            _ = ticks.tick() => {
                info!("pulling {image}: {progress}");
                continue;
            }
            event = timeout_at(deadline.min(end), events.next()) => event,
        };
        match event {
            Ok(Some(Ok(event))) => {
                // Podman goes on sending events when nothing comes any more.
                if progress.take(event) {
                    deadline = Instant::now() + patience;
                }
            }
            Ok(Some(Err(error))) => return Err(classify(image, error.into())),
            Ok(None) => return Ok(()),
            Err(_) if end < deadline => return Err(cut_short("it took more than 2 hours".into())),
            Err(_) if progress.seen => return Err(cut_short(format!("no progress for {} s", patience.as_secs()))),
            Err(_) => return Err(cut_short(format!("it did not begin within {} s", begin_patience.as_secs()))),
        }
    }
}

/// Tells by the engine's words what kind of failure it was: its status codes differ from version to version.
fn classify(image: &str, source: EngineError) -> PullError {
    let image = image.to_owned();
    let denied = [
        "unauthorized",
        "authentication required",
        "no basic auth credentials",
        "pull access denied",
        "denied:",
        "401 Unauthorized",
        "403 Forbidden",
        // An answer without the registry's own words, as a proxy gives it.
        "HTTP 401 response",
        "HTTP 403 response",
    ];
    let not_found = ["manifest unknown", "not found", "name unknown", "HTTP 404 response"];
    if source.message_has(&denied) || source.is_bare_denial() {
        PullError::Denied { image, source }
    } else if source.is_not_found() || source.is_other_platform() || source.message_has(&not_found) {
        PullError::NotFound { image, source }
    } else {
        PullError::Failed { image, source }
    }
}

/// Repository, and tag or digest: without one the engine would pull every tag.
fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// Bytes and layers so far.
#[derive(Default)]
struct Progress {
    seen: bool,
    layers: HashMap<String, Layer>,
}

#[derive(Default)]
struct Layer {
    status: String,
    /// Of what its status says: the download, and then the unpacking.
    current: i64,
    /// Downloaded.
    bytes: i64,
}

impl Progress {
    /// Whether the event tells anything new.
    fn take(&mut self, event: CreateImageInfo) -> bool {
        let status = event.status.unwrap_or_default();
        let mut is_new = !std::mem::replace(&mut self.seen, true);
        if let Some(id) = event.id.filter(|_| !status.starts_with("Pulling from")) {
            let current = event.progress_detail.and_then(|detail| detail.current);
            let layer = self.layers.entry(id).or_default();
            is_new |= layer.status != status || current.is_some_and(|bytes| bytes != layer.current);
            layer.current = current.unwrap_or(layer.current);
            if status == "Downloading" {
                layer.bytes = layer.current;
            }
            layer.status = status;
        }
        is_new
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.seen {
            return f.write_str("the registry has not answered yet");
        }
        let bytes: i64 = self.layers.values().map(|layer| layer.bytes).sum();
        let done = self.layers.values().filter(|layer| layer.is_done()).count();
        write!(f, "{} MB, {done} of {} layers", bytes / 1_000_000, self.layers.len())
    }
}

impl Layer {
    fn is_done(&self) -> bool {
        matches!(self.status.as_str(), "Pull complete" | "Already exists")
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

    use serde_json::json;
    use tokio::{
        io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
        net::{TcpListener, UnixListener},
    };

    use super::*;
    use crate::outcome::{Cause, Failure, Outcome};

    #[test]
    fn a_reference_is_split_as_the_engine_wants_it() {
        let cases = [
            ("busybox", ("busybox", "latest")),
            ("busybox:1.36", ("busybox", "1.36")),
            ("127.0.0.1:5001/a/b", ("127.0.0.1:5001/a/b", "latest")),
            ("127.0.0.1:5001/a/b:c", ("127.0.0.1:5001/a/b", "c")),
            ("a/b:c@sha256:00", ("a/b:c", "sha256:00")),
        ];
        for (image, parts) in cases {
            assert_eq!(split(image), parts);
        }
    }

    #[test]
    fn the_token_goes_to_google_s_registries_only() {
        for image in ["gcr.io/p/i", "eu.gcr.io/p/i", "europe-docker.pkg.dev/p/r/i:1"] {
            assert!(registry_wants_token(image), "{image}");
        }
        for image in ["busybox", "evil.com/gcr.io/i", "gcr.io.evil.com/i", "xgcr.io/i", "pkg.dev.evil.com/i", "gcr.io"]
        {
            assert!(!registry_wants_token(image), "{image}");
        }
    }

    #[test]
    fn a_failed_pull_is_named_by_the_engine_s_words() {
        let cases = [
            (404, "manifest for a:b not found: manifest unknown: manifest unknown", Cause::ImageNotFound),
            (
                404,
                "pull access denied for a, repository does not exist or may require 'docker login'",
                Cause::ImageDenied,
            ),
            (500, "Get \"https://r/v2/a/manifests/b\": no basic auth credentials", Cause::ImageDenied),
            (500, "Head \"https://r/v2/a\": unauthorized: authentication required", Cause::ImageDenied),
            (
                500,
                "denied: Permission \"artifactregistry.repositories.downloadArtifacts\" denied on resource",
                Cause::ImageDenied,
            ),
            (500, "error parsing HTTP 403 response body: unexpected end of JSON input: \"\"", Cause::ImageDenied),
            (500, "denied", Cause::ImageDenied),
            (500, "Error response from daemon: denied", Cause::ImageDenied),
            (500, "Head \"https://r/v2/a\": error from registry: denied\nsee r's manual", Cause::ImageDenied),
            (500, "error parsing HTTP 404 response body: unexpected end of JSON input: \"\"", Cause::ImageNotFound),
            (500, "no matching manifest for linux/amd64 in the manifest list entries", Cause::ImageNotFound),
            (500, "no image found in image index for architecture \"amd64\", OS \"linux\"", Cause::ImageNotFound),
            (500, "Get \"http://127.0.0.1:5001/v2/\": dial tcp: connect: connection refused", Cause::ImagePullFailed),
            (500, "write /var/lib/docker/tmp/x: no space left on device", Cause::DiskFull),
            (500, "open /var/lib/docker/x: permission denied", Cause::ImagePullFailed),
        ];
        for (status, message, cause) in cases {
            let error = EngineError::Refused { status, message: message.into() };
            assert_eq!(Failure::from(classify("a:b", error)).cause(), cause, "{message}");
        }
    }

    /// An engine and a metadata server in one: each token is another, and each pull gets to a layer before the registry says no, but
    /// for those that `pulls` lets through. Returns what came of a pull, and with how many tokens it was tried.
    async fn pulled(image: &str, pulls: &'static [bool]) -> (Result<(), PullError>, usize) {
        const LAYER: &str = r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#;
        const DENIED: &str = r#"{"errorDetail":{"message":"unauthorized"},"error":"unauthorized"}"#;
        let socket = std::env::temp_dir().join(format!("vmjob-pull-{}", std::process::id()));
        let (engine, cloud) = (UnixListener::bind(&socket).unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let host = cloud.local_addr().unwrap().to_string();
        let tried = Rc::new(RefCell::new(BTreeSet::new()));
        let serve = async {
            let mut tokens = 0;
            loop {
                tokio::select! {
                    Ok((connection, _)) = cloud.accept() => {
                        tokens += 1;
                        answer(connection, |_| json!({"access_token": format!("token-{tokens}")}).to_string()).await;
                    }
                    Ok((connection, _)) = engine.accept() => answer(connection, |request| {
                        let auth = request.lines().find_map(|line| line.strip_prefix("x-registry-auth: "));
                        let Some(auth) = auth else { return r#"{"ApiVersion": "1.44"}"#.into() };
                        tried.borrow_mut().insert(auth.to_owned());
                        let is_let_in = pulls.get(tried.borrow().len() - 1).copied().unwrap_or(false);
                        let end = if is_let_in { r#"{"status":"Done"}"# } else { DENIED };
                        format!("{LAYER}\n{end}\n")
                    }).await,
                }
            }
        };
        let pull = async {
            let engine = format!("unix://{}", socket.display());
            let engine = DockerEngine::connect(&engine, PATIENCE, &Waits::default()).await.unwrap();
            pull(&engine, &Metadata::new(crate::http::Http::default(), &host), image, PATIENCE, &Waits::default()).await
        };
        let result = tokio::select! { result = pull => result, () = serve => unreachable!("it serves for ever") };
        std::fs::remove_file(&socket).unwrap();
        let tried = tried.borrow().len();
        (result, tried)
    }

    const PATIENCE: Duration = Duration::from_mins(2);

    async fn answer(mut connection: impl AsyncRead + AsyncWrite + Unpin, body: impl FnOnce(&str) -> String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.unwrap());
        }
        let body = body(&String::from_utf8_lossy(&head));
        let head = "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Type: application/json\r\nConnection: close";
        let text = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        connection.write_all(text.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_token_that_expires_under_a_large_image_is_renewed_once() {
        let image = "gcr.io/p/large";
        let (result, tried) = pulled(image, &[false, true]).await;
        assert_eq!((result.map_err(|failure| failure.to_string()), tried), (Ok(()), 2));
        let (result, tried) = pulled(image, &[]).await;
        assert_eq!((Failure::from(result.unwrap_err()).cause(), tried), (Cause::ImageDenied, 2));
    }

    #[test]
    fn a_failed_pull_says_what_helps() {
        let cases = [
            ("a:b", "no matching manifest for linux/amd64 in the manifest list entries", "build the image for"),
            ("a:b", "manifest unknown", "check the image's name"),
            ("gcr.io/p/i", "denied", "roles/artifactregistry.reader"),
            ("ghcr.io/o/i", "denied", "has no password"),
            ("a:b", "pull access denied for a", "has no password"),
        ];
        for (image, message, fix) in cases {
            let failure = Failure::from(classify(image, EngineError::Failed(message.into())));
            let found = Outcome::from(&failure).fix.unwrap();
            assert!(found.contains(fix), "{image} {message}: {found}");
        }
    }
}
