//! `fakecloud run`: one job on this machine, from the command line to its report.

use std::io;
use std::path::Path;
use std::time::Duration;

use fakecloud::{Config, FakeCloud, Recorded};
use rustix::process::Signal;
use serde_json::Value;

use super::agent::{self, Agent, Ended, Show};
use super::args::{Job, RunOptions};
use super::signals::Signals;
use super::state_dir::StateDir;
use super::{print, quoting, report};

/// The agent ended without a report: an internal error of the software (`EX_SOFTWARE`).
const EXIT_NO_REPORT: u8 = 70;
/// How long the agent may clean up after its report.
const CLEAN_UP: Duration = Duration::from_mins(2);

/// Runs the job, shows its report, and returns the exit status.
pub(crate) async fn run(options: RunOptions) -> io::Result<u8> {
    let show = match options {
        RunOptions { quiet: true, .. } => Show::Nothing,
        RunOptions { json: true, .. } => Show::OnStderr,
        _ => Show::Both,
    };
    let path = agent::find(options.agent)?;
    let cloud = FakeCloud::start(Config::default()).await?;
    match options.job {
        Job::DockerCommand(words) => cloud.set_attribute("docker-command", quoting::join(&words)),
        Job::Spec(path) => cloud.set_attribute("job-spec", read_spec(&path)?),
    }
    for (key, value) in options.attributes {
        cloud.set_attribute(&key, value);
    }
    for (name, value) in options.secrets {
        cloud.add_secret(&name, value);
    }
    let signals = Signals::catch()?; // before there is anything to leave behind
    let state_dir = StateDir::open(options.state_dir)?;
    let agent = Agent::start(&path, &cloud, state_dir.path(), show)?;
    let ended = attend(agent, &cloud, signals).await?;
    match cloud.accepted().last() {
        Some(callback) => show_report(callback, options.json),
        None => Ok(explain(&ended)),
    }
}

/// Hands signals to the agent until it has ended.
async fn attend(mut agent: Agent, cloud: &FakeCloud, mut signals: Signals) -> io::Result<Ended> {
    let mut stopping = false;
    let overdue = async {
        while cloud.next_accepted(Duration::MAX).await.is_none() {}
        tokio::time::sleep(CLEAN_UP).await;
    };
    tokio::pin!(overdue);
    let why = loop {
        tokio::select! {
            status = agent.exited() => {
                status?;
                return agent.end().await;
            }
            () = &mut overdue => break "it does not end after its report",
            signal = signals.next() => {
                if stopping {
                    break "asked to; its container may be left, see `docker ps -f name=vmjob-`";
                }
                stopping = true;
                eprintln!("fakecloud: stopping the job, which has its grace period; once more to kill the agent");
                // To the agent SIGHUP means to leave the job running; here it means that the terminal is gone.
                agent.signal(if signal == Signal::HUP { Signal::TERM } else { signal });
            }
        }
    };
    eprintln!("fakecloud: killing the agent: {why}");
    agent.kill();
    agent.end().await
}

/// A spec may say what the VM does at the end. This is no VM: the machine must not be powered off.
fn read_spec(path: &Path) -> io::Result<Vec<u8>> {
    let fail = |e: io::Error| io::Error::new(e.kind(), format!("failed to read {}: {e}", path.display()));
    let bytes = std::fs::read(path).map_err(fail)?;
    let Ok(Value::Object(mut spec)) = serde_json::from_slice(&bytes) else {
        return Ok(bytes);
    };
    match spec.get("on_finish").and_then(Value::as_str) {
        None | Some("none") => return Ok(bytes),
        Some(action) => {
            eprintln!("fakecloud: on_finish is \"{action}\": ignored here, this machine stays on");
        }
    }
    spec.insert("on_finish".into(), "none".into());
    Ok(Value::Object(spec).to_string().into())
}

fn show_report(callback: &Recorded, json: bool) -> io::Result<u8> {
    let Ok(report) = serde_json::from_slice::<Value>(&callback.body) else {
        eprintln!("fakecloud: the agent's report is not JSON:\n{}", callback.text());
        return Ok(EXIT_NO_REPORT);
    };
    let text = report::for_people(&report);
    if json {
        eprint!("{text}");
        print(&format!("{}\n", callback.text()))?; // as it was sent
    } else {
        print(&text)?;
    }
    Ok(report::exit_status(&report))
}

fn explain(ended: &Ended) -> u8 {
    for line in &ended.log {
        eprintln!("{line}");
    }
    eprintln!("fakecloud: the agent ended without a report ({}); its log says why", ended.status);
    EXIT_NO_REPORT
}
