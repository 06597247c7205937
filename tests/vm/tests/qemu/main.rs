//! The last word: a machine with a kernel, a power button and a memory of its own, with control groups of the second
//! version, where Workflows is asked over TLS as Google's is.

mod ends;
mod jobs;

use e2e::{agent_binary, expect};
use serde_json::Value;
use vm::{Machine, Setup, sha256, startup_script_of};

/// Starts the agent whenever a test asks for it: a boot takes more than a minute, so one serves for many jobs.
const NEXT: &str = "[Service]
ExecStart=sh -c 'until rm /shared/next 2>/dev/null; do sleep 0.5; done; exec systemctl start vmjob-agent.service'
Restart=always
StartLimitIntervalSec=0
";

/// Without this the kernel, before it kills, goes through minutes of reading programs back from the disk.
const MEMORY: &str = "w /sys/kernel/mm/lru_gen/enabled - - - - y
w /sys/kernel/mm/lru_gen/min_ttl_ms - - - - 1000
";

/// A machine that is on, and gets the agent by the startup script behind a URL.
async fn boot(job: &Value) -> Option<Machine> {
    let setup = Setup::default()
        .attribute("job-spec", job.to_string())
        .unit("next.service", NEXT)
        .file("etc/tmpfiles.d/memory.conf", MEMORY);
    let setup = setup.attribute("startup-script-url", "https://storage.googleapis.com/agents/startup.sh");
    let mut machine = Machine::with_kernel(setup).await?;
    machine.bucket.put("vmjob-agent", std::fs::read(agent_binary()).unwrap());
    machine.bucket.put("startup.sh", startup_script_of("gs://agents/vmjob-agent", &sha256(&agent_binary())));
    machine.boot();
    Some(machine)
}

/// Has the agent of a machine that is up look for its next job.
fn next(machine: &mut Machine, job: &Value) {
    machine.cloud.consume_callback();
    machine.cloud.set_attribute("job-spec", job.to_string());
    again(machine);
}

/// Starts the agent once more.
fn again(machine: &mut Machine) {
    machine.look_from_here();
    machine.touch("next");
}

/// The report of the job that is under way, by when the agent is done with it.
async fn ends(machine: &mut Machine, wanted: &Value) -> Value {
    let report = machine.report().await;
    expect(&report, wanted);
    machine.until_said("vmjob-agent.service: Deactivated successfully").await;
    report
}
