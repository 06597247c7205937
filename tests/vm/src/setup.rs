//! What a machine's disk and metadata hold before its first boot.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use e2e::merge;
use fakecloud::Config;
use serde_json::{Value, json};

use crate::packaging::repository;

/// The one image of the tests: busybox.
const IMAGE: &str = "vmjob/busybox:test";
const UNITS: &str = "etc/systemd/system";

/// The job of [`Setup::with_job`], with `more` in its container.
pub fn job(script: &str, more: Value) -> Value {
    let mounts = json!([{"type": "bind", "source": "/shared", "target": "/shared"}]);
    let mut container = json!({"image": IMAGE, "args": ["sh", "-c", script], "network": "none", "mounts": mounts});
    merge(&mut container, more);
    json!({"container": container, "grace": "2s"})
}

/// The job of [`Setup::with_process`].
pub fn process(script: &str) -> Value {
    json!({"process": {"command": ["sh", "-c", script]}, "grace": "2s"})
}

/// A machine to be. By default a Debian VM as Google's images are, and with Docker; there is no agent.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub(crate) config: Config,
    is_cos: bool,
    has_cloud_init: bool,
    files: Vec<(String, Vec<u8>, u32)>,
    /// Units of `files` that start at boot.
    enabled: Vec<String>,
}

impl Setup {
    /// With a job that runs a shell script in a container, with the machine's `/shared` as its own; it should begin
    /// with `echo x >>/shared/starts`.
    pub fn with_job(script: &str) -> Self {
        Self::default().attribute("job-spec", job(script, json!({})).to_string())
    }

    /// The same without a container.
    pub fn with_process(script: &str) -> Self {
        Self::default().attribute("job-spec", process(script).to_string())
    }

    #[must_use]
    pub fn attribute(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.config.attributes.insert(key.into(), value.into());
        self
    }

    #[must_use]
    pub fn without_service_account(mut self) -> Self {
        self.config.service_account = None;
        self
    }

    /// As Container-Optimized OS: read-only but for places from which nothing runs, and one from which programs do.
    #[must_use]
    pub fn as_cos(mut self) -> Self {
        self.is_cos = true;
        self
    }

    /// With `cloud-init`, which takes the machine for one of Google's.
    #[must_use]
    pub fn with_cloud_init(mut self) -> Self {
        self.has_cloud_init = true;
        self
    }

    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), content.into(), 0o644));
        self
    }

    #[must_use]
    pub fn program(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), content.into(), 0o755));
        self
    }

    /// With a unit that starts at boot.
    #[must_use]
    pub fn unit(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.enabled.push(name.into());
        self.file(&format!("{UNITS}/{name}"), content)
    }

    /// Writes what the script `machine` reads.
    pub(crate) fn write(&self, dir: &Path) {
        let root = dir.join("files");
        copy("usual", &root);
        if self.has_cloud_init {
            copy("cloud-init", &root);
            fs::remove_file(root.join("etc/cloud/cloud-init.disabled")).expect("it was just copied");
        }
        if self.is_cos {
            copy("cos", &root);
            fs::write(dir.join("cos"), "").expect("/tmp is writable");
        }
        for (path, content, mode) in &self.files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("/tmp is writable");
            fs::write(&path, content).expect("/tmp is writable");
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("the file was just made");
        }
        for unit in &self.enabled {
            let link = root.join(UNITS).join("multi-user.target.wants").join(unit);
            symlink(format!("../{unit}"), link).expect("/tmp is writable");
        }
        let image = repository().join("target/third-party/busybox.tar");
        let image = image.canonicalize().expect("there is no test image: run tests/setup.sh");
        let options = format!("--bind-ro={}:/busybox.tar\n", image.display());
        fs::write(dir.join("options"), options).expect("/tmp is writable");
    }
}

/// Copies one of the directories in `files/`, links and permissions included.
fn copy(name: &str, root: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("files").join(name).join(".");
    let output = Command::new("cp").arg("-a").arg(source).arg(root).output().expect("cp is there");
    assert!(output.status.success(), "cp: {}", String::from_utf8_lossy(&output.stderr));
}
