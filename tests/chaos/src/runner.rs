//! Many lives, several at a time.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use tokio::task::JoinSet;

use crate::{
    cli::{Agent, Options},
    docker::docker,
    engine,
    invariants::check,
    life::live,
    plan::{Kind, Plan},
    summary::{Lived, Summary},
    tell::tell,
};

/// Lives all lives of `options`, and tells of those that break on stdout.
///
/// # Errors
/// What keeps lives from being lived at all: no engine, no room, no right to mount.
pub async fn run(options: &Options) -> io::Result<Summary> {
    if !docker(&["version"]).await? {
        return Err(io::Error::other("no Docker engine answers: run this through tests/with-docker"));
    }
    let harms_engine = options.kinds.contains(&Kind::Engine);
    if harms_engine && !engine::is_ours() {
        return Err(io::Error::other("kind engine harms the daemon: VMJOB_DOCKER=private tests/with-docker chaos …"));
    }
    // One daemon, one life at a time.
    let jobs = if harms_engine { 1 } else { options.jobs };
    let root = env::temp_dir().join(format!("vmjob-chaos-{}", std::process::id()));
    let began = Instant::now();
    let mut numbers = options.life.map_or(0..options.lives, |life| life..life + 1);
    let mut lives = JoinSet::new();
    let mut summary = Summary::default();
    loop {
        while lives.len() < jobs
            && let Some(number) = numbers.next()
        {
            let kind = options.kinds[usize::try_from(number).unwrap_or_default() % options.kinds.len()];
            let plan = Plan::draw(options.seed, number, kind);
            let dir = root.join(&plan.job.id);
            lives.spawn(live_and_judge(plan, options.agent.clone(), dir, options.keep, options.life.is_some()));
        }
        let Some(done) = lives.join_next().await else { break };
        let (life, story) = done.map_err(io::Error::other)??;
        if let Some(story) = story {
            // Whoever reads may have seen enough.
            let _ = writeln!(io::stdout(), "{story}\n");
        }
        summary.lives.push(life);
    }
    // Not empty where directories are kept.
    let _ = fs::remove_dir(&root);
    summary.took = began.elapsed();
    Ok(summary)
}

async fn live_and_judge(
    plan: Plan,
    agent: Agent,
    dir: PathBuf,
    keep: bool,
    told: bool,
) -> io::Result<(Lived, Option<String>)> {
    // Of another process with the same number, perhaps.
    let _ = fs::remove_dir_all(&dir);
    let evidence = match live(&plan, &agent, &dir).await {
        Ok(evidence) => evidence,
        Err(error) => return Ok((Lived::in_vain(&plan, &error), None)),
    };
    let broken = check(&plan, &evidence);
    let story = (told || !broken.is_empty()).then(|| tell(&plan, &evidence, &broken, &dir));
    if !keep {
        remove(&dir)?;
    }
    Ok((Lived::new(&plan, &evidence, broken), story))
}

fn remove(dir: &Path) -> io::Result<()> {
    fs::remove_dir_all(dir).map_err(|error| io::Error::other(format!("failed to remove {}: {error}", dir.display())))
}
