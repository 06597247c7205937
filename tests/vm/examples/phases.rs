//! From the power button to the job's first instruction, phase by phase: with the startup script, with the agent itself
//! as the startup script, baked into the image, and as a shell script with `jq` does it. Run it on an idle machine.
//!
//! `cargo run -p vm --example phases -- [RUNS] [DIRECTORY WITH JQ'S PACKAGES]`

use std::time::Duration;
use std::{env, fs};

use e2e::agent_binary;
use vm::{Machine, Setup, sha256, startup_script, unit};

const JOB: &str = "cut -d ' ' -f 1 /proc/uptime >>/shared/starts";
const URL: &str = "https://storage.googleapis.com/agents/vmjob-agent";
/// What the console shows as a phase begins, by its name.
const PHASES: [(&str, &str); 5] = [
    ("script runner starts", "Starting startup scripts"),
    ("script done", "Finished running startup scripts"),
    ("Docker up", "Started docker.service"),
    ("unit starts", "Starting vmjob-agent.service"),
    ("unit active", "Started vmjob-agent.service"),
];
/// The job of this crate's setup, as a shell script runs and reports it. Its packages are local, where a real one has
/// to fetch them.
const SHELL: &str = r#"#!/bin/bash
dpkg -i /debs/*.deb >/dev/null
until docker info >/dev/null 2>&1; do sleep 0.2; done
metadata() { curl -sS -H 'Metadata-Flavor: Google' "http://169.254.169.254/computeMetadata/v1/instance/$1"; }
image=$(metadata attributes/job-spec | jq -r .container.image)
script=$(metadata attributes/job-spec | jq -r '.container.args[2]')
docker run --rm --network none -v /shared:/shared "$image" sh -c "$script"
token=$(metadata service-accounts/default/token | jq -r .access_token)
url=$(metadata attributes/callback-url)
echo '{"state": "done"}' | curl -sS -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -d @- "$url"
"#;

/// Prints nanoseconds.
const INSTALL: &str = r"
start=$(date +%s%N)
/agent install --now >&2
until systemctl --quiet is-active vmjob-agent; do sleep 0.002; done
echo $(($(date +%s%N) - start))
";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = env::args().skip(1);
    let runs: usize = arguments.next().map_or(3, |runs| runs.parse().expect("a number of runs"));
    let agent = fs::read(agent_binary()).expect("the agent can be read");
    let pinned = || {
        let setup = Setup::with_job(JOB).attribute("agent-url", URL);
        setup.attribute("agent-sha256", sha256(&agent_binary())).attribute("startup-script", startup_script())
    };
    measure("startup script", runs, &pinned(), &agent).await;
    let itself = Setup::with_job(JOB).attribute("startup-script-url", URL);
    measure("the agent as startup script", runs, &itself, &agent).await;
    let baked = Setup::with_job(JOB).program("usr/bin/vmjob-agent", &*agent).unit("vmjob-agent.service", unit());
    measure("baked into the image", runs, &baked, &agent).await;
    install(runs, &agent).await;
    if let Some(packages) = arguments.next() {
        let mut shell = Setup::with_job(JOB).attribute("startup-script", SHELL);
        for package in fs::read_dir(packages).expect("the packages' directory").flatten() {
            let name = format!("debs/{}", package.file_name().display());
            shell = shell.file(&name, fs::read(package.path()).expect("a package"));
        }
        measure("shell script with jq", runs, &shell, &agent).await;
    }
}

/// Boots it some times, and prints the median of each phase, in seconds since the power button.
async fn measure(name: &str, runs: usize, setup: &Setup, agent: &[u8]) {
    let mut phases: Vec<(&str, Vec<f64>)> = PHASES.iter().map(|(phase, _)| (*phase, Vec::new())).collect();
    phases.push(("job starts", Vec::new()));
    for _ in 0..runs {
        let Some(mut machine) = Machine::new(setup.clone()).await else { return };
        machine.bucket.put("vmjob-agent", agent);
        machine.boot();
        machine.until_started().await;
        machine.until_said("Startup finished").await;
        let console = machine.console();
        let on = time_of(&console, "switched on").expect("the script `machine` says so");
        let times = PHASES.iter().map(|(_, text)| time_of(&console, text));
        let job = machine.shared("starts").lines().next().and_then(|time| time.parse().ok());
        for ((_, seen), time) in phases.iter_mut().zip(times.chain([job])) {
            seen.extend(time.map(|time: f64| time - on));
        }
    }
    println!("{name} (median of {runs})");
    for (phase, mut seen) in phases.into_iter().filter(|(_, seen)| seen.len() == runs) {
        seen.sort_by(f64::total_cmp);
        println!("  {:6.2} s  {phase}", seen[runs / 2]);
    }
}

/// Prints how long the agent takes from its start as a program until its unit is active, each time on a machine that has
/// just booted and has none.
async fn install(runs: usize, agent: &[u8]) {
    let setup = Setup::with_job("exec sleep 600").program("agent", agent);
    let mut times: Vec<u64> = Vec::new();
    for _ in 0..runs {
        let Some(mut machine) = Machine::new(setup.clone()).await else { return };
        machine.boot();
        machine.until_said("Startup finished").await;
        let output = machine.inside(&["bash", "-c", INSTALL]).await;
        times.push(String::from_utf8_lossy(&output.stdout).trim().parse().expect("nanoseconds"));
    }
    times.sort_unstable();
    println!("install --now until the unit is active (median of {runs})");
    println!("  {:6.3} s", Duration::from_nanos(times[runs / 2]).as_secs_f64());
}

/// The time at which a text stands on the console: `[12.345678] …`.
fn time_of(console: &str, text: &str) -> Option<f64> {
    let line = console.lines().find(|line| line.contains(text))?;
    line.strip_prefix('[')?.split_once(']')?.0.trim().parse().ok()
}
