//! Keeps a job from the metadata server. In: whom, as one part of a routing rule: what comes from the bridge of the container's
//! network, or from the sockets of a process's user. Out: rules of the VM's own, which nothing in a container can change. Routing
//! rules and not firewall rules: every image has `ip`, and neither Docker nor a firewall that is loaded anew takes them away.
//! Source: `ip-rule(8)`; <https://docs.cloud.google.com/compute/docs/metadata/querying-metadata>.

use std::{
    fmt, fs,
    io::{self, Write},
    iter,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::EngineError;
use crate::{plain_file, service::can_start_units, shim::user_name};

/// By IPv4, and by IPv6.
const ADDRESSES: [(&str, &str); 2] = [("-4", "169.254.169.254"), ("-6", "fd20:ce::254")];
/// Of our rules, and by default of nobody else's: `ip rule show` tells them by it. Linux asks rules in this order.
const PRIORITY: u32 = 8471;
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long processes that were killed may take to be gone.
const GONE_DEADLINE: Duration = Duration::from_secs(2);
const GONE_INTERVAL: Duration = Duration::from_millis(50);
/// Where users leave what is to run later: `cron(8)` of Debian and others, `at(1)`, and likewise. Their files are the user's own.
const LATER: [&str; 4] = ["/var/spool/cron/crontabs", "/var/spool/cron", "/var/spool/cron/atjobs", "/var/spool/at"];
/// Whose `systemd --user` goes on without a session: `loginctl(1)`, `enable-linger`.
const LINGERING: &str = "/var/lib/systemd/linger";

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

    /// All that a user's processes send, also as one of the users that are theirs to be in a namespace of their own.
    ///
    /// # Errors
    /// It is root: the agent has to reach the metadata server itself.
    pub(super) fn user(uid: u32) -> Result<Vec<Self>, EngineError> {
        if uid == 0 {
            return Err(impossible(&"the process runs as root: name another `process.user`"));
        }
        let name = user_name(uid).unwrap_or_default();
        let subuid = plain_file::read_system(Path::new("/etc/subuid")).unwrap_or_default();
        let ranges = iter::once(uid..=uid).chain(subordinate(&subuid, uid, &name));
        Ok(ranges.map(|ids| Self(format!("uidrange {}-{}", ids.start(), ids.end()))).collect())
    }

    /// What was written down of earlier ones.
    pub fn noted(text: &str) -> Vec<Self> {
        text.split(", ").map(|one| Self(one.to_owned())).collect()
    }

    /// What is written down of several.
    pub fn note(all: &[Self]) -> Option<String> {
        (!all.is_empty()).then(|| all.iter().map(|one| one.0.as_str()).collect::<Vec<_>>().join(", "))
    }

    /// The users whose processes it is for.
    fn users(&self) -> Option<RangeInclusive<u32>> {
        let (first, last) = self.0.strip_prefix("uidrange ")?.split_once('-')?;
        Some(first.parse().ok()?..=last.parse().ok()?)
    }

    /// What could still go that way once it is open: a container that runs, as `running` says, or what a user's job has left to
    /// another's care, such as `at`, `cron`, `sshd` or a `systemd --user`.
    pub async fn needed_for(
        &self,
        running: impl AsyncFnOnce() -> Result<Option<String>, EngineError>,
    ) -> Option<String> {
        let Some(users) = self.users() else {
            return match running().await {
                Ok(container) => container.map(|name| format!("the container {name} still runs")),
                Err(error) => Some(format!("whether a container still runs is not known: {error}")),
            };
        };
        // What was killed takes a moment to be gone.
        let end = Instant::now() + GONE_DEADLINE;
        loop {
            match left_of(&users) {
                Some(_) if Instant::now() < end => sleep(GONE_INTERVAL).await,
                left => return left,
            }
        }
    }

    /// Makes the rules; those that are there already stay.
    pub async fn begin(&self) -> Result<(), EngineError> {
        self.change("add", "File exists").await.map_err(|problem| impossible(&problem))
    }

    /// Removes them; those that are gone already are fine.
    pub async fn end(&self) -> Result<(), RulesError> {
        self.change("del", "No such file or directory").await
    }

    async fn change(&self, action: &str, harmless: &str) -> Result<(), RulesError> {
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

fn impossible(problem: &dyn fmt::Display) -> EngineError {
    EngineError::Failed(format!(
        "the job cannot be kept from the metadata server (`metadata_server: block`): {problem}"
    ))
}

/// The users that one may become by `newuidmap(1)`. Source: `subuid(5)`.
fn subordinate(subuid: &str, uid: u32, name: &str) -> impl Iterator<Item = RangeInclusive<u32>> {
    let range = move |line: &str| {
        let (owner, range) = line.split_once(':')?;
        let (first, count) = range.split_once(':')?;
        let (first, count): (u32, u32) = (first.parse().ok()?, count.trim().parse().ok()?);
        let last = first.checked_add(count.checked_sub(1)?)?;
        (first > 0 && (owner == name || owner.parse() == Ok(uid))).then_some(first..=last)
    };
    subuid.lines().filter_map(range)
}

/// What users have running, or are to have.
fn left_of(users: &RangeInclusive<u32>) -> Option<String> {
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten();
    let processes = entries("/proc").filter_map(|entry| entry.file_name().into_string().ok());
    for pid in processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if has_user(&status, users) {
            return Some(format!("the process {pid} of that user still runs"));
        }
    }
    for dir in LATER {
        let is_theirs =
            |entry: &fs::DirEntry| entry.metadata().is_ok_and(|file| file.is_file() && users.contains(&file.uid()));
        if let Some(file) = entries(dir).find(is_theirs) {
            return Some(format!("{} of that user is to run later", file.path().display()));
        }
    }
    let name = user_name(*users.start())?;
    let linger = Path::new(LINGERING).join(&name);
    linger.exists().then(|| format!("the user {name} lingers: their systemd goes on"))
}

/// Whether a process is one of these users' in any way, and has not ended. Source: `proc_pid_status(5)`.
fn has_user(status: &str, users: &RangeInclusive<u32>) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    !field("State:").trim_start().starts_with(['Z', 'X'])
        && field("Uid:").split_whitespace().any(|id| id.parse().is_ok_and(|id| users.contains(&id)))
}

