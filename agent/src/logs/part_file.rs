//! The files in a spool's directory: their names tell what is in them, and how far it has come.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub(super) const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part that is being written.
    Open,
    /// It has ended, but its checkpoint may not be there yet.
    Cut,
    /// To be compressed; and being compressed.
    Ready,
    Packing,
    /// To be uploaded.
    Packed,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Open, "open"),
    (Kind::Cut, "cut"),
    (Kind::Ready, "ready"),
    (Kind::Packing, "packing"),
    (Kind::Packed, "gz"),
];

/// A file's name: `STREAM-NUMBER-BYTES.KIND`, with the bytes of the log that are in it, once that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) index: usize,
    pub(super) number: u32,
    pub(super) bytes: u64,
    pub(super) kind: Kind,
}

impl Name {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?;
        let (kind, _) = KINDS.into_iter().find(|(_, text)| extension == *text)?;
        let mut words = path.file_stem()?.to_str()?.split('-');
        let stream = words.next()?;
        let index = STREAMS.iter().position(|name| *name == stream)?;
        Some(Self { index, number: words.next()?.parse().ok()?, bytes: words.next()?.parse().ok()?, kind })
    }

    pub(super) fn with_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Makes the file one of this kind, at once or not at all, and returns its new path.
    pub(super) fn turn(self, path: &Path, kind: Kind) -> io::Result<PathBuf> {
        let new = path.with_file_name(Self { kind, ..self }.to_string());
        fs::rename(path, &new).map(|()| new)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { index, number, bytes, kind } = *self;
        write!(f, "{}-{number:06}-{bytes}.{}", STREAMS[index], KINDS[kind as usize].1)
    }
}

/// Oldest first.
pub(super) fn files(dir: &Path, kinds: &[Kind]) -> Vec<(PathBuf, Name)> {
    let is_file = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().filter(is_file);
    let mut files: Vec<(PathBuf, Name)> =
        entries.filter_map(|entry| Some((entry.path(), Name::of(&entry.path())?))).collect();
    files.retain(|(_, name)| kinds.contains(&name.kind));
    files.sort_by_key(|(_, name)| name.number);
    files
}
