//! Files below one directory of the VM, in which a job, or one before it, may have put links: none of them leads out of it, as none
//! leads out of a container. Source: `openat2(2)`, `RESOLVE_IN_ROOT`.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, renameat, statat, unlinkat,
};

/// Of directories below one another; more would be a loop.
const MAX_DEPTH: usize = 100;

/// A directory that is held open.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// What is there under a name.
#[derive(Debug)]
pub enum Entry {
    File(File),
    Directory,
    /// Neither file nor directory.
    Other,
}

impl Tree {
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root })
    }

    /// What lies at `path`, links followed. Nothing but a file is opened: of a device that alone could do something.
    pub fn look(&self, path: &Path) -> io::Result<Entry> {
        let found = File::from(self.at(path, OFlags::PATH)?);
        let kind = found.metadata()?.file_type();
        if kind.is_dir() {
            return Ok(Entry::Directory);
        }
        if !kind.is_file() {
            return Ok(Entry::Other);
        }
        let file = File::from(self.at(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        Ok(if file.metadata()?.is_file() { Entry::File(file) } else { Entry::Other })
    }

    /// Opens `name` in the directory `dir` to write it from where it is; it is made where it is missing, and is no link.
    pub fn create(&self, dir: &Path, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(self.directory(dir)?, name, flags, Mode::from_raw_mode(0o600))?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("something that is no file has its name"));
        }
        Ok(file)
    }

    /// Gives what is `old` in the directory `dir` the name `new`, which may be taken by a file.
    pub fn rename(&self, dir: &Path, old: &str, new: &OsStr) -> io::Result<()> {
        let dir = self.directory(dir)?;
        Ok(renameat(&dir, old, &dir, new)?)
    }

    pub fn remove(&self, dir: &Path, name: &str) -> io::Result<()> {
        Ok(unlinkat(self.directory(dir)?, name, AtFlags::empty())?)
    }

    /// Makes a directory, and those above it, with this mode whatever the umask; those that are there stay as they are.
    pub fn make_dirs(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut here = PathBuf::new();
        for part in path {
            let parent = self.directory(&here)?;
            here.push(part);
            match mkdirat(&parent, part, Mode::from_raw_mode(0o700)) {
                Ok(()) => File::from(self.at(&here, OFlags::RDONLY | OFlags::DIRECTORY)?)
                    .set_permissions(Permissions::from_mode(mode))?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.directory(path).map(drop)
    }

    /// All below the directory at `path`.
    pub fn walk(&self, path: &Path) -> io::Result<Walk<'_>> {
        let top = self.dir(path)?;
        Ok(Walk {
            tree: self,
            path: path.to_owned(),
            open: vec![(OsString::new(), top)],
            left_out: (0, PathBuf::new()),
        })
    }

    fn dir(&self, path: &Path) -> io::Result<Dir> {
        Ok(Dir::new(self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?)?)
    }

    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.at(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

/// The files below a directory, one after the other: however many there are, only the directories on the way are held.
pub struct Walk<'a> {
    tree: &'a Tree,
    path: PathBuf,
    /// With their names in the one before.
    open: Vec<(OsString, Dir)>,
    /// How many links were passed over, as they lead to something that is no file, and the first of them.
    pub left_out: (u64, PathBuf),
}

/// One file that was found.
#[derive(Debug)]
pub struct Found {
    /// Below the directory that is walked.
    pub path: PathBuf,
    pub file: io::Result<File>,
}

impl Iterator for Walk<'_> {
    type Item = Found;

    /// Of links those to files are as the files; what is neither file nor directory is passed over, but for links
    /// that lead nowhere.
    fn next(&mut self) -> Option<Found> {
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
            let path = here(&self.open).join(&name);
            let full = self.path.join(&path);
            match self.kind(&name, entry.file_type()) {
                Ok(FileType::Directory) if self.open.len() == MAX_DEPTH => {
                    let problem = io::Error::other(format!("lies more than {MAX_DEPTH} directories deep"));
                    return Some(Found { path, file: Err(problem) });
                }
                Ok(FileType::Directory) => match self.tree.dir(&full) {
                    Ok(dir) => self.open.push((name, dir)),
                    Err(error) => return Some(Found { path, file: Err(error) }),
                },
                Ok(FileType::RegularFile | FileType::Symlink) => match self.tree.look(&full) {
                    Ok(Entry::File(file)) => return Some(Found { path, file: Ok(file) }),
                    Ok(Entry::Directory | Entry::Other) => {
                        if self.left_out.0 == 0 {
                            self.left_out.1 = path;
                        }
                        self.left_out.0 += 1;
                    }
                    Err(error) => return Some(Found { path, file: Err(error) }),
                },
                Ok(_) => {}
                Err(error) => return Some(Found { path, file: Err(error) }),
            }
        }
    }
}

