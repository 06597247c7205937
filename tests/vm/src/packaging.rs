//! What users put into a VM, taken from the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The line of a user-data file that stands for the startup script.
const PLACEHOLDER: &str = "STARTUP-SCRIPT";

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn startup_script() -> String {
    read("packaging/startup/startup-script.sh")
}

/// The startup script with other bounds, such as `("DOWNLOAD_PATIENCE_S", 0)`.
pub fn startup_script_with(bounds: &[(&str, u32)]) -> String {
    let mut lines: Vec<String> = startup_script().lines().map(str::to_owned).collect();
    for (name, value) in bounds {
        let line = lines.iter_mut().find(|line| line.starts_with(&format!("{name}=")));
        *line.unwrap_or_else(|| panic!("the startup script has no {name}")) = format!("{name}={value}");
    }
    lines.join("\n") + "\n"
}

/// The startup script as `make dist` writes it, which needs no attributes.
pub fn startup_script_of(agent_url: &str, agent_sha256: &str) -> String {
    let script = startup_script().replace("\nAGENT_URL=\n", &format!("\nAGENT_URL={agent_url}\n"));
    script.replace("\nAGENT_SHA256=\n", &format!("\nAGENT_SHA256={agent_sha256}\n"))
}

/// The systemd unit, as a package or an image brings it.
pub fn unit() -> String {
    read("packaging/systemd/vmjob-agent.service")
}

/// A file of `cloud-init/`, filled in as its comments say.
pub fn user_data(name: &str) -> String {
    let script = startup_script();
    let mut filled_in = String::new();
    for line in read(&format!("cloud-init/{name}")).lines() {
        match line.strip_suffix(PLACEHOLDER) {
            Some(indent) if indent.trim().is_empty() => {
                filled_in.extend(script.lines().flat_map(|line| [indent, line, "\n"]));
            }
            _ => filled_in.extend([line, "\n"]),
        }
    }
    filled_in
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("failed to read {path}: {error}"))
}

/// The checksum of a file, as `agent-sha256` has it.
pub fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("sha256sum is there");
    String::from_utf8_lossy(&output.stdout).chars().take(64).collect()
}
