//! With what the job's files are opened: its mounts, as they lie on the VM, and its rights.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;
use tokio::time::Duration;
use tracing::warn;

use super::{Run, inputs::OPEN_DIR};
use crate::{
    files::{self, JobFiles, Mount, Rights, View, Workers, Writable, open_root},
    google::storage::{Storage, stall},
    job::{Container, FileMount, Job, Root, Work},
    runtime::{Engine, RESULT_FILE},
    service, shim,
};

/// How long the report waits for the job's result.
const RESULT_STALL: Duration = Duration::from_secs(5);
/// How long tidying up waits for a directory to be gone.
const REMOVE_STALL: Duration = Duration::from_secs(20);

impl Run<'_> {
    pub(super) fn storage(&self) -> Storage {
        self.storage_of(self.workers(Rights::Agent, self.file_stall()))
    }

    /// The client whose files are read and written by these threads.
    pub(super) fn storage_of(&self, workers: Workers) -> Storage {
        let config = self.config;
        let (endpoint, allowed) = (&config.storage_endpoint, &config.callback_allow);
        Storage::new(&self.http, &self.metadata, endpoint, allowed, config.storage_patience, workers)
    }

    fn file_stall(&self) -> Duration {
        stall(self.config.storage_patience)
    }

    fn workers(&self, rights: Rights, stall: Duration) -> Workers {
        Workers::new(rights, stall, &self.file_threads)
    }

    /// The files of the job as it sees them, with its rights.
    pub(super) async fn job_files(&self, job: &Job) -> io::Result<JobFiles> {
        let own = self.workers(Rights::Agent, self.file_stall());
        let writable = self.writable(job).await;
        let mounts = job.file_mounts().into_iter().map(async |FileMount { target, root, is_read_only }| {
            let opened = match root {
                Root::Vm(source) => {
                    let writable = writable.clone();
                    own.run(&source.clone(), move || open_root(&source, &writable)).await
                }
                Root::Files => {
                    let source = self.files_dir(self.record.attempt.number);
                    own.run(&source.clone(), move || {
                        // The job's user has to get at what is in it. Others do not get so far: see `make_own_dirs`.
                        fs::set_permissions(&source, Permissions::from_mode(OPEN_DIR))?;
                        open_root(&source, &Writable::default())
                    })
                    .await
                }
                Root::Foreign => return Mount { target, root: files::Root::Foreign, is_read_only },
            };
            let root = opened.map_or_else(
                |error| files::Root::Closed(error.kind(), error.to_string()),
                |root| files::Root::Open(root.into()),
            );
            Mount { target, root, is_read_only }
        });
        let view = View::new(join_all(mounts).await);
        Ok(JobFiles::new(view, self.workers(self.job_rights(job)?, self.file_stall())))
    }

    /// What the job's container has been given to write. A source that hangs is no way to another.
    async fn writable(&self, job: &Job) -> Writable {
        let own = self.workers(Rights::Agent, self.file_stall());
        let sources = job.file_mounts().into_iter().filter_map(|mount| match mount.root {
            Root::Vm(source) if !mount.is_read_only && !mount.target.as_os_str().is_empty() => Some(source),
            _ => None,
        });
        let found = sources
            .map(async |source| own.run(&source.clone(), move || Ok(Writable::at(&source))).await.unwrap_or_default());
        join_all(found).await.into_iter().collect()
    }

    /// A container's user that has only a name is known to its image alone, and so not before there is a container: until then no
    /// link leads out of the mounts, and that is all.
    fn job_rights(&self, job: &Job) -> io::Result<Rights> {
        match &job.work {
            Work::Process(process) => shim::rights_of(process.user.as_deref()),
            Work::Container(container) => {
                let known = self.record.attempt.image_rights.clone();
                match known.or_else(|| Rights::of_container(self.user_of(container))) {
                    Some(rights) => Ok(rights),
                    None if self.record.attempt.container.is_none() => Ok(Rights::Agent),
                    None => Err(io::Error::other(format!(
                        "the rights of the container's user {:?} are not known: it was not found in the image's /etc/passwd",
                        self.user_of(container)
                    ))),
                }
            }
        }
    }

    fn user_of<'b>(&'b self, container: &'b Container) -> &'b str {
        container.user.as_ref().or(self.record.attempt.image_user.as_ref()).map_or("", String::as_str)
    }

    /// Looks up the user of a container that has not run yet in its own lists: later they may be the job's work.
    pub(super) async fn note_rights(&mut self, job: &Job, id: &str) {
        let Work::Container(container) = &job.work else { return };
        let user = self.user_of(container).to_owned();
        let known = Rights::of_container(&user);
        let has_files = !(job.inputs.is_empty() && job.outputs.is_empty());
        // Any job may leave a result, which takes the rights of a user that has only a name.
        if (known.is_none() || has_files && known != Some(Rights::Agent))
            && let Some(Engine::Docker(docker)) = &self.engine
        {
            let (passwd, group) = (docker.text_file(id, "/etc/passwd"), docker.text_file(id, "/etc/group"));
            let (passwd, group) = (passwd.await, group.await);
            self.record.attempt.image_rights = shim::rights_by(&user, &passwd, &group);
        }
    }

    /// The directory in which the job's result is to appear, as if there were nothing else; `None` where the job has left none.
    pub(super) async fn result_files(&self, job: &Job) -> io::Result<Option<JobFiles>> {
        let dir = self.result_dir(self.record.attempt.number);
        let own = self.workers(Rights::Agent, RESULT_STALL);
        let root = own
            .run(&dir.clone(), move || match dir.join(RESULT_FILE).symlink_metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                _ => open_root(&dir, &Writable::default()).map(Some),
            })
            .await?;
        let Some(root) = root else { return Ok(None) };
        let workers = self.workers(self.job_rights(job)?, RESULT_STALL);
        Ok(Some(JobFiles::new(View::of_dir(root), workers)))
    }

    /// The directory that stands for all that is under no mount of a container, with the agent's rights.
    pub(super) async fn own_files(&self, dir: PathBuf) -> io::Result<JobFiles> {
        let own = self.workers(Rights::Agent, self.file_stall());
        let root = own.run(&dir.clone(), move || open_root(&dir, &Writable::default())).await?;
        Ok(JobFiles::new(View::of_dir(root), own))
    }

    /// Makes what a mount is to have as its source, a file or a directory, where nothing is there: below a directory that the agent
    /// opens, with the job's rights.
    pub(super) async fn make_source(&self, job: &Job, source: PathBuf, is_file: bool) -> io::Result<()> {
        let (own, writable) = (self.workers(Rights::Agent, self.file_stall()), self.writable(job).await);
        let job_s = self.workers(self.job_rights(job)?, self.file_stall());
        let (path, name) = (source.clone(), source.file_name().unwrap_or_default().to_owned());
        let parent = own.run(&path, move || match source.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                source.parent().map(|parent| open_root(parent, &writable)).transpose()
            }
            _ => Ok(None),
        });
        let Some(parent) = parent.await? else { return Ok(()) };
        let parent = View::of_dir(parent);
        job_s.run(&path, move || parent.make(Path::new(&name), is_file)).await
    }

    /// Removes directories in which a job may have put anything, a file system that hangs among it.
    pub(super) async fn remove_dirs(&self, dirs: impl IntoIterator<Item = PathBuf>) {
        let own = self.workers(Rights::Agent, REMOVE_STALL);
        let removals = dirs.into_iter().map(async |dir| {
            let doomed = dir.clone();
            match own.run(&dir, move || remove_dir(&doomed)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!("failed to remove {}: {error}", dir.display());
                }
                _ => {}
            }
        });
        join_all(removals).await;
    }
}

/// Removes a directory and what is in it. What lies in sticky directories of others the agent's unit may not remove, so one of its own
/// does that.
fn remove_dir(dir: &Path) -> io::Result<()> {
    let (parent, name) = match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) if service::can_start_units() => (parent, name),
        _ => return fs::remove_dir_all(dir),
    };
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        removed => return removed,
    }
    service::run_in_unit(&["rm".as_ref(), "-rf".as_ref(), "--".as_ref(), name], parent, REMOVE_STALL)
}
