//! A job's inputs, fetched before its container is made: so a container that is there means that they are whole. Those that are
//! there already, after a restart, are not fetched again.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Run, noted::named};
use crate::{
    files::JobFiles,
    google::storage::{Access, Listing, Location, Object, Pool, Storage, StorageError, relative_path},
    job::{Container, Input, Job, Place, Root, Wildcard, Work, relative},
    outcome::Failure,
};

/// Directories in which whoever the job runs as may write, but not remove what is another's.
pub(super) const OPEN_DIR: u32 = 0o1777;
const DIR: u32 = 0o755;

impl Run<'_> {
    /// Makes the sources of the container's own mounts, and fetches the inputs.
    pub(super) async fn get_inputs(&mut self, job: &Job) -> Result<(), Failure> {
        self.make_own_dirs(job).await.map_err(|source| super::error::journal_failure(self.config, source))?;
        self.note_image_user(job).await?;
        let Some(first) = job.inputs.first() else { return Ok(()) };
        let began = Instant::now();
        self.make_sources(job).await?;
        let room = self.job_files(job).await.map_err(|error| input_failure(first, error))?;
        let _waiting = self.waits.begin(format!("the inputs {}", named(job.inputs.iter().map(|input| &*input.from))));
        let (storage, mut files, mut bytes) = (self.storage_of(room.workers.clone()).with_waits(&self.waits), 0, 0);
        let mut pool = Pool::new();
        let failed = async |input: &Input, source: StorageError| {
            let bucket = Location::parse(&input.from).bucket;
            let fix = source.fix(&bucket, Access::Read, &storage.account().await);
            Failure::Input { from: input.from.clone(), source: Box::new(source), fix }
        };
        // Where those go that may be under way.
        let mut under_way: Vec<PathBuf> = Vec::new();
        for input in &job.inputs {
            let place = self.whole_target(job, input);
            if under_way.iter().any(|other| other.starts_with(&place) || place.starts_with(other)) {
                // The same file may be meant: of two that go to one place the later stays.
                while let Some(ended) = pool.next().await {
                    if let Err((input, error)) = ended {
                        return Err(failed(input, error).await);
                    }
                }
                under_way.clear();
            }
            under_way.push(place);
            let mut targets = Targets::of(job, input, &room);
            let mut listing = Listing::default();
            loop {
                let (listed, outcomes) = pool.beside(targets.next(&storage, &mut listing)).await;
                for ended in outcomes {
                    if let Err((input, error)) = ended {
                        return Err(failed(input, error).await);
                    }
                }
                let listed = match listed {
                    Ok(listed) => listed,
                    Err(error) => return Err(failed(input, error).await),
                };
                for (from, object, path) in listed {
                    files += 1;
                    bytes += object.size();
                    let (storage, room) = (&storage, &room);
                    let ended = pool.add(async move {
                        storage.download(&from, &object, room, &path).await.map_err(|error| (input, error))
                    });
                    if let Some(Err((input, error))) = ended.await {
                        return Err(failed(input, error).await);
                    }
                }
                if !listing.goes_on() {
                    break;
                }
            }
        }
        while let Some(ended) = pool.next().await {
            if let Err((input, error)) = ended {
                return Err(failed(input, error).await);
            }
        }
        info!(files, bytes, "fetched the inputs in {:.1} s", began.elapsed().as_secs_f32());
        Ok(())
    }

    async fn make_own_dirs(&self, job: &Job) -> io::Result<()> {
        let mounts = job.own_mounts();
        if mounts.is_empty() {
            return Ok(());
        }
        let dir = self.files_dir(self.record.attempt.number);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        // All may write to directories in there, and the job alone is to get at them, by its mounts: an earlier process may have
        // opened the way.
        if let Err(error) = fs::set_permissions(self.journal.dir(), Permissions::from_mode(0o700)) {
            warn!("failed to close {} to others: {error}", self.journal.dir().display());
        }
        let own = self.own_files(dir).await?;
        for mount in mounts {
            let path = relative(&mount.target);
            let path = if mount.is_file { path.parent().unwrap_or(&path) } else { &path };
            own.make_dirs(path, OPEN_DIR).await?;
        }
        Ok(())
    }

    /// By whose rights the files of a container are opened, also after a restart.
    async fn note_image_user(&mut self, job: &Job) -> Result<(), Failure> {
        if let Work::Container(Container { image, user: None, .. }) = &job.work
            && !(job.inputs.is_empty() && job.outputs.is_empty())
        {
            let user = self.call(async |engine| engine.image_user(image).await, Failure::Create).await?;
            self.record.attempt.image_user = Some(user);
        }
        Ok(())
    }

    /// A mount whose source is to be an input itself, and is not there yet, gets it: with the job's rights.
    async fn make_sources(&self, job: &Job) -> Result<(), Failure> {
        for input in &job.inputs {
            if let Place { root: Root::Vm(source), rest } = job.place(&input.to)
                && rest.as_os_str().is_empty()
            {
                let made = self.make_source(job, source, input.is_file()).await;
                made.map_err(|error| input_failure(input, error))?;
            }
        }
        Ok(())
    }

    /// The file or directory of the VM that an input becomes.
    fn whole_target(&self, job: &Job, input: &Input) -> PathBuf {
        let (place, from) = (job.place(&input.to), Location::parse(&input.from));
        let root = match place.root {
            Root::Vm(dir) => dir,
            Root::Files | Root::Foreign => self.files_dir(self.record.attempt.number),
        };
        let goes_below = input.to.ends_with('/') && !from.is_prefix();
        root.join(place.rest).join(if goes_below { from.file_name() } else { "" })
    }
}

