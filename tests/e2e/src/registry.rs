//! A real image registry on loopback: Debian's `docker-registry`.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{docker, skip, until};

/// `job:secret`, as bcrypt and as base64.
const HTPASSWD: &str = "job:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
const CREDENTIALS: &str = "am9iOnNlY3JldA==";

/// A running registry; ended when dropped.
#[derive(Debug)]
pub struct Registry {
    server: Child,
    /// `HOST:PORT`, with which the names of its images begin.
    pub host: String,
    dir: PathBuf,
}

/// One that was stopped; its images are still there.
#[derive(Debug)]
pub struct StoppedRegistry {
    host: String,
    dir: PathBuf,
}

impl Registry {
    /// Starts one with its files in `dir`, open to all or only to those with a password. `None`, and the test is skipped,
    /// where the software is not there.
    pub async fn start(dir: &Path, wants_password: bool) -> Option<Self> {
        find()?;
        let dir = dir.join("registry");
        fs::create_dir_all(&dir).expect("the directory is writable");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let host = format!("127.0.0.1:{port}");
        let path = dir.display();
        let auth = if wants_password {
            fs::write(dir.join("htpasswd"), HTPASSWD).expect("the directory is writable");
            format!("auth: {{htpasswd: {{realm: test, path: {path}/htpasswd}}}}")
        } else {
            String::new()
        };
        let storage = format!("storage: {{filesystem: {{rootdirectory: {path}/data}}}}");
        let config = format!("version: 0.1\nhttp: {{addr: '{host}'}}\n{storage}\n{auth}\n");
        fs::write(dir.join("config.yml"), config).expect("the directory is writable");
        fs::write(dir.join("config.json"), format!(r#"{{"auths": {{"{host}": {{"auth": "{CREDENTIALS}"}}}}}}"#))
            .expect("the directory is writable");
        Some(StoppedRegistry { host, dir }.start_again().await)
    }

    pub async fn stop(mut self) -> StoppedRegistry {
        self.server.kill().await.expect("the registry can be killed");
        StoppedRegistry { host: self.host, dir: self.dir }
    }

    /// Puts an image of its own with the content of the test image there as `NAME`, and takes it from the engine again.
    /// Returns the whole reference.
    pub async fn push(&self, name: &str) -> String {
        self.push_made_by(name, "true").await
    }

    /// The same with what `script` makes in it, as a layer of its own.
    pub async fn push_made_by(&self, name: &str, script: &str) -> String {
        let image = format!("{}/{name}", self.host);
        let run = ["run", "--detach", "--network", "none", docker::IMAGE, "sh", "-c", script];
        let container = docker::docker(&run).await;
        docker::docker(&["wait", &container]).await;
        docker::docker(&["commit", "--change", &format!("LABEL name={image}"), &container, &image]).await;
        docker::docker(&["rm", &container]).await;
        let config = self.dir.display().to_string();
        docker::docker(&["--config", &config, "push", "--quiet", &image]).await;
        docker::docker(&["rmi", &image]).await;
        image
    }
}

impl StoppedRegistry {
    pub async fn start_again(self) -> Registry {
        let Self { host, dir } = self;
        let server = Command::new(find().expect("it was there before"))
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the registry starts");
        until("the registry", async || TcpStream::connect(&host).await.ok()).await;
        Registry { server, host, dir }
    }
}

fn find() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/third-party");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = std::iter::once(built).chain(env::split_paths(&path)).map(|dir| dir.join("docker-registry"));
    let found = places.find(|path| path.is_file());
    if found.is_none() {
        skip("there is no docker-registry (run tests/setup.sh)");
    }
    found
}
