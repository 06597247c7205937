//! What of a log no longer exists: how much, and how it went.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// How part of a log was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    Rotated,
    Shortened,
    Damaged,
    Torn,
    Refused,
    Dropped,
    Gone,
    Unread,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rotated => "files of it were rotated away before they were read",
            Self::Shortened => "its file became shorter than what had been read of it",
            Self::Damaged => "entries of it are damaged",
            Self::Torn => "it breaks off in the middle of an entry",
            Self::Refused => "the disk was full",
            Self::Dropped => "its driver drops what it cannot keep up with (mode=non-blocking)",
            Self::Gone => "the engine no longer has all of it",
            Self::Unread => "it was not read to its end",
        })
    }
}

/// The job's bytes that no longer exist and are in no other count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    bytes: u64,
    /// Whether more went, and how much is unknown.
    is_more: bool,
    losses: Vec<Loss>,
}

impl Lost {
    /// So many bytes; nothing where that is none.
    pub fn bytes(bytes: u64, how: Loss) -> Self {
        Self { bytes, is_more: false, losses: if bytes > 0 { vec![how] } else { Vec::new() } }
    }

    /// An unknown number of bytes.
    pub fn some(how: Loss) -> Self {
        Self { bytes: 0, is_more: true, losses: vec![how] }
    }

    pub fn add(&mut self, more: Self) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.is_more |= more.is_more;
        for how in more.losses {
            if !self.losses.contains(&how) {
                self.losses.push(how);
            }
        }
    }

    pub fn is_none(&self) -> bool {
        self.losses.is_empty()
    }

    /// How many bytes; `None` where that is known only in part.
    pub fn count(&self) -> Option<u64> {
        Some(self.bytes).filter(|_| !self.is_more)
    }

    pub(crate) fn serialize_count<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.count().serialize(serializer)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count() {
            Some(bytes) => write!(f, "about {bytes} bytes")?,
            None if self.bytes > 0 => write!(f, "more than {} bytes", self.bytes)?,
            None => f.write_str("an unknown number of bytes")?,
        }
        self.losses.iter().enumerate().try_for_each(|(number, how)| {
            f.write_str(if number == 0 { ": " } else { ", " })?;
            how.fmt(f)
        })
    }
}
