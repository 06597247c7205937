//! The job behind the agent's back, of either kind: looked at, waited for, killed.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Kind, Vm, docker, until};

impl Vm {
    /// Where the shim of a job without a container keeps what it knows.
    pub fn process_state(&self) -> Value {
        let text = fs::read(self.state_dir().join(self.container(1)).join("state.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Kills the job behind the agent's back, as a power cut does.
    pub async fn kill_job(&self) {
        if self.kind() == Kind::Process {
            let pid = self.process_state()["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
            if let Some(pid) = pid {
                // The shim first, which could still write something down.
                for victim in parent_of(pid).into_iter().chain([pid]) {
                    let _ = kill_process(victim, Signal::KILL);
                }
            }
        } else if !docker::containers(&self.container(1)).await.is_empty() {
            docker::run(&["kill", &self.container(1)]).await;
        }
    }

    /// Waits for the job's end, with no agent there to see it.
    pub async fn until_job_ended(&self) {
        if self.kind() == Kind::Process {
            until("the end of the job", async || self.process_state()["ended"].is_object().then_some(())).await;
        } else {
            docker::docker(&["wait", &self.container(1)]).await;
        }
    }

    pub async fn job_runs(&self) -> bool {
        if self.kind() == Kind::Process {
            let state = self.process_state();
            return state["pid"].is_number() && state["ended"].is_null();
        }
        docker::docker(&["inspect", "-f", "{{.State.Status}}", &self.container(1)]).await == "running"
    }
}

/// Whether the directory or a control group of a job without a container is still there.
pub(crate) fn is_left(vm: &Vm, name: &str) -> bool {
    let groups = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpuacct"];
    vm.state_dir().join(name).exists() || groups.iter().any(|root| Path::new(root).join(name).exists())
}

/// The parent of a process (`proc(5)`, the fourth field of its `stat`).
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    Pid::from_raw(stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?)
}