/// Why the rules were not changed.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("failed to run `ip`: {0}")]
    Run(#[from] io::Error),
    #[error("`ip` did not end within {} s", DEADLINE.as_secs())]
    Late,
    #[error("`ip` failed and did not say why")]
    Silent,
    #[error("`ip` says: {0}")]
    Refused(String),
}

/// Has `ip` do all of `batch`. Under systemd as a unit of its own: the agent's own may not change routing.
async fn ip(family: &str, batch: &str, harmless: &str) -> Result<(), RulesError> {
    let failed = RulesError::Run;
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
                return Err(RulesError::Late);
            }
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stderr);
    let problems: Vec<&str> =
        text.lines().filter(|line| !line.contains(harmless) && !line.starts_with("Command failed")).collect();
    match (problems.is_empty(), text.contains(harmless)) {
        (true, true) => Ok(()),
        (true, false) => Err(RulesError::Silent),
        _ => Err(RulesError::Refused(problems.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_a_user_s_by_each_of_its_ids_until_it_has_ended() {
        let status = |state: &str, ids: &str| format!("Name:\tx\nState:\t{state}\nUid:\t{ids}\nGid:\t7\t7\t7\t7\n");
        for (state, ids, is_theirs) in [
            ("S (sleeping)", "7\t7\t7\t7", true),
            ("R (running)", "0\t7\t0\t0", true),
            ("T (stopped)", "0\t0\t7\t0", true),
            ("S (sleeping)", "0\t0\t0\t0", false),
            ("S (sleeping)", "77\t77\t77\t77", false),
            ("Z (zombie)", "7\t7\t7\t7", false),
        ] {
            assert_eq!(has_user(&status(state, ids), &(7..=7)), is_theirs, "{state} {ids}");
        }
        assert!(!has_user("", &(7..=7)));
    }

    #[test]
    fn several_are_written_down_and_read_back() {
        let all = Blocked::noted("iif docker0, uidrange 7-7");
        assert_eq!((all.len(), all[0].users(), all[1].users()), (2, None, Some(7..=7)));
        assert_eq!(Blocked::note(&all).as_deref(), Some("iif docker0, uidrange 7-7"));
        assert_eq!(Blocked::note(&[]), None);
    }

    #[test]
    fn the_users_that_one_may_become_are_theirs_too() {
        let subuid =
            "job:100000:65536\n1000:300000:2\nother:200000:65536\njob:x:1\njob:5:0\njob:0:9\njob:4294967295:9\n";
        let ranges: Vec<_> = subordinate(subuid, 1000, "job").collect();
        assert_eq!(ranges, [100_000..=165_535, 300_000..=300_001]);
    }
}
