//! The files of a log that rotates: `X-json.log` becomes `X-json.log.1`, `.1` becomes `.2` and so on. Which of them is which.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

/// Names a file whatever its path is now. Rotation frees inodes, and the next file takes them: so the time of birth belongs to
/// the name, where the file system keeps one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileId {
    inode: u64,
    /// Nanoseconds since 1970.
    born: Option<u64>,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self { inode: metadata.ino(), born: born.and_then(|since| u64::try_from(since.as_nanos()).ok()) }
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
    fs::metadata(path).ok().map(|metadata| FileId::from(&metadata))
}

/// How often the file was rotated; `None` if it is not found. Files move up while they are renamed, so looking upwards does not
/// miss one.
pub(super) fn find(path: &Path, file: FileId) -> Option<u32> {
    (0..=oldest(path) + 1).find(|index| id_at(&rotated(path, *index)) == Some(file))
}

/// The index of the oldest file there is. In the middle of a rotation others may be missing, so they are listed, not counted.
pub(super) fn oldest(path: &Path) -> u32 {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = path.parent().and_then(|directory| fs::read_dir(directory).ok());
    let indexes = entries.into_iter().flatten().flatten().filter_map(|entry| {
        let entry = entry.file_name();
        entry.to_str()?.strip_prefix(name.as_str())?.strip_prefix('.')?.parse().ok()
    });
    indexes.max().unwrap_or(0)
}
