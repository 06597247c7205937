//! Keeps a job from the metadata server. In: whom, as one part of a routing rule: what comes from the bridge of the container's
//! network, or from the sockets of a process's user. Out: rules of the VM's own, which nothing in a container can change. Routing
//! rules and not firewall rules: every image has `ip`, and neither Docker nor a firewall that is loaded anew takes them away.
//! Source: `ip-rule(8)`; <https://docs.cloud.google.com/compute/docs/metadata/querying-metadata>.

use std::{
    fmt, fs,
    io::{self, Write},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{EngineError, process::can_start_units};

/// By IPv4, and by IPv6.
const ADDRESSES: [(&str, &str); 2] = [("-4", "169.254.169.254"), ("-6", "fd20:ce::254")];
/// Of our rules, and by default of nobody else's: `ip rule show` tells them by it. Linux asks rules in this order.
const PRIORITY: u32 = 8471;
/// Whoever is in one of these reaches an engine, or a disk, as root does. That `sudo` is of no use the shim sees to.
const STRONG_GROUPS: [&str; 7] = ["docker", "podman", "lxd", "incus", "incus-admin", "libvirt", "disk"];
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Whose way to the metadata server is, or is to be, blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked(String);

impl Blocked {
    /// All that comes from a bridge.
    ///
    /// # Errors
    /// There is no such bridge where this process is: a rule would do nothing.
    pub(super) fn bridge(bridge: &str) -> Result<Self, EngineError> {
        // Of this very network namespace, whatever is mounted at /sys.
        let known = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        let is_there = known.lines().any(|line| line.split(':').next().is_some_and(|name| name.trim() == bridge));
        if !is_there {
            return Err(impossible(&format!("the container's network has no bridge {bridge:?} on this machine")));
        }
        Ok(Self(format!("iif {bridge}")))
    }

    /// All that a user's processes send.
    ///
    /// # Errors
    /// It is root: the agent has to reach the metadata server itself. Or it can have root do things.
    pub(super) fn user(uid: u32, groups: &[String]) -> Result<Self, EngineError> {
        if uid == 0 {
            return Err(impossible("the process runs as root: name another `process.user`"));
        }
        if let Some(group) = groups.iter().find(|group| STRONG_GROUPS.contains(&group.as_str())) {
            let problem =
                format!("the process's user is in the group {group:?}, which is as good as root: name another");
            return Err(impossible(&problem));
        }
        Ok(Self(format!("uidrange {uid}-{uid}")))
    }

    /// What was written down of an earlier one.
    pub fn noted(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Makes the rules; those that are there already stay.
    pub async fn begin(&self) -> Result<(), EngineError> {
        self.change("add", "File exists").await.map_err(|problem| impossible(&problem))
    }

    /// Removes them; those that are gone already are fine.
    pub async fn end(&self) -> Result<(), String> {
        self.change("del", "No such file or directory").await
    }

    async fn change(&self, action: &str, harmless: &str) -> Result<(), String> {
        for (family, address) in ADDRESSES {
            if family == "-6" && !fs::exists("/proc/self/net/if_inet6").unwrap_or(false) {
                continue;
            }
            ip(family, &self.rules(action, address), harmless).await?;
        }
        Ok(())
    }

    /// The metadata server is the resolver too (VMs have it in their `resolv.conf`, and containers get that), so its port 53 stays
    /// open. Fragments, which have no ports, are not let through. Rules of `protocol kernel` are left alone by systemd-networkd, which
    /// removes what it does not know (systemd `networkd-routing-policy-rule.c`).
    fn rules(&self, action: &str, address: &str) -> String {
        let rule = |place: u32, what: &str| {
            format!("rule {action} pref {} {} to {address} {what} protocol kernel", PRIORITY + place, self.0)
        };
        let dns = |protocol: &str| format!("ipproto {protocol} dport 53 lookup main");
        format!("{}\n{}\n{}\n", rule(0, &dns("udp")), rule(1, &dns("tcp")), rule(2, "prohibit"))
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn impossible(problem: &str) -> EngineError {
    EngineError::Failed(format!(
        "the job cannot be kept from the metadata server (`metadata_server: block`): {problem}"
    ))
}

/// Has `ip` do all of `batch`. Under systemd as a unit of its own: the agent's own may not change routing.
async fn ip(family: &str, batch: &str, harmless: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("failed to run `ip`: {error}");
    let mut command = if can_start_units() {
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--collect", "--wait", "--pipe", "ip"]);
        command
    } else {
        Command::new("ip")
    };
    command.args([family, "-force", "-batch", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    // Where it ended before it had read all, it has said why.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(batch.as_bytes()));
    let end = Instant::now() + DEADLINE;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return written.map_err(failed),
            Some(_) => break,
            None if Instant::now() < end => sleep(LOOK_INTERVAL).await,
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("`ip` did not end within {} s", DEADLINE.as_secs()));
            }
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stderr);
    let problems: Vec<&str> =
        text.lines().filter(|line| !line.contains(harmless) && !line.starts_with("Command failed")).collect();
    match (problems.is_empty(), text.contains(harmless)) {
        (true, true) => Ok(()),
        (true, false) => Err("`ip` failed and did not say why".into()),
        _ => Err(format!("`ip` says: {}", problems.join("; "))),
    }
}