impl Walk<'_> {
    /// Some file systems do not say.
    fn kind(&self, name: &OsStr, said: FileType) -> io::Result<FileType> {
        match (said, self.open.last()) {
            (FileType::Unknown, Some((_, dir))) => {
                Ok(FileType::from_raw_mode(statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode))
            }
            _ => Ok(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::symlink};

    use rustix::fs::CWD;

    use super::*;

    /// A directory with a secret beside it, removed in the end.
    struct Stage(PathBuf);

    impl Stage {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("vmjob-tree-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("root/sub")).unwrap();
            fs::write(dir.join("secret"), "secret").unwrap();
            fs::write(dir.join("root/sub/file"), "file").unwrap();
            Self(dir)
        }

        fn tree(&self) -> Tree {
            Tree::open(&self.0.join("root")).unwrap()
        }
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn content(found: io::Result<File>) -> Option<String> {
        let mut text = String::new();
        found.ok()?.read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn no_link_leads_out() {
        let stage = Stage::new("links");
        let root = stage.0.join("root");
        symlink("../secret", root.join("out")).unwrap();
        symlink(stage.0.join("secret"), root.join("absolute")).unwrap();
        symlink("sub/file", root.join("inside")).unwrap();
        symlink("/sub/file", root.join("inside-as-the-container-sees-it")).unwrap();
        symlink(&stage.0, root.join("dir-out")).unwrap();
        symlink("sub", root.join("dir-inside")).unwrap();
        symlink(".", root.join("sub/loop")).unwrap();
        let tree = stage.tree();
        let mut walk = tree.walk(Path::new("")).unwrap();
        let mut found: Vec<_> =
            walk.by_ref().map(|Found { path, file }| (path.to_string_lossy().into_owned(), content(file))).collect();
        found.sort();
        let file = || Some("file".to_owned());
        let wanted = [
            ("absolute", None),
            ("dir-out", None),
            ("inside", file()),
            ("inside-as-the-container-sees-it", file()),
            ("out", None),
            ("sub/file", file()),
        ];
        assert_eq!(found, wanted.map(|(path, content)| (path.to_owned(), content)));
        // In what order they are found, nobody knows.
        assert_eq!(walk.left_out.0, 2);
        assert!(["dir-inside", "sub/loop"].map(PathBuf::from).contains(&walk.left_out.1), "{:?}", walk.left_out);
        assert!(tree.make_dirs(Path::new("dir-out/new"), 0o755).is_err());
        assert!(!stage.0.join("new").exists());
    }

    #[test]
    fn what_is_written_never_goes_through_a_link() {
        let stage = Stage::new("writes");
        let root = stage.0.join("root");
        symlink("../secret", root.join("part")).unwrap();
        symlink("../secret", root.join("new")).unwrap();
        let tree = stage.tree();
        assert!(tree.create(Path::new(""), "part").is_err());
        drop(tree.create(Path::new(""), "fresh").unwrap());
        tree.rename(Path::new(""), "fresh", OsStr::new("new")).unwrap();
        assert!(root.join("new").symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_to_string(stage.0.join("secret")).unwrap(), "secret");
        tree.make_dirs(Path::new("a/b"), 0o777).unwrap();
        assert_eq!(root.join("a/b").metadata().unwrap().permissions().mode() & 0o7777, 0o777);
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let stage = Stage::new("pipes");
        rustix::fs::mknodat(CWD, stage.0.join("root/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(matches!(stage.tree().look(Path::new("pipe")), Ok(Entry::Other)));
        assert!(stage.tree().create(Path::new(""), "pipe").is_err());
    }
}
