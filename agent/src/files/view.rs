//! The VM's files as a job sees them: a path is walked part by part, through the job's own mounts, and a link leads where it would
//! lead the job. So nothing leads out of the mounts, whatever the job has put there, and whatever is renamed meanwhile.
//!
//! The kernel's own walk below a directory (`openat2(2)`, `RESOLVE_IN_ROOT`) knows one root, gives up with `EAGAIN` where anything
//! is renamed, and is not there under every sandbox.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat},
    io::Errno,
};

use super::calls;

/// As many links as the kernel follows.
const MAX_LINKS: u32 = 40;
/// Of one path, with what its links add: a bound for those that lead up and down.
const MAX_STEPS: u32 = 10_000;

/// What a job has at one path.
#[derive(Debug)]
pub struct Mount {
    /// Relative; empty for the root itself.
    pub target: PathBuf,
    pub root: Root,
    pub is_read_only: bool,
}

/// What is mounted.
#[derive(Debug)]
pub enum Root {
    /// A directory, or a file, that is held open.
    Open(Arc<OwnedFd>),
    /// What is there cannot be opened.
    Closed(io::ErrorKind, String),
    /// It is not the VM's own: a volume, or a tmpfs.
    Foreign,
}

impl Root {
    fn open(&self) -> io::Result<Arc<OwnedFd>> {
        match self {
            Self::Open(root) => Ok(Arc::clone(root)),
            Self::Closed(kind, text) => Err(io::Error::new(*kind, text.clone())),
            Self::Foreign => Err(io::Error::other("it lies in a volume or tmpfs, which the agent cannot reach into")),
        }
    }
}

/// Opens what a mount has as its source. Links are followed, as the engine follows them; but none leads out of a directory that the
/// job may write, by whatever name the way comes into it: it may have put links there.
pub fn open_root(source: &Path, writable: &Writable) -> io::Result<OwnedFd> {
    let top = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match View::of_dir(top).find_past(source, writable) {
        Ok((Some(found), true)) => found.try_clone(),
        Err((error, true)) => Err(error),
        _ => follow(source),
    }
}

fn follow(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The directories that a job may write, known by device and inode, as each may have several names.
#[derive(Debug, Clone, Default)]
pub struct Writable(Vec<(u64, u64)>);

impl Writable {
    /// The one at `path`, if there is one.
    pub fn at(path: &Path) -> Self {
        Self(follow(path).and_then(|dir| Ok(identity(&dir)?)).into_iter().collect())
    }

    fn contains(&self, dir: impl AsFd) -> bool {
        !self.0.is_empty() && identity(dir).is_ok_and(|dir| self.0.contains(&dir))
    }
}

impl FromIterator<Self> for Writable {
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        Self(all.into_iter().flat_map(|one| one.0).collect())
    }
}

fn identity(file: impl AsFd) -> Result<(u64, u64), Errno> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// All that a job has.
#[derive(Debug)]
pub struct View {
    mounts: Vec<Mount>,
}

/// What is there under a name.
#[derive(Debug)]
pub enum Entry {
    File(Arc<File>),
    Directory,
    /// Neither file nor directory.
    Other,
}

/// Where a path has led to: something that is there, or a directory that is known by the mounts below it alone.
type Here = Option<Arc<OwnedFd>>;

enum Step {
    To(OwnedFd),
    Link(PathBuf),
}

impl View {
    pub fn new(mounts: Vec<Mount>) -> Self {
        Self { mounts }
    }

    /// One directory, as the root.
    pub fn of_dir(root: OwnedFd) -> Self {
        Self::new(vec![Mount { target: PathBuf::new(), root: Root::Open(Arc::new(root)), is_read_only: false }])
    }

    pub(super) fn mount_at(&self, path: &Path) -> Option<&Mount> {
        // Of two at one place the later hides the earlier.
        self.mounts.iter().rev().find(|mount| mount.target == path)
    }

