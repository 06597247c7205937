//! What is done with every byte of a job's log: the entries of Docker's json-file become blocks of output, and blocks become
//! a summary. A crate of its own, as it is built for speed where the rest of the agent is built for size. It does no I/O.

mod ends;
mod entries;
mod entry;
mod errors;
mod finder;
mod grammar;
mod log_summary;
mod lost;
mod rows;
mod screen;
mod signs;
mod summary;
mod text;
mod trace;
mod vocabulary;
mod width;

pub use self::{
    entries::{Entries, Progress, first_time},
    entry::{decode as decode_entry, encode},
    finder::{Begun, Finder, FinderState, Form, visible},
    log_summary::LogSummary,
    lost::{Loss, Lost},
    summary::{RowMask, Summary},
    text::char_boundary,
};

/// Which of the job's two streams a block of output came from. A TTY has only one: stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Where output goes: many lines at once, one stream at a time, in order. A block may begin and end anywhere in a line.
pub type Take<'a> = dyn FnMut(Stream, &[u8]) + 'a;

/// Bytes that need not be UTF-8, in JSON.
mod base64_bytes {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
