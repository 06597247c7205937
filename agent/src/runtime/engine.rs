//! What runs the job, of either kind, with the calls that both have: a container of the Docker engine, or a process with its shim.

use std::path::PathBuf;

use futures_util::stream;
use jiff::Timestamp;

use super::{
    EngineError, Events,
    block_check::check_volume,
    config::{ContainerNames, Dirs, JobIdentity, SecretEnv, container_config, process_spec},
    docker::{Created, Daemon, DockerEngine},
    inspect::{Found, Image, Inspected},
    main_process::MainProcess,
    metadata_block::Blocked,
    output::{OutputStream, Replay},
    process::Processes,
};
use crate::{
    job::{Job, JobError, MountKind, Work},
    shim::uid_and_groups,
};

#[derive(Clone)]
pub enum Engine {
    Docker(DockerEngine),
    Processes(Processes),
}

impl Engine {
    /// Makes the job's container, or what stands for it, and does not start it.
    pub async fn create(
        &self,
        name: &str,
        identity: &JobIdentity,
        job: &Job,
        secrets: &SecretEnv,
        dirs: &Dirs,
    ) -> Result<Created, EngineError> {
        match (self, &job.work) {
            (Self::Docker(docker), Work::Container(container)) => {
                docker.create(name, container_config(identity, job, container, secrets, dirs)).await
            }
            (Self::Processes(processes), Work::Process(process)) => {
                let id = processes.create(&process_spec(name, identity, job, process, &dirs.result))?;
                Ok(Created { id, warnings: Vec::new() })
            }
            _ => Err(EngineError::Failed("the job is of another kind than what is to run it".into())),
        }
    }

    /// Starts it. A container has its secrets from its making on; a process gets them now, as nothing may keep them.
    pub async fn start(&self, id: &str, secrets: &SecretEnv) -> Result<(), EngineError> {
        match self {
            Self::Docker(docker) => docker.start(id).await,
            Self::Processes(processes) => processes.start(id, secrets).await.map_err(EngineError::of_shim),
        }
    }

    /// What is known of the one with this name or id.
    pub async fn inspect(&self, id: &str) -> Result<Found, EngineError> {
        match self {
            Self::Docker(docker) => docker.inspect(id).await,
            Self::Processes(processes) => processes.inspect(id).await.map_err(EngineError::of_shim),
        }
    }

    /// All that was made for the job, whatever it is called by now.
    pub async fn own(&self, identity: &JobIdentity) -> Result<Vec<Inspected>, EngineError> {
        let names: Vec<String> =
            (1..=identity.attempt).map(|attempt| ContainerNames::of(&identity.job_id, attempt)).collect();
        let mut found = match self {
            Self::Docker(docker) => docker.labelled(ContainerNames::CLAIM, &identity.claim).await?,
            Self::Processes(processes) => {
                let mut found = Vec::new();
                for name in &names {
                    if let Found::Container(process) = processes.inspect(name).await? {
                        found.push(*process);
                    }
                }
                found
            }
        };
        found.retain(|found| {
            let name = found.container.settings.as_ref().map_or(&found.id, |settings| &settings.name);
            // A container of an image that somebody committed from ours has our labels too.
            let is_of_our_image = identity.image.as_ref().is_none_or(|image| *image == found.container.image);
            found.label(ContainerNames::CLAIM) == Some(&identity.claim)
                && (identity.container.as_ref() == Some(&found.id) || names.contains(name) || is_of_our_image)
        });
        Ok(found)
    }

    /// The exit code of the first end of it that is remembered, and its time, if any is.
    pub async fn first_exit(&self, id: &str) -> Option<(i64, Option<Timestamp>)> {
        match self {
            Self::Docker(docker) => docker.first_exit(id).await,
            Self::Processes(_) => None,
        }
    }

    /// Waits until one that was started runs no more: the exit code. This call alone has no deadline.
    pub async fn wait(&self, id: &str) -> Result<i64, EngineError> {
        match self {
            Self::Docker(docker) => docker.wait(id).await,
            Self::Processes(processes) => processes.wait(id).await.map_err(EngineError::of_shim),
        }
    }

    /// Sends a signal; false if it does not run.
    pub async fn kill(&self, id: &str, signal: &str) -> Result<bool, EngineError> {
        match self {
            Self::Docker(docker) => docker.kill(id, signal).await,
            Self::Processes(processes) => processes.kill(id, signal).await.map_err(EngineError::of_shim),
        }
    }

    /// Lets it go on, where somebody has paused it.
    pub async fn unpause(&self, id: &str) -> Result<(), EngineError> {
        match self {
            Self::Docker(docker) => docker.unpause(id).await,
            Self::Processes(_) => Ok(()),
        }
    }

    /// The main process of one that runs, where the engine's processes are this machine's too.
    pub fn main_process(&self, found: &Inspected) -> Option<MainProcess> {
        match self {
            Self::Docker(_) => MainProcess::of_container(found.pid?, &found.id),
            Self::Processes(_) => MainProcess::of_shim(found.pid?),
        }
    }

