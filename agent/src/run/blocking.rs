//! `metadata_server: block` in a run: in force before the job starts, written down before that, and gone after the job.

use tracing::{info, warn};

use super::Run;
use crate::{
    job::{Job, MetadataServer},
    outcome::Failure,
    runtime::Blocked,
};

impl Run<'_> {
    /// Whether the job can be kept from it, with the agent's state where it is: by the name that this was given, and by that
    /// without links.
    pub(super) fn check_block(&self, job: &Job) -> Result<(), Failure> {
        let dirs = [self.config.state_dir.as_path(), self.journal.dir()];
        Ok(dirs.iter().try_for_each(|dir| job.check_block(dir))?)
    }

    /// Keeps the job, which has been made and not started, from the metadata server, if it asks for that.
    pub(super) async fn block_metadata(&mut self, job: &Job) -> Result<(), Failure> {
        if job.metadata_server == MetadataServer::Allow {
            return Ok(());
        }
        let Some(blocked) = self.call(async |engine| engine.metadata_way(job).await, Failure::Start).await? else {
            return Ok(());
        };
        self.record.blocked = Some(blocked.to_string());
        self.save()?;
        blocked.begin().await.map_err(Failure::Start)?;
        info!("the metadata server is blocked for {blocked}");
        Ok(())
    }

    /// Once nothing of the job, or of an earlier one, is left. Doing it twice is harmless.
    pub(super) async fn unblock_metadata(&mut self) {
        let Some(blocked) = &self.record.blocked else { return };
        match Blocked::noted(blocked).end().await {
            Ok(()) => {
                self.record.blocked = None;
                self.save_if_possible();
            }
            Err(problem) => warn!("the metadata server is still blocked for {blocked}: {problem}"),
        }
    }
}
