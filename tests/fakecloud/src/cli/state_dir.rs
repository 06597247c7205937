//! The agent's state directory: the one that was asked for, or a fresh one that goes away with this value.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    temporary: bool,
}

impl StateDir {
    pub(crate) fn open(given: Option<PathBuf>) -> io::Result<Self> {
        let temporary = given.is_none();
        let path = given.unwrap_or_else(fresh_name);
        let builder = &mut fs::DirBuilder::new();
        let result = builder.mode(0o700).recursive(!temporary).create(&path);
        result.map_err(|e| io::Error::new(e.kind(), format!("failed to create {}: {e}", path.display())))?;
        Ok(Self { path, temporary })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn fresh_name() -> PathBuf {
    let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    std::env::temp_dir().join(format!("fakecloud-{}-{nanos:x}", std::process::id()))
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("fakecloud: failed to remove {}: {error}", self.path.display());
        }
    }
}
