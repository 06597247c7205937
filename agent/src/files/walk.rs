//! The files below a directory, one after the other: however many there are, only the directories on the way are held.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, statat};

use super::{
    calls,
    view::{Entry, Root, View, kind},
};
use crate::job::Wildcard;

/// Of directories below one another; more would be a loop.
const MAX_DEPTH: usize = 100;

#[derive(Debug)]
pub struct Walk {
    top: PathBuf,
    /// With their names in the one before.
    open: Vec<(OsString, Dir)>,
    /// How many links were passed over, as they lead to something that is no file, and the first of them.
    pub left_out: (u64, PathBuf),
    /// What of the directory itself is meant, if not all.
    only: Option<Wildcard>,
}

/// One file that was found.
#[derive(Debug)]
pub struct Found {
    /// Below the directory that is walked.
    pub path: PathBuf,
    pub file: io::Result<Arc<File>>,
}

/// What is to be done about one name.
enum Next {
    File(Arc<File>),
    Into(Dir),
    /// A link to something that is no file.
    LeftOut,
    Nothing,
}

impl Walk {
    pub(super) fn begin(view: &View, top: &Path) -> io::Result<Self> {
        let dir = Dir::new(view.dir(top)?)?;
        Ok(Self { top: top.to_owned(), open: vec![(OsString::new(), dir)], left_out: (0, PathBuf::new()), only: None })
    }

    /// Passes over what of the directory itself does not match, and what is below that.
    #[must_use]
    pub fn only(self, wildcard: Wildcard) -> Self {
        Self { only: Some(wildcard), ..self }
    }

    /// The directory that is being read.
    pub(super) fn path(&self) -> PathBuf {
        self.open.iter().fold(self.top.clone(), |path, (name, _)| path.join(name))
    }

    /// The next file. Of links those to files are as the files; what is neither file nor directory is passed over, but for links
    /// that lead nowhere.
    pub(super) fn next(&mut self, view: &View) -> Option<Found> {
        loop {
            let (_, dir) = self.open.last_mut()?;
            let Some(entry) = dir.read() else {
                self.open.pop();
                continue;
            };
            let here = |open: &[(OsString, Dir)]| open.iter().map(|(name, _)| name).collect::<PathBuf>();
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let path = here(&self.open);
                    self.open.pop();
                    return Some(Found { path, file: Err(error.into()) });
                }
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            let is_meant = |wildcard: &Wildcard| wildcard.matches(&name.to_string_lossy());
            if self.open.len() == 1 && !self.only.as_ref().is_none_or(is_meant) {
                continue;
            }
            let path = here(&self.open).join(&name);
            match self.look(view, &path, &name, entry.file_type()) {
                Ok(Next::Nothing) => {}
                Ok(Next::File(file)) => return Some(Found { path, file: Ok(file) }),
                Ok(Next::Into(_)) if self.open.len() == MAX_DEPTH => {
                    let problem = io::Error::other(format!("lies more than {MAX_DEPTH} directories deep"));
                    return Some(Found { path, file: Err(problem) });
                }
                Ok(Next::Into(dir)) => self.open.push((name, dir)),
                Ok(Next::LeftOut) => {
                    if self.left_out.0 == 0 {
                        self.left_out.1 = path;
                    }
                    self.left_out.0 += 1;
                }
                Err(error) => return Some(Found { path, file: Err(error) }),
            }
        }
    }

    fn look(&self, view: &View, path: &Path, name: &OsStr, said: FileType) -> io::Result<Next> {
        let full = self.top.join(path);
        if let Some(mount) = view.mount_at(&full) {
            // What the job cannot have written is nothing that it has left.
            if mount.is_read_only || matches!(mount.root, Root::Foreign) {
                return Ok(Next::Nothing);
            }
            return Ok(match view.look(&full)? {
                Entry::File(file) => Next::File(file),
                Entry::Directory => Next::Into(Dir::new(view.dir(&full)?)?),
                Entry::Other => Next::Nothing,
            });
        }
        let Some((_, dir)) = self.open.last() else { return Ok(Next::Nothing) };
        let dir = dir.fd()?;
        let mut said = said;
        if said == FileType::Unknown {
            // Some file systems do not say.
            said = FileType::from_raw_mode(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        }
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match said {
            FileType::Directory => {
                let dir = calls::open(dir, name, flags | OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
                Ok(Next::Into(Dir::new(dir)?))
            }
            FileType::RegularFile => {
                let found = calls::open(dir, name, flags | OFlags::PATH, 0)?;
                if kind(found.as_fd())? != FileType::RegularFile {
                    return Err(io::Error::other("it is no file any more"));
                }
                Ok(Next::File(Arc::new(calls::reopen(&found, OFlags::RDONLY | OFlags::NONBLOCK)?.into())))
            }
            FileType::Symlink => Ok(match view.look(&full)? {
                Entry::File(file) => Next::File(file),
                Entry::Directory | Entry::Other => Next::LeftOut,
            }),
            _ => Ok(Next::Nothing),
        }
    }
}