    /// What lies at `path`, links followed. Nothing but a file is opened: of a device that alone could do something.
    pub fn look(&self, path: &Path) -> io::Result<Entry> {
        entry(self.find(path)?)
    }

    /// Opens the directory at `path` to list it.
    pub(super) fn dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let dir = self.find(path)?.ok_or(Errno::NOENT)?;
        Ok(calls::reopen(&*dir, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// Opens a file that is to become `path`, under the name `part` in its directory; one that an earlier try has left is gone on
    /// with. A mount that is a file is that file.
    pub fn create(&self, path: &Path, part: String) -> io::Result<NewFile> {
        if let Some(mount) = self.mount_at(path) {
            let file = only_file(calls::reopen(&*mount.root.open()?, OFlags::RDWR | OFlags::NONBLOCK)?)?;
            file.set_len(0)?;
            return Ok(NewFile { file: Arc::new(file), place: None });
        }
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::ISDIR.into()) };
        let dir = self.find(dir)?.ok_or(Errno::NOENT)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = only_file(calls::open(&*dir, part.as_ref(), flags, 0o600)?)?;
        Ok(NewFile { file: Arc::new(file), place: Some((dir, part, name.to_owned())) })
    }

    /// Makes an empty file, or a directory, at `path`.
    pub fn make(&self, path: &Path, is_file: bool) -> io::Result<()> {
        if !is_file {
            return self.make_dirs(path, 0o755);
        }
        let new = self.create(path, format!(".vmjob-{}.part", std::process::id()))?;
        new.keep()
    }

    /// Makes a directory, and those above it, with this mode whatever the umask; those that are there stay as they are.
    pub fn make_dirs(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut here = PathBuf::new();
        for part in path {
            let above = self.find(&here)?;
            here.push(part);
            if self.mount_at(&here).is_some() || (above.is_none() && self.find(&here).is_ok()) {
                continue;
            }
            let above = above.ok_or(Errno::NOENT)?;
            match calls::make_dir(&*above, part, 0o700) {
                Ok(()) => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    calls::set_mode(calls::open(&*above, part, flags, 0)?, mode)?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.find(path)? {
            Some(found) if kind(&*found)? != FileType::Directory => Err(Errno::NOTDIR.into()),
            _ => Ok(()),
        }
    }

    /// Walks to `path`, through links and mounts.
    fn find(&self, path: &Path) -> io::Result<Here> {
        self.find_past(path, &Writable::default()).map(|(here, _)| here).map_err(|(error, _)| error)
    }

    /// The same; from one of `writable` on, that is the root. With whether there was one.
    fn find_past(&self, path: &Path, writable: &Writable) -> Result<(Here, bool), (io::Error, bool)> {
        let mut todo = reversed(path);
        let confined = self.walk(&mut todo, writable).map_err(|error| (error, false))?;
        match confined {
            (Some(dir), true) => {
                let rest: PathBuf = todo.into_iter().rev().collect();
                let found = dir.try_clone().and_then(|dir| View::of_dir(dir).find(&rest));
                found.map(|here| (here, true)).map_err(|error| (error, true))
            }
            other => Ok(other),
        }
    }

    /// Takes what it passes off `todo`, until there is no more, or one of `writable` is reached.
    fn walk(&self, todo: &mut Vec<OsString>, writable: &Writable) -> io::Result<(Here, bool)> {
        // What was passed, without links.
        let mut passed = PathBuf::new();
        let mut here = self.root()?;
        let (mut links, mut steps, mut last_link) = (0, 0, None);
        while let Some(name) = todo.pop() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(Errno::LOOP.into());
            }
            if name == ".." {
                // From the root again: where a directory has been moved to meanwhile is no matter then.
                passed.pop();
                todo.extend(reversed(&passed));
                (passed, here) = (PathBuf::new(), self.root()?);
                continue;
            }
            let path = passed.join(&name);
            if let Some(mount) = self.mount_at(&path) {
                (passed, here) = (path, Some(mount.root.open()?));
                continue;
            }
            match here.as_ref().map_or(Err(Errno::NOENT), |dir| step(dir.as_fd(), &name)) {
                Ok(Step::To(found)) => {
                    if writable.contains(&found) {
                        return Ok((Some(Arc::new(found)), true));
                    }
                    (passed, here) = (path, Some(Arc::new(found)));
                }
                Ok(Step::Link(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        (passed, here) = (PathBuf::new(), self.root()?);
                    }
                    todo.extend(reversed(&target));
                    last_link = Some(target);
                }
                Err(Errno::NOENT) if self.mounts.iter().any(|mount| mount.target.starts_with(&path)) => {
                    (passed, here) = (path, None);
                }
                Err(error) => {
                    return Err(match &last_link {
                        Some(target) if error == Errno::NOENT => leads_nowhere(target),
                        _ => error.into(),
                    });
                }
            }
        }
        Ok((here, false))
    }

