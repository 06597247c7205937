//! The engine as seen from outside, through its own command line: what is done to containers behind the agent's back, and
//! what the engine tells of them.

use std::{fs::File, io, path::Path, process::Stdio, time::SystemTime};

use serde_json::Value;
use tokio::process::{Child, Command};

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `create`, `start`, `oom`, `kill`, `die`, `destroy` …
    pub what: String,
    /// Of `die`.
    pub exit_code: Option<i64>,
    pub container: String,
    pub at: SystemTime,
}

/// Runs docker; false if it refused.
pub async fn docker(args: &[&str]) -> io::Result<bool> {
    let mut command = Command::new("docker");
    let status = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(status.kill_on_drop(true).status().await?.success())
}

/// What docker says; none if it refused.
pub async fn output_of(args: &[&str]) -> io::Result<Option<String>> {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The containers, running or not, whose name begins so.
pub async fn containers(prefix: &str) -> io::Result<Vec<String>> {
    let filter = format!("name=^/{prefix}");
    let output = Command::new("docker")
        .args(["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Appends the events of these containers to a file, from `since` on, until it is killed.
pub fn watch(names: &[String], since: SystemTime, to: &Path) -> io::Result<Child> {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut command = Command::new("docker");
    command.args(["events", "--format", "{{json .}}", "--since", &since.to_string()]);
    for name in names {
        command.args(["--filter", &format!("container={name}")]);
    }
    command
        .stdin(Stdio::null())
        .stdout(File::options().create(true).append(true).open(to)?)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// The events that [`watch`] wrote, of `since` and after: docker itself knows only whole seconds.
pub fn events(file: &Path, since: SystemTime) -> io::Result<Vec<Event>> {
    let text = std::fs::read_to_string(file)?;
    let events = text.lines().filter_map(|line| event(&serde_json::from_str(line).ok()?));
    Ok(events.filter(|event| event.at >= since).collect())
}

/// Whether of each container that was started the end is told.
pub fn are_over(events: &[Event]) -> bool {
    let of = |what| events.iter().filter(move |event: &&Event| event.what == what).map(|event| &event.container);
    of("start").all(|container| of("die").any(|died| died == container))
}

fn event(value: &Value) -> Option<Event> {
    let attributes = &value["Actor"]["Attributes"];
    let nanos = value["timeNano"].as_u64()?;
    Some(Event {
        what: value["Action"].as_str()?.to_owned(),
        exit_code: attributes["exitCode"].as_str().and_then(|code| code.parse().ok()),
        container: attributes["name"].as_str()?.to_owned(),
        at: SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(nanos),
    })
}
