//! The files of a log that rotates: `X-json.log` becomes `X-json.log.1`, `.1` becomes `.2` and so on. Which of them is which.

use std::{
    fs::{self, File, FileType},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use serde::{Deserialize, Serialize};

/// Names a file whatever its path is now. Rotation frees inodes, and the next file takes them: so the time of birth belongs to
/// the name, where the file system keeps one. (The standard library knows it with glibc alone.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileId {
    inode: u64,
    /// Nanoseconds since 1970.
    born: Option<u64>,
}

const WANTED: StatxFlags = StatxFlags::INO.union(StatxFlags::BTIME);

impl From<Statx> for FileId {
    fn from(found: Statx) -> Self {
        let (seconds, nanoseconds) = (u64::try_from(found.stx_btime.tv_sec), u64::from(found.stx_btime.tv_nsec));
        let born = seconds.ok().and_then(|seconds| seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds));
        let is_known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        Self { inode: found.stx_ino, born: born.filter(|_| is_known) }
    }
}

impl FileId {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(statx(file, "", AtFlags::EMPTY_PATH, WANTED)?.into())
    }

    /// Whether both name the same file, as far as is known of them.
    pub(super) fn is(self, other: Self) -> bool {
        self.inode == other.inode && (self.born == other.born || self.born.is_none() || other.born.is_none())
    }
}

/// The path of the file that was rotated `index` times.
pub(super) fn rotated(path: &Path, index: u32) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

pub(super) fn id_at(path: &Path) -> Option<FileId> {
    statx(CWD, path, AtFlags::empty(), WANTED).ok().map(FileId::from)
}

/// How often the file was rotated; `None` if it is not found. Files move up while they are renamed, so looking upwards does not
/// miss one.
pub(super) fn find(path: &Path, file: FileId) -> Option<u32> {
    (0..=oldest(path) + 1).find(|index| id_at(&rotated(path, *index)).is_some_and(|there| there.is(file)))
}

/// The index of the oldest file there is. In the middle of a rotation others may be missing, so they are listed, not counted.
pub(super) fn oldest(path: &Path) -> u32 {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = path.parent().and_then(|directory| fs::read_dir(directory).ok());
    let indexes = entries.into_iter().flatten().flatten().filter_map(|entry| {
        // What is no file was not rotated.
        let entry = entry.file_type().ok().filter(FileType::is_file).map(|_| entry.file_name())?;
        entry.to_str()?.strip_prefix(name.as_str())?.strip_prefix('.')?.parse().ok()
    });
    indexes.max().unwrap_or(0)
}