    /// A container whose files all lie in its mounts has none of its own.
    fn root(&self) -> io::Result<Here> {
        match self.mount_at(Path::new("")).map(|mount| &mount.root) {
            None | Some(Root::Closed(io::ErrorKind::NotFound, _)) => Ok(None),
            Some(root) => root.open().map(Some),
        }
    }
}

fn leads_nowhere(target: &Path) -> io::Error {
    let text = format!("a link to {} leads to nothing in the job's mounts", target.display());
    io::Error::new(io::ErrorKind::NotFound, text)
}

/// The parts of a path, the first at the end.
fn reversed(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    parts.collect()
}

/// Goes from a directory to what has this name in it.
fn step(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Step, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // As a directory first: that has file systems mounted that are mounted when they are used.
    match calls::open(dir, name, flags | OFlags::DIRECTORY, 0) {
        Err(Errno::NOTDIR | Errno::LOOP) => {}
        found => return found.map(Step::To),
    }
    let found = calls::open(dir, name, flags, 0)?;
    if kind(&found)? == FileType::Symlink {
        let target = readlinkat(&found, "", Vec::new())?;
        return Ok(Step::Link(OsString::from_vec(target.into_bytes()).into()));
    }
    Ok(Step::To(found))
}

pub(super) fn kind(file: impl AsFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

fn entry(found: Here) -> io::Result<Entry> {
    let Some(found) = found else { return Ok(Entry::Directory) };
    Ok(match kind(&*found)? {
        FileType::Directory => Entry::Directory,
        FileType::RegularFile => {
            Entry::File(Arc::new(calls::reopen(&*found, OFlags::RDONLY | OFlags::NONBLOCK)?.into()))
        }
        _ => Entry::Other,
    })
}

fn only_file(file: OwnedFd) -> io::Result<File> {
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("something that is no file has its name"));
    }
    Ok(file)
}

/// A file that is being written: it has a name of its own until it is whole. One that is a mount has its name from the beginning.
#[derive(Debug)]
pub struct NewFile {
    pub file: Arc<File>,
    /// Its directory, its name, and the name that it gets.
    place: Option<(Arc<OwnedFd>, String, OsString)>,
}

impl NewFile {
    /// Gives it its name, which may be taken by a file or a link: that is replaced.
    pub fn keep(&self) -> io::Result<()> {
        let Some((dir, part, name)) = &self.place else { return Ok(()) };
        calls::set_mode(&*self.file, 0o644)?;
        Ok(calls::rename(&**dir, part.as_ref(), name)?)
    }

    /// Removes it, unless it has its name already.
    pub fn discard(&self) -> io::Result<()> {
        let Some((dir, part, _)) = &self.place else { return Ok(()) };
        Ok(calls::remove(&**dir, part.as_ref())?)
    }
}

#[cfg(test)]
mod tests;
