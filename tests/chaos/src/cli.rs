//! The command line.

use std::{env, path::PathBuf, time::SystemTime};

use lexopt::prelude::*;

use crate::plan::Kind;

pub const HELP: &str = "\
chaos: lives of vmjob-agent under faults, each held against what must hold whatever fails

Usage: tests/with-docker chaos [OPTIONS]

A life is one job under one schedule of faults, both drawn from the seed and the life's number. The job keeps a diary in
a mounted directory and the engine is watched, so what really happened is known without the agent; a model says which
reports would be truthful. A life that breaks an invariant prints its schedule, what happened, the report and the
agent's log, and the command that lives it again.

Options:
  --lives N         how many lives; default 100
  --seed S          the seed, a number; default the time of day (and printed)
  --jobs J          how many lives at once; default 6 (they mostly wait)
  --kinds A,B,…     which kinds of lives, in turn; default all that the environment allows but engine
  --life I          live only life number I of the seed, and tell its story
  --json FILE       also write the summary as JSON
  --keep            keep what each life wrote, below the temporary directory
  -h, --help        this text

Kinds:
  kill9     kill -9 of the agent in any phase or moment, up to four times
  delivery  the callback endpoint refuses, resets, hangs, truncates, is down, is gone
  metadata  the metadata server fails, is slow, truncates, is down
  stops     SIGTERM, SIGINT, preemption, job-cancel, timeout; kills and SIGHUP on top
  behind    the container is killed or removed behind the agent's back
  reboot    the machine goes down, and comes back with another boot id
  journal   the journal is torn, emptied or removed while the agent is dead
  logdamage the engine's file of the job's log is cut, emptied, torn or overwritten with zeros
  disk      the state directory's file system is full for a while, or for good
  mix       several of these at once
  clock     the wall clock jumps by seconds to years
  silence   the engine half dies under the job: its shim stands still, its log driver hangs, it answers about
            all containers but this one, or late
  keep      a failed job is kept for a while, some exit codes are a success; kills, reboots, stops meanwhile
  engine    the Docker daemon is restarted, killed or frozen, or half dies. It needs a daemon of its own:
            VMJOB_DOCKER=private tests/with-docker chaos --kinds engine --jobs 1

Environment: VMJOB_AGENT is the binary under test; DOCKER_HOST the engine. It needs root (mounts, other boot ids).
Kind clock needs VMJOB_AGENT_DYNAMIC, the same linked dynamically, and LIBFAKETIME, the path of libfaketimeMT.so.1.

Exit status: 0 all invariants hold · 1 some broke · 2 bad usage or no engine
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    Run(Options),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub lives: u64,
    pub seed: u64,
    pub jobs: usize,
    pub kinds: Vec<Kind>,
    pub life: Option<u64>,
    pub json: Option<PathBuf>,
    pub keep: bool,
    pub agent: Agent,
}

/// The agent under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The one that ships.
    pub binary: PathBuf,
    pub clocked: Option<Clocked>,
}

/// An agent whose clock can be set. No library comes between a static binary and its clock, so it is a dynamic one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clocked {
    pub agent: PathBuf,
    pub libfaketime: PathBuf,
}

impl Agent {
    fn from_env() -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let clocked = path("VMJOB_AGENT_DYNAMIC")
            .zip(path("LIBFAKETIME"))
            .filter(|(agent, library)| agent.exists() && library.exists())
            .map(|(agent, libfaketime)| Clocked { agent, libfaketime });
        Self { binary: path("VMJOB_AGENT").unwrap_or_default(), clocked }
    }
}

/// Reads a command line.
///
/// # Errors
/// One sentence about what is wrong.
pub fn parse(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let agent = Agent::from_env();
    let is_usual = |kind: &Kind| *kind != Kind::Engine && (*kind != Kind::Clock || agent.clocked.is_some());
    let kinds = Kind::ALL.into_iter().filter(is_usual).collect();
    let mut options = Options { lives: 100, seed, jobs: 6, kinds, life: None, json: None, keep: false, agent };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("lives") => options.lives = parser.value()?.parse()?,
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("jobs") => options.jobs = parser.value()?.parse::<usize>()?.max(1),
            Long("kinds") => options.kinds = parser.value()?.parse_with(parse_kinds)?,
            Long("life") => options.life = Some(parser.value()?.parse()?),
            Long("json") => options.json = Some(parser.value()?.into()),
            Long("keep") => options.keep = true,
            Short('h') | Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    if options.agent.binary.as_os_str().is_empty() {
        return Err("VMJOB_AGENT names no binary to test".into());
    }
    if options.agent.clocked.is_none() && options.kinds.contains(&Kind::Clock) {
        return Err("kind clock needs VMJOB_AGENT_DYNAMIC and LIBFAKETIME, and the files they name".into());
    }
    Ok(Command::Run(options))
}

fn parse_kinds(text: &str) -> Result<Vec<Kind>, String> {
    let kind = |name: &str| {
        let known = || Kind::ALL.map(Kind::name).join(", ");
        Kind::named(name).ok_or_else(|| format!("there is no kind {name:?}; there are {}", known()))
    };
    text.split(',').map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_named() {
        assert_eq!(parse_kinds("kill9,disk"), Ok(vec![Kind::Kill9, Kind::Disk]));
        assert!(parse_kinds("kill9,x").is_err_and(|error| error.contains("\"x\"") && error.contains("delivery")));
    }
}
