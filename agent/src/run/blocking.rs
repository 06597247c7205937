//! `metadata_server: block` in a run: whether the job may have what it asks for, looked at at each create and start; in force before
//! the job starts, written down before that, and gone when nothing of the job is left.

use std::{path::PathBuf, time::Duration};

use tracing::{info, warn};

use super::Run;
use crate::{
    job::{Job, MetadataServer},
    outcome::Failure,
    runtime::{BlockRules, Blocked, DockerEngine, Engine, EngineError, check_block},
};

/// How long the look for containers waits for an engine.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Whether the job can be kept from it, as the VM is now.
    pub(super) async fn check_block(&mut self, job: &Job) -> Result<(), Failure> {
        if job.metadata_server == MetadataServer::Allow {
            return Ok(());
        }
        let claim = self.record.claim.clone();
        let failure = |source| Failure::Engine { doing: "look at what the job is to have", source };
        let engine_dir = self.call(async |engine| engine.check_block(job, &claim).await, failure).await??;
        let socket = self.config.docker_host.trim_start_matches("unix://");
        let closed = [&*self.config.state_dir, self.journal.dir(), &*self.config.spare_dir, socket.as_ref()];
        let closed = closed.into_iter().map(PathBuf::from).chain(engine_dir).collect();
        Ok(check_block(job, BlockRules { allowed: self.config.block_mounts.clone(), closed }).await?)
    }

    /// Keeps the job, which has been made and not started, from the metadata server, if it asks for that.
    pub(super) async fn block_metadata(&mut self, job: &Job) -> Result<(), Failure> {
        if job.metadata_server == MetadataServer::Allow {
            return Ok(());
        }
        let ways = self.call(async |engine| engine.metadata_ways(job).await, Failure::Start).await?;
        let mut all = self.noted();
        all.retain(|noted| !ways.contains(noted));
        all.extend(ways.iter().cloned());
        self.record.blocked = Blocked::note(&all);
        self.save()?;
        for blocked in ways {
            blocked.begin().await.map_err(Failure::Start)?;
            info!("the metadata server is blocked for {blocked}");
        }
        Ok(())
    }

    /// Opens what nothing of a job is left to use, be it this one or an earlier one. Doing it twice is harmless.
    pub(super) async fn unblock_metadata(&mut self) {
        let mut kept = Vec::new();
        let all = self.noted();
        for blocked in &all {
            if let Some(why) = blocked.needed_for(async || self.running_container().await).await {
                warn!("the metadata server stays blocked for {blocked}: {why}");
                // Another boot has no rules.
                if let Err(problem) = blocked.begin().await {
                    warn!("{problem}");
                }
                kept.push(blocked.clone());
            } else if let Err(problem) = blocked.end().await {
                warn!("the metadata server is still blocked for {blocked}: {problem}");
                kept.push(blocked.clone());
            }
        }
        if kept != all {
            self.record.blocked = Blocked::note(&kept);
            if kept.is_empty() {
                self.record.blocked_claims.clear();
            }
            self.save_if_possible();
        }
    }

    /// A container of this job, or of one before it, that runs or may.
    async fn running_container(&self) -> Result<Option<String>, EngineError> {
        let docker = match &self.engine {
            Some(Engine::Docker(docker)) => docker.clone(),
            // An earlier job may have been of the other kind.
            _ => DockerEngine::connect(&self.config.docker_host, LOOK_PATIENCE, &self.waits).await?,
        };
        for claim in self.record.blocked_claims.iter().chain([&self.record.claim]) {
            if let Some(name) = docker.running_container(claim).await? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn noted(&self) -> Vec<Blocked> {
        self.record.blocked.as_deref().map(Blocked::noted).unwrap_or_default()
    }
}
