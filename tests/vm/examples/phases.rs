//! From the power button to the job's first instruction, phase by phase: with the startup script, with the agent itself
//! as the startup script, baked into the image, and as a shell script with `jq` does it. Run it on an idle machine: `make bench-vm`.
//! Prints a table, and writes the numbers as JSON to `target/bench-vm.json`.
//!
//! `cargo run -p vm --example phases -- [RUNS] [DIRECTORY WITH JQ'S PACKAGES]`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use e2e::agent_binary;
use serde_json::json;
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
const JOB_STARTS: &str = "job starts";
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

/// The medians of one way, in seconds since the power button; a phase that the way does not have is not there.
type Medians = BTreeMap<&'static str, f64>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = env::args().skip(1);
    let runs: usize = arguments.next().map_or(3, |runs| runs.parse().expect("a number of runs"));
    let agent = fs::read(agent_binary()).expect("the agent can be read");
    let job = || Setup::with_job(JOB);
    let pinned = job().attribute("agent-url", URL).attribute("agent-sha256", sha256(&agent_binary()));
    let mut ways = vec![
        ("startup script", pinned.attribute("startup-script", startup_script())),
        ("agent itself", job().attribute("startup-script-url", URL)),
        ("baked", job().program("usr/bin/vmjob-agent", &*agent).unit("vmjob-agent.service", unit())),
    ];
    if let Some(packages) = arguments.next() {
        let mut shell = job().attribute("startup-script", SHELL);
        for package in fs::read_dir(packages).expect("the packages' directory").flatten() {
            let name = format!("debs/{}", package.file_name().display());
            shell = shell.file(&name, fs::read(package.path()).expect("a package"));
        }
        ways.push(("shell way", shell));
    }
    let mut measured = Vec::new();
    for (name, setup) in ways {
        let Some(medians) = measure(runs, &setup, &agent).await else { return };
        measured.push((name, medians));
    }
    let Some(install_s) = install(runs, &agent).await else { return };

    println!("seconds since the power button, median of {runs}");
    print!("{:22}", "");
    for (name, _) in &measured {
        print!("{name:>16}");
    }
    for phase in PHASES.iter().map(|(phase, _)| *phase).chain([JOB_STARTS]) {
        print!("\n{phase:22}");
        for (_, medians) in &measured {
            let time = medians.get(phase).map_or_else(|| "-".into(), |time| format!("{time:.2}"));
            print!("{time:>16}");
        }
    }
    println!("\n\ninstall --now until the unit is active, median of {runs}: {install_s:.3} s");
    let ways: serde_json::Map<_, _> =
        measured.into_iter().map(|(name, medians)| (name.into(), json!(medians))).collect();
    let numbers = json!({"runs": runs, "boot_s": ways, "install_now_s": install_s});
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let path = target.join("bench-vm.json");
    fs::write(&path, format!("{numbers:#}\n")).expect("the target directory is writable");
    println!("the numbers as JSON: {}", path.display());
}

/// Boots a machine some times; nothing where none can be booted.
async fn measure(runs: usize, setup: &Setup, agent: &[u8]) -> Option<Medians> {
    let mut phases: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..runs {
        let mut machine = Machine::new(setup.clone()).await?;
        machine.bucket.put("vmjob-agent", agent);
        machine.boot();
        machine.until_started().await;
        machine.until_said("Startup finished").await;
        let console = machine.console();
        let on = time_of(&console, "switched on").expect("the script `machine` says so");
        let times = PHASES.iter().map(|(phase, text)| (*phase, time_of(&console, text)));
        let job = machine.shared("starts").lines().next().and_then(|time| time.parse().ok());
        for (phase, time) in times.chain([(JOB_STARTS, job)]) {
            phases.entry(phase).or_default().extend(time.map(|time: f64| time - on));
        }
    }
    // A phase may come after the console was looked at: then it has no median.
    let whole = phases.into_iter().filter(|(_, times)| times.len() == runs);
    Some(whole.map(|(phase, times)| (phase, median(times))).collect())
}

/// How long the agent takes from its start as a program until its unit is active, each time on a machine that has just booted and
/// has none.
async fn install(runs: usize, agent: &[u8]) -> Option<f64> {
    let setup = Setup::with_job("exec sleep 600").program("agent", agent);
    let mut times = Vec::new();
    for _ in 0..runs {
        let mut machine = Machine::new(setup.clone()).await?;
        machine.boot();
        machine.until_said("Startup finished").await;
        let output = machine.inside(&["bash", "-c", INSTALL]).await;
        let nanoseconds = String::from_utf8_lossy(&output.stdout).trim().parse().expect("nanoseconds");
        times.push(Duration::from_nanos(nanoseconds).as_secs_f64());
    }
    Some(median(times))
}

/// To the millisecond.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2] * 1000.0).round() / 1000.0
}

/// The time at which a text stands on the console: `[12.345678] …`.
fn time_of(console: &str, text: &str) -> Option<f64> {
    let line = console.lines().find(|line| line.contains(text))?;
    line.strip_prefix('[')?.split_once(']')?.0.trim().parse().ok()
}
