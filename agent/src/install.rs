//! Puts the agent on a machine: the binary where it may be executed, its unit, and, if asked, the start. Safe to do again, at each
//! boot: what is there already is left alone, and a job that runs goes on.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use tracing::warn;

use crate::{durable, machine::is_cos, service};

/// The agent's own.
pub const UNIT: &str = "vmjob-agent.service";
const UNIT_DIR: &str = "/etc/systemd/system";
/// Where else systemd may have the unit from: a package brings it there. Source: `systemd.unit(5)`.
const OTHER_UNIT_DIRS: [&str; 4] =
    ["/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const UNIT_TEXT: &str = include_str!("../../packaging/systemd/vmjob-agent.service");
/// Where the unit's text expects the binary.
const USUAL_BINARY: &str = "/usr/bin/vmjob-agent";
/// On Container-Optimized OS: what is there may be executed, and is there after a reboot.
/// Source: <https://cloud.google.com/container-optimized-os/docs/concepts/disks-and-filesystem>.
const COS_BINARY: &str = "/var/lib/google/vmjob/vmjob-agent";
/// What a restart sends to an agent so that its job goes on.
const SIGHUP: &str = "1";

/// What to install.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Install {
    /// Start it now too; else it starts with the next boot.
    pub now: bool,
    /// The binary goes into `bin/` below this.
    pub prefix: Option<PathBuf>,
}

impl Install {
    /// Where VMs expect it, and at once.
    pub const NOW: Self = Self { now: true, prefix: None };
}

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("failed to write {path}: {source}; is the file system read-only, or are you not root?")]
    Write { path: String, source: io::Error },
    #[error("failed to read the running binary: {0}")]
    Read(io::Error),
    #[error("`systemctl {call}` failed: {problem}")]
    Systemctl { call: String, problem: String },
}

/// Installs this program as it is, and says what was done.
///
/// # Errors
/// What could not be done, and what may be in the way.
pub fn install(install: &Install) -> Result<String, InstallError> {
    let is_cos = is_cos(Path::new("/"));
    let binary = binary_path(install.prefix.as_deref(), is_cos);
    let own = fs::read("/proc/self/exe").map_err(InstallError::Read)?;
    let _lock = lock_dir_of(&binary)?;
    let is_new = write_if_changed(&binary, &own, 0o755)?;
    let unit = Path::new(UNIT_DIR).join(UNIT);
    let had_unit = unit.exists() || OTHER_UNIT_DIRS.iter().any(|dir| Path::new(dir).join(UNIT).exists());
    let is_unit_new = write_if_changed(&unit, unit_text(&binary).as_bytes(), 0o644)?;
    if !service::has_manager() {
        warn!("systemd does not run here: the unit starts with the next boot that systemd makes");
    } else if is_unit_new && had_unit {
        // One that is not known yet is read as it is started.
        systemctl(&["daemon-reload"])?;
    }
    // Where /etc is empty after a boot, an enabled unit is forgotten: whatever called this calls it again.
    if !is_cos {
        systemctl(&["enable", "--quiet", "--no-reload", UNIT])?;
    }
    if install.now {
        start(is_new || is_unit_new)?;
    } else if is_cos {
        warn!("on Container-Optimized OS the unit is gone after a reboot: install with --now at each boot");
    }
    let done = match (is_new || is_unit_new, install.now) {
        (true, true) => "installed and started",
        (true, false) => "installed",
        (false, true) => "was there already; started",
        (false, false) => "was there already",
    };
    Ok(format!("{}: {done}; `journalctl -u {UNIT}` shows what it does", binary.display()))
}

fn binary_path(prefix: Option<&Path>, is_cos: bool) -> PathBuf {
    match prefix {
        Some(prefix) => prefix.join("bin/vmjob-agent"),
        None if is_cos => COS_BINARY.into(),
        None => USUAL_BINARY.into(),
    }
}

fn unit_text(binary: &Path) -> String {
    UNIT_TEXT.replace(USUAL_BINARY, &binary.display().to_string())
}

/// Starts the unit. A running agent goes on, unless it is another than the installed one: then that takes over from it.
fn start(changed: bool) -> Result<(), InstallError> {
    // A restart in one go, so that there is no moment in which an agent has gone and nothing is to start the next. It sends what
    // the unit says: with ours SIGHUP, which leaves the job running.
    let verb = if changed && restart_signal()? == SIGHUP { "restart" } else { "start" };
    if changed && verb == "start" {
        warn!(
            "the RestartKillSignal of {UNIT} is not SIGHUP: an agent that runs goes on, as a restart would stop its job"
        );
    }
    // Without waiting: it may be called from a unit that ours is ordered after.
    systemctl(&[verb, "--no-block", UNIT])
}

/// The number of the unit's `RestartKillSignal`; empty where systemd knows none (before 244).
fn restart_signal() -> Result<String, InstallError> {
    let output = run(&["show", UNIT, "--property=RestartKillSignal", "--value"])?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn systemctl(call: &[&str]) -> Result<(), InstallError> {
    let output = run(call)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(InstallError::Systemctl { call: call.join(" "), problem: format!("{}: {}", output.status, text.trim()) })
}

fn run(call: &[&str]) -> Result<Output, InstallError> {
    service::systemctl(call)
        .map_err(|error| InstallError::Systemctl { call: call.join(" "), problem: error.to_string() })
}

/// Keeps others that install at the same time from the directory, for as long as what is returned lives: two ways of getting in
/// may be set up, and each runs at every boot.
fn lock_dir_of(path: &Path) -> Result<File, InstallError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let lock = fs::create_dir_all(dir).and_then(|()| File::open(dir)).and_then(|dir| dir.lock().map(|()| dir));
    lock.map_err(|source| InstallError::Write { path: path.display().to_string(), source })
}

/// Writes the file whole or not at all; false if it was so already.
fn write_if_changed(path: &Path, content: &[u8], mode: u32) -> Result<bool, InstallError> {
    let failed = |source| InstallError::Write { path: path.display().to_string(), source };
    let is_like = |there: fs::Metadata| there.is_file() && there.permissions().mode() & 0o777 == mode;
    let is_same = fs::metadata(path).is_ok_and(is_like) && fs::read(path).is_ok_and(|there| there == content);
    if is_same {
        return Ok(false);
    }
    let has_dir = path.parent().map_or(Ok(()), fs::create_dir_all);
    has_dir.and_then(|()| durable::replace(path, content, mode)).map_err(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_goes_where_it_may_be_executed() {
        let cases = [
            (None, false, "/usr/bin/vmjob-agent"),
            (None, true, "/var/lib/google/vmjob/vmjob-agent"),
            (Some("/opt/vmjob"), false, "/opt/vmjob/bin/vmjob-agent"),
            (Some("/mnt/stateful"), true, "/mnt/stateful/bin/vmjob-agent"),
        ];
        for (prefix, is_cos, path) in cases {
            assert_eq!(binary_path(prefix.map(Path::new), is_cos), Path::new(path));
        }
    }

    #[test]
    fn the_unit_starts_the_installed_binary() {
        let text = unit_text(Path::new("/opt/bin/vmjob-agent"));
        assert!(text.contains("ExecStart=/opt/bin/vmjob-agent run\n"), "{text}");
        assert!(!text.contains(USUAL_BINARY));
    }
}
