//! An image registry, in the network of a machine: Debian's `docker-registry`.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::{Machine, Scratch, sha256, succeed, third_party};

/// It is gone when dropped.
#[derive(Debug)]
pub struct Registry {
    server: Child,
    scratch: Scratch,
}

impl Registry {
    pub const HOST: &str = "127.0.0.1:5000";

    /// Starts one; skips the test where the software is not there.
    pub fn start(machine: &Machine) -> Option<Self> {
        let program = third_party("docker-registry")?;
        let scratch = Scratch::new();
        let config = scratch.join("config.yml");
        let storage = format!("storage: {{filesystem: {{rootdirectory: {}}}}}", scratch.join("data").display());
        fs::write(&config, format!("version: 0.1\nhttp: {{addr: '{}'}}\n{storage}\n", Self::HOST)).expect("writable");
        let mut command = machine.in_its_network(&program);
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().expect("the registry starts");
        Some(Self { server, scratch })
    }

    /// Puts an image of one layer there, as a client does that pushes it, and returns its whole name.
    pub fn push(&self, machine: &Machine, name: &str, config: &str, layer: &Path) -> String {
        let repository = format!("http://{}/v2/{name}", Self::HOST);
        let put = |arguments: &str, file: &Path, url: &str| {
            let curl = "curl -fsS --retry 20 --retry-connrefused --retry-delay 1";
            let line = format!("{curl} -X PUT {arguments} --data-binary @{} \"{url}\"", file.display());
            let start = format!("{curl} -o /dev/null -w '%header{{location}}' -X POST {repository}/blobs/uploads/");
            let mut command = machine.in_its_network(Path::new("bash"));
            command.args(["-euo", "pipefail", "-c"]).arg(format!("place=$({start}); {line}"));
            succeed(&command, Duration::from_mins(1));
        };
        let blob = |file: &Path| {
            let content = fs::read(file).expect("it is there");
            let digest = format!("sha256:{}", sha256(&content));
            put("-H 'Content-Type: application/octet-stream'", file, &format!("$place&digest={digest}"));
            format!(r#""size":{},"digest":"{digest}"}}"#, content.len())
        };
        let (config_file, manifest_file) = (self.scratch.join("config.json"), self.scratch.join("manifest.json"));
        fs::write(&config_file, config).expect("writable");
        let kind = "application/vnd.docker";
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}.distribution.manifest.v2+json",
            "config":{{"mediaType":"{kind}.container.image.v1+json",{},
            "layers":[{{"mediaType":"{kind}.image.rootfs.diff.tar.gzip",{}]}}"#,
            blob(&config_file),
            blob(layer)
        );
        fs::write(&manifest_file, manifest).expect("writable");
        let header = format!("-H 'Content-Type: {kind}.distribution.manifest.v2+json'");
        put(&header, &manifest_file, &format!("{repository}/manifests/1"));
        format!("{}/{name}:1", Self::HOST)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
