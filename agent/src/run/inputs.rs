//! A job's inputs, fetched before its container is made: so a container that is there means that they are whole. Those that are
//! there already, after a restart, are not fetched again.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use tokio::time::Instant;
use tracing::info;

use super::{Run, noted::named};
use crate::{
    job::{Input, Job, Place, Root},
    outcome::Failure,
    storage::{Access, Location, Object, Pool, Storage, StorageError, Tree, relative_path},
};

/// Directories in which whoever the job runs as may write, but not remove what is another's.
const OPEN_DIR: u32 = 0o1777;
const DIR: u32 = 0o755;

impl Run<'_> {
    pub(super) fn storage(&self) -> Storage {
        let config = self.config;
        let (endpoint, allowed) = (&config.storage_endpoint, &config.callback_allow);
        Storage::new(self.http.clone(), self.metadata.clone(), endpoint, allowed, config.storage_patience)
    }

    /// The directory of the VM that a path lies below, opened.
    pub(super) fn tree_of(&self, place: &Place) -> io::Result<Tree> {
        match &place.root {
            Root::Vm(dir) => Tree::open(dir),
            Root::Files => Tree::open(&self.files_dir(self.record.attempt.number)),
        }
    }

    /// Makes the sources of the container's own mounts, and fetches the inputs.
    pub(super) async fn get_inputs(&mut self, job: &Job) -> Result<(), Failure> {
        self.make_own_dirs(job).map_err(|source| super::journal_failure(self.config, source))?;
        if job.inputs.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let _waiting = self.waits.begin(format!("the inputs {}", named(job.inputs.iter().map(|input| &*input.from))));
        let (storage, mut files, mut bytes) = (self.storage().with_waits(&self.waits), 0, 0);
        let mut pool = Pool::new();
        let failed = async |input: &Input, source: StorageError| {
            let bucket = Location::parse(&input.from).bucket;
            let fix = source.fix(&bucket, Access::Read, &storage.account().await);
            Failure::Input { from: input.from.clone(), source, fix }
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
            let mut targets = self.targets(job, input);
            let mut page_token = None;
            loop {
                let (listed, outcomes) = match &mut targets {
                    Ok(targets) => pool.beside(targets.next(&storage, &mut page_token)).await,
                    Err(error) => (Err(std::mem::replace(error, StorageError::Unfit(String::new()))), Vec::new()),
                };
                for ended in outcomes {
                    if let Err((input, error)) = ended {
                        return Err(failed(input, error).await);
                    }
                }
                let listed = match listed {
                    Ok(listed) => listed,
                    Err(error) => return Err(failed(input, error).await),
                };
                for (from, object, tree, path) in listed {
                    files += 1;
                    bytes += object.size();
                    let storage = &storage;
                    let ended = pool.add(async move {
                        storage.download(&from, &object, &tree, &path).await.map_err(|error| (input, error))
                    });
                    if let Some(Err((input, error))) = ended.await {
                        return Err(failed(input, error).await);
                    }
                }
                if page_token.is_none() {
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

    fn make_own_dirs(&self, job: &Job) -> io::Result<()> {
        let mounts = job.own_mounts();
        if mounts.is_empty() {
            return Ok(());
        }
        let dir = self.files_dir(self.record.attempt.number);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let tree = Tree::open(&dir)?;
        for mount in mounts {
            let path = Path::new(mount.target.trim_start_matches('/'));
            let path = if mount.is_file { path.parent().unwrap_or(path) } else { path };
            tree.make_dirs(path, OPEN_DIR)?;
        }
        Ok(())
    }

    /// The file or directory of the VM that an input becomes.
    fn whole_target(&self, job: &Job, input: &Input) -> PathBuf {
        let (place, from) = (job.place(&input.to), Location::parse(&input.from));
        let root = match place.root {
            Root::Vm(dir) => dir,
            Root::Files => self.files_dir(self.record.attempt.number),
        };
        let goes_below = input.to.ends_with('/') && !from.is_prefix();
        root.join(place.rest).join(if goes_below { from.file_name() } else { "" })
    }

    fn targets(&self, job: &Job, input: &Input) -> Result<Targets, StorageError> {
        let place = job.place(&input.to);
        let tree = self.tree_of(&place).map_err(|error| StorageError::Write {
            from: input.from.clone(),
            path: input.to.clone(),
            source: error,
        })?;
        Ok(Targets {
            from: Location::parse(&input.from),
            is_dir: input.to.ends_with('/'),
            mode: if place.root == Root::Files { OPEN_DIR } else { DIR },
            tree: Rc::new(tree),
            path: place.rest,
            found_some: false,
        })
    }
}

/// What one input stands for.
struct Targets {
    from: Location,
    /// Whether a single object goes into a directory, under its own name.
    is_dir: bool,
    mode: u32,
    tree: Rc<Tree>,
    path: PathBuf,
    found_some: bool,
}

type Target = (Location, Object, Rc<Tree>, PathBuf);

impl Targets {
    /// The next objects and where they go, the directories for them made; `page_token` is none at the end.
    async fn next(&mut self, storage: &Storage, page_token: &mut Option<String>) -> Result<Vec<Target>, StorageError> {
        if !self.from.is_prefix() {
            let object = storage.object(&self.from).await?;
            let path = if self.is_dir { self.below(self.from.file_name())? } else { self.path.clone() };
            self.make_dirs(path.parent())?;
            return Ok(vec![(self.from.clone(), object, Rc::clone(&self.tree), path)]);
        }
        let page = storage.list(&self.from, page_token.as_deref()).await?;
        *page_token = page.next_page_token;
        let mut targets = Vec::new();
        self.make_dirs(Some(&self.path))?;
        for object in page.items {
            self.found_some = true;
            // The prefix itself may be an object, as consoles make for a directory.
            let Some(name) = object.name.strip_prefix(&self.from.name).filter(|name| !name.is_empty()) else {
                continue;
            };
            let path = self.below(name)?;
            if name.ends_with('/') {
                self.make_dirs(Some(&path))?;
                continue;
            }
            self.make_dirs(path.parent())?;
            targets.push((self.from.sibling(&object.name), object, Rc::clone(&self.tree), path));
        }
        if !self.found_some && page_token.is_none() {
            return Err(StorageError::Unfit(format!("there is no object below {}", self.from)));
        }
        Ok(targets)
    }

    fn below(&self, name: &str) -> Result<PathBuf, StorageError> {
        let path = relative_path(name).ok_or_else(|| {
            StorageError::Unfit(format!("the object {} cannot be a file: its name is no path", self.from.sibling(name)))
        })?;
        Ok(self.path.join(path))
    }

    fn make_dirs(&self, path: Option<&Path>) -> Result<(), StorageError> {
        let path = path.unwrap_or(Path::new(""));
        self.tree.make_dirs(path, self.mode).map_err(|source| StorageError::Write {
            from: self.from.to_string(),
            path: path.display().to_string(),
            source,
        })
    }
}