fn input_failure(input: &Input, source: io::Error) -> Failure {
    let source = StorageError::Write { from: input.from.clone(), path: input.to.clone(), source };
    Failure::Input { from: input.from.clone(), fix: source.fix("", Access::Read, ""), source: Box::new(source) }
}

/// What one input stands for.
struct Targets<'a> {
    from: Location,
    wildcard: Option<&'a Wildcard>,
    /// Whether a single object goes into a directory, under its own name.
    is_dir: bool,
    mode: u32,
    room: &'a JobFiles,
    path: PathBuf,
    found_some: bool,
}

type Target = (Location, Object, PathBuf);

impl<'a> Targets<'a> {
    fn of(job: &Job, input: &'a Input, room: &'a JobFiles) -> Self {
        // Where the job's user is not known, all may write.
        let is_open = job.place(&input.to).root == Root::Files && !room.are_the_user_s();
        Self {
            from: Location::parse(&input.from),
            wildcard: input.wildcard.as_ref(),
            is_dir: input.to.ends_with('/'),
            mode: if is_open { OPEN_DIR } else { DIR },
            room,
            path: relative(&input.to),
            found_some: false,
        }
    }

    /// The next objects and where they go, the directories for them made.
    async fn next(&mut self, storage: &Storage, listing: &mut Listing) -> Result<Vec<Target>, StorageError> {
        if !self.from.is_prefix() {
            let object = storage.object(&self.from).await?;
            let path = if self.is_dir { self.below(self.from.file_name())? } else { self.path.clone() };
            self.make_dirs(path.parent()).await?;
            return Ok(vec![(self.from.clone(), object, path)]);
        }
        let start = self.wildcard.map_or("", Wildcard::prefix);
        let objects = storage.list(&self.from.join(start), listing).await?;
        let mut targets = Vec::new();
        self.make_dirs(Some(&self.path)).await?;
        for object in objects {
            let name = object.name.strip_prefix(&self.from.name);
            if name.is_some_and(|name| self.wildcard.is_some_and(|wildcard| !wildcard.matches(name))) {
                continue;
            }
            self.found_some = true;
            // The prefix itself may be an object, as consoles make for a directory.
            let Some(name) = name.filter(|name| !name.is_empty()) else {
                continue;
            };
            let path = self.below(name)?;
            if name.ends_with('/') {
                self.make_dirs(Some(&path)).await?;
                continue;
            }
            self.make_dirs(path.parent()).await?;
            targets.push((self.from.sibling(&object.name), object, path));
        }
        if !self.found_some && !listing.goes_on() {
            return Err(StorageError::Unfit(match self.wildcard {
                Some(wildcard) => format!("no object matches {}{}", self.from, wildcard.text()),
                None => format!("there is no object below {}", self.from),
            }));
        }
        Ok(targets)
    }

    fn below(&self, name: &str) -> Result<PathBuf, StorageError> {
        let path = relative_path(name).ok_or_else(|| {
            StorageError::Unfit(format!("the object {} cannot be a file: its name is no path", self.from.sibling(name)))
        })?;
        Ok(self.path.join(path))
    }

    async fn make_dirs(&self, path: Option<&Path>) -> Result<(), StorageError> {
        let path = path.unwrap_or(Path::new(""));
        self.room.make_dirs(path, self.mode).await.map_err(|source| StorageError::Write {
            from: self.from.to_string(),
            path: Path::new("/").join(path).display().to_string(),
            source,
        })
    }
}