    /// Whether it answers at all, though perhaps not about every container.
    pub async fn answers(&self) -> bool {
        match self {
            Self::Docker(docker) => docker.answers().await,
            Self::Processes(_) => true,
        }
    }

    /// Ends what of it can be ended without its shim; its main process is the caller's to end.
    pub async fn end_by_force(&self, id: &str) {
        match self {
            Self::Docker(_) => {}
            Self::Processes(processes) => processes.end_by_force(id).await,
        }
    }

    /// Ends it and removes all that it has; one that is gone already is fine.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        match self {
            Self::Docker(docker) => docker.remove(id).await,
            Self::Processes(processes) => processes.remove(id).await.map_err(EngineError::of_shim),
        }
    }

    /// Removes one that does not run; an error if it does.
    pub async fn remove_stopped(&self, id: &str) -> Result<(), EngineError> {
        match self {
            Self::Docker(docker) => docker.remove_stopped(id).await,
            Self::Processes(processes) => processes.remove_stopped(id).await,
        }
    }

    /// What is done to it, as it happens.
    pub fn events(&self, id: &str) -> Events {
        match self {
            Self::Docker(docker) => docker.events(id),
            Self::Processes(_) => Events::none(),
        }
    }

    /// Whether what runs it now has seen it end.
    pub async fn saw_end(&self, id: &str) -> bool {
        match self {
            Self::Docker(docker) => docker.first_exit(id).await.is_some(),
            Self::Processes(_) => true,
        }
    }

    /// The output from now on. To be called before the start: then nothing is missed.
    pub async fn attach(&self, id: &str) -> Result<OutputStream, EngineError> {
        match self {
            Self::Docker(docker) => docker.attach(id).await,
            Self::Processes(_) => Ok(Box::pin(stream::empty())),
        }
    }

    /// The output from its beginning, as far as it was kept; with `follow` also what is still to come, `with_times` each
    /// entry behind its time.
    pub fn replay(&self, id: &str, replay: Replay) -> OutputStream {
        match self {
            Self::Docker(docker) => docker.replay(id, replay),
            Self::Processes(_) => Box::pin(stream::empty()),
        }
    }

    /// Whether a replay that follows has all of the output.
    pub async fn can_follow(&self) -> bool {
        match self {
            Self::Docker(docker) => docker.can_follow().await,
            Self::Processes(_) => true,
        }
    }

    /// Whether its log is a file that can be read by its path.
    pub async fn has_log_file(&self, id: &str) -> Result<bool, EngineError> {
        match self {
            Self::Docker(docker) => docker.has_log_file(id).await,
            Self::Processes(_) => Ok(true),
        }
    }

    /// The image, if it is there.
    pub async fn image(&self, image: &str) -> Result<Option<Image>, EngineError> {
        match self {
            Self::Docker(docker) => docker.image(image).await,
            Self::Processes(_) => Ok(None),
        }
    }

    /// What `block` closes of the engine's own: its directory. And whether a volume that the job names keeps it from running.
    pub async fn check_block(&self, job: &Job, claim: &str) -> Result<Result<Option<PathBuf>, JobError>, EngineError> {
        let (Self::Docker(docker), Work::Container(container)) = (self, &job.work) else { return Ok(Ok(None)) };
        for (index, mount) in container.mounts.iter().enumerate() {
            if let MountKind::Volume { source: Some(name) } = &mount.kind
                && let Some(volume) = docker.volume(name).await?
                && let Err(error) = check_volume(index, name, &volume, claim)
            {
                return Ok(Err(error));
            }
        }
        Ok(Ok(docker.info().await?.docker_root_dir))
    }

    /// The user that the image says its containers run as; empty for root.
    pub async fn image_user(&self, image: &str) -> Result<String, EngineError> {
        match self {
            Self::Docker(docker) => docker.image_user(image).await,
            Self::Processes(_) => Ok(String::new()),
        }
    }

    /// By which ways the job would reach the metadata server.
    pub async fn metadata_ways(&self, job: &Job) -> Result<Vec<Blocked>, EngineError> {
        match (self, &job.work) {
            (Self::Docker(docker), Work::Container(container)) => match container.network.as_deref() {
                Some("none") => Ok(Vec::new()),
                None | Some("default") => Ok(vec![docker.bridge("bridge").await?]),
                Some(network) => Ok(vec![docker.bridge(network).await?]),
            },
            (Self::Processes(_), Work::Process(process)) => {
                let user = uid_and_groups(process.user.as_deref());
                let (uid, _) = user.map_err(|error| EngineError::Failed(error.to_string()))?;
                Blocked::user(uid)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Which process runs all jobs, where there is one: another is one that was started anew.
    pub fn daemon(&self) -> Option<Daemon> {
        match self {
            Self::Docker(docker) => docker.daemon(),
            Self::Processes(_) => None,
        }
    }
}
