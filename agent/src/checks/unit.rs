//! Whether the agent is started with the VM, and what has become of it.

use super::Finding;
use crate::{
    install::UNIT,
    service::{has_manager, unit_state},
};

/// Asks systemd, which may take it seconds.
pub(super) fn unit() -> Finding {
    let subject = "systemd unit";
    let install = "`vmjob-agent install --now` installs and starts it; or run `vmjob-agent run` yourself";
    if !has_manager() {
        return Finding::warn(subject, "systemd does not run here", "run `vmjob-agent run` yourself");
    }
    match unit_state(UNIT) {
        Ok((load, _)) if load == "not-found" => Finding::warn(subject, "vmjob-agent is not installed", install),
        Ok((_, active)) if active == "failed" => {
            Finding::fail(subject, "vmjob-agent has failed", "`journalctl -u vmjob-agent` tells why")
        }
        Ok((_, active)) => Finding::ok(subject, format!("vmjob-agent is installed, and {active}")),
        Err(error) => {
            Finding::warn(subject, format!("`systemctl show` failed: {error}"), "`systemctl status vmjob-agent`")
        }
    }
}
