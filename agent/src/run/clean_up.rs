//! After the report: nothing of the job stays but its record, and the VM does with itself what the job wants.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{ENGINE_PAUSE, Run};
use crate::{cli::Config, google::Compute, job::OnFinish, on_finish::carry_out, retry::Delays, runtime::EngineError};

/// How long the end waits for the guest attributes.
const GUEST_PATIENCE: Duration = Duration::from_secs(5);
/// How long after its agent died a create may still be under way in the engine.
const UNSEEN_CREATE_PAUSE: Duration = Duration::from_secs(3);
/// How long tidying up waits for the engine.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(20);

impl Run<'_> {
    /// Delivered: removes the parts of a log that is one object by now. First, as the workflow may be deleting the VM.
    pub(super) async fn remove_uploaded_parts(&self) {
        if let Some(job) = self.job()
            && let Some(parts) = self.destination(&job)
        {
            self.remove_log_parts(&parts, &self.record.attempt.logs_composed).await;
        }
    }

    /// Delivered: nothing of the job stays but its record. Doing it twice is harmless. False if a container may have stayed.
    pub(super) async fn clean_up(&mut self) -> bool {
        let is_clean = self.remove_containers().await;
        let dirs = (1..=self.record.attempt.number).flat_map(|attempt| {
            let spool = self.journal.dir().join(format!("spool-{attempt}"));
            [self.result_dir(attempt), self.files_dir(attempt), spool]
        });
        self.remove_dirs(dirs.chain([self.sessions_dir()])).await;
        is_clean
    }

    /// Delivered, with a container left: waits for an engine that can remove it, as long as the configuration says and the VM
    /// stays. After that the next run tries.
    pub(super) async fn clean_up_late(&mut self) {
        info!("waiting for the engine, to remove what is left of the job");
        let mut notices = self.notices.clone();
        let pauses = Delays::new(Duration::from_secs(2), Duration::from_secs(15));
        let removed = async {
            for pause in pauses {
                sleep(pause).await;
                // Without the look for its name, which a half dead engine may not answer.
                let engine = match self.engine.clone() {
                    Some(engine) => Ok(engine),
                    None => self.connect(self.config.engine_patience).await,
                };
                let removed = match (engine, &self.record.attempt.container) {
                    (Ok(engine), Some(id)) => engine.remove(id).await,
                    (Ok(_), None) => Ok(()),
                    (Err(error), _) => Err(error),
                };
                if removed.is_ok() && self.try_to_remove_containers(CLEAN_UP_PATIENCE).await.is_ok() {
                    return;
                }
            }
        };
        let is_clean = tokio::select! {
            removed = timeout(self.config.engine_patience, removed) => removed.is_ok(),
            _ = notices.vm_end() => false,
        };
        if is_clean {
            info!("removed what was left of the job");
            self.unblock_metadata().await;
        } else {
            warn!("the job's container may have been left behind; the next `vmjob-agent run` tries again to remove it");
        }
    }

    /// Removes the containers of all attempts so far, if the engine is there to do it, or comes back soon.
    pub(super) async fn remove_containers(&mut self) -> bool {
        self.guard = None;
        let removed = timeout(CLEAN_UP_PATIENCE, async {
            if self.carried_on && self.record.attempt.container.is_none() && self.record.attempt.image.is_some() {
                // An agent that died may have asked for a container that is not there yet.
                sleep(UNSEEN_CREATE_PAUSE).await;
            }
            let known = self.record.attempt.container.is_some() || self.record.attempt.number > 1;
            // Podman takes a second to say which version it is, and some when it is busy: a try that is cut off keeps it busier still.
            let patience = if known { CLEAN_UP_PATIENCE } else { Duration::from_secs(1) };
            loop {
                match self.try_to_remove_containers(patience).await {
                    Err(error) if known && error.is_lost() => sleep(ENGINE_PAUSE).await,
                    result => return result,
                }
            }
        });
        match removed.await {
            Ok(Ok(())) => {
                self.unblock_metadata().await;
                return true;
            }
            Ok(Err(error)) => warn!("the job's container may have been left behind: {error}"),
            Err(_) => warn!("the job's container may have been left behind: the engine is too slow, or away"),
        }
        // Where no container is known, there is none, mostly.
        self.record.attempt.container.is_none()
    }

    async fn try_to_remove_containers(&self, patience: Duration) -> Result<(), EngineError> {
        let engine = match &self.engine {
            Some(engine) => engine.clone(),
            None => self.connect(patience).await?,
        };
        // By id: others may have renamed them, or given their names to something else.
        for found in engine.own(&self.record.identity()).await? {
            engine.remove(&found.id).await?;
        }
        Ok(())
    }

    /// The last step: lets the VM go, if the job wants that, whether or not anybody took the report.
    pub(super) async fn finish(&mut self) {
        if let Some(guest) = self.guest.take() {
            guest.finish(GUEST_PATIENCE).await;
        }
        let on_finish = self.job().map_or(OnFinish::None, |job| job.on_finish);
        if self.record.finished || on_finish == OnFinish::None {
            return;
        }
        let Config { compute_endpoint, callback_allow, .. } = self.config;
        let compute = Compute::new(&self.http, &self.metadata, compute_endpoint, callback_allow);
        match carry_out(on_finish, &self.record.vm, &compute).await {
            Ok(()) => {
                self.record.finished = true;
                self.save_if_possible();
            }
            Err(problem) => warn!("{problem}"),
        }
    }
}
