//! GPUs where the engine does not give them out itself: waited for, as the driver is installed while the VM boots, and given to
//! the container as devices and mounts.

use tokio::time::{Duration, Instant, sleep};
use tracing::info;

use super::{Engine, Run};
use crate::{job::Container, outcome::Failure, runtime::gpus};

const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Turns the wish for GPUs into devices and mounts, where it is not for the engine to fulfil.
    pub(super) async fn give_gpus(&mut self, container: &mut Container) -> Result<(), Failure> {
        let Some(wanted) = container.gpus.clone() else { return Ok(()) };
        let failure = |source| Failure::Engine { doing: "ask for the engine's runtimes", source };
        let asked = async |engine: &Engine| match engine {
            Engine::Docker(docker) => docker.info().await.map(Some),
            Engine::Processes(_) => Ok(None),
        };
        let Some(info) = self.call(asked, failure).await? else { return Ok(()) };
        let root = self.config.root.as_path();
        if !gpus::are_ours_to_give(root, &info) {
            return Ok(());
        }
        let (began, patience) = (Instant::now(), self.config.gpu_patience);
        let mut told_at: Option<Instant> = None;
        let _waiting = self.waits.begin("the GPUs and their driver");
        loop {
            let missing = match gpus::find(root, &wanted) {
                Ok(found) => {
                    info!("the job gets {}", found.join(", "));
                    gpus::give(container, root, &found);
                    return Ok(());
                }
                Err(missing) => missing,
            };
            if !missing.may_come || began.elapsed() >= patience {
                let problem = if missing.may_come {
                    format!("{} after {} s", missing.problem, began.elapsed().as_secs())
                } else {
                    missing.problem
                };
                return Err(Failure::Gpus { problem, fix: missing.fix });
            }
            self.waits.failed(&missing.problem);
            if told_at.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL) {
                told_at = Some(Instant::now());
                info!("waiting for the GPUs, for up to {} s: {}", patience.as_secs(), missing.problem);
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}
