//! A real image registry on loopback: Debian's `docker-registry`.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

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
    /// `HOST:PORT`, or a name, with which the names of its images begin.
    pub host: String,
    address: String,
    dir: PathBuf,
}

/// A port for a server that is to have it soon: none that the kernel gives to somebody else meanwhile (`ip_local_port_range`).
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let tries = std::iter::repeat_with(|| (std::process::id() * 97 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000);
    let mut ports = tries.filter_map(|port| u16::try_from(10_000 + port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// One that was stopped; its images are still there.
#[derive(Debug)]
pub struct StoppedRegistry {
    host: String,
    address: String,
    dir: PathBuf,
}

impl Registry {
    /// Starts one with its files in `dir`, open to all or only to those with a password. `None`, and the test is skipped,
    /// where the software is not there.
    pub async fn start(dir: &Path, wants_password: bool) -> Option<Self> {
        find()?;
        let port = free_port();
        let host = format!("127.0.0.1:{port}");
        let registry = StoppedRegistry { address: host.clone(), host, dir: make_dir(dir) };
        registry.configure("", wants_password);
        Some(registry.start_again().await)
    }

    /// Starts one for those with a password, by TLS, at an address that `name` leads to; its certificate is one that the engine, which
    /// is this machine's, is told to trust.
    pub async fn start_with_tls(dir: &Path, name: &str, address: &str) -> Option<Self> {
        find()?;
        let dir = make_dir(dir);
        let names = format!("subjectAltName=DNS:{name}");
        let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry"];
        let openssl = Command::new("openssl")
            .args(request)
            .args(["-addext", &names, "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&dir)
            .output()
            .await;
        assert!(openssl.as_ref().is_ok_and(|output| output.status.success()), "openssl: {openssl:?}");
        let trusted = Path::new("/etc/docker/certs.d").join(name);
        fs::create_dir_all(&trusted)
            .and_then(|()| fs::copy(dir.join("cert.pem"), trusted.join("ca.crt")))
            .expect("we are root");
        let registry = StoppedRegistry { host: name.to_owned(), address: format!("{address}:443"), dir };
        let path = registry.dir.display();
        registry.configure(&format!(", tls: {{certificate: {path}/cert.pem, key: {path}/key.pem}}"), true);
        Some(registry.start_again().await)
    }

    /// From now on it also lets in, and of others only the tests themselves, who has this password.
    pub async fn let_in(&self, user: &str, password: &str) {
        let_in(&self.dir, user, password).await;
    }

    pub async fn stop(mut self) -> StoppedRegistry {
        self.server.kill().await.expect("the registry can be killed");
        StoppedRegistry { host: self.host, address: self.address, dir: self.dir }
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

async fn let_in(dir: &Path, user: &str, password: &str) {
    let script = r#"print crypt($ARGV[0], "\$2b\$05\$abcdefghijklmnopqrstuu")"#;
    let bcrypt = Command::new("perl").args(["-e", script, password]).output().await.expect("perl is there").stdout;
    let line = format!("{user}:{}\n", String::from_utf8(bcrypt).expect("bcrypt is ASCII"));
    fs::write(dir.join("htpasswd"), format!("{HTPASSWD}{line}")).expect("the directory is writable");
}

fn make_dir(dir: &Path) -> PathBuf {
    let dir = dir.join("registry");
    fs::create_dir_all(&dir).expect("the directory is writable");
    dir
}

impl StoppedRegistry {
    fn configure(&self, tls: &str, wants_password: bool) {
        let Self { host, address, dir } = self;
        let path = dir.display();
        let auth = if wants_password {
            fs::write(dir.join("htpasswd"), HTPASSWD).expect("the directory is writable");
            format!("auth: {{htpasswd: {{realm: test, path: {path}/htpasswd}}}}")
        } else {
            String::new()
        };
        let storage = format!("storage: {{filesystem: {{rootdirectory: {path}/data}}}}");
        let config = format!("version: 0.1\nhttp: {{addr: '{address}'{tls}}}\n{storage}\n{auth}\n");
        fs::write(dir.join("config.yml"), config).expect("the directory is writable");
        fs::write(dir.join("config.json"), format!(r#"{{"auths": {{"{host}": {{"auth": "{CREDENTIALS}"}}}}}}"#))
            .expect("the directory is writable");
    }

    /// As [`Registry::let_in`].
    pub async fn let_in(&self, user: &str, password: &str) {
        let_in(&self.dir, user, password).await;
    }

    pub async fn start_again(self) -> Registry {
        let Self { host, address, dir } = self;
        let server = Command::new(find().expect("it was there before"))
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the registry starts");
        until("the registry", async || TcpStream::connect(&address).await.ok()).await;
        Registry { server, host, address, dir }
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
