//! A file as the body of a request: read as it is sent, and counted. A file that is not what it was any more breaks the request off
//! before its end, so that nothing is stored.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde::{Deserialize, Serialize};

use crate::crc::Crc32c;

const PIECE_BYTES: u64 = 64 * 1024;

/// What a file was when its upload began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) size: u64,
    inode: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Shape {
    fn from(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { size: metadata.len(), inode: metadata.ino(), modified }
    }
}

/// How far a body has come. The connection that sends it has a task of its own.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) crc: Crc32c,
    pub(super) problem: Option<Problem>,
}

#[derive(Debug)]
pub(super) enum Problem {
    Changed,
    Unreadable(io::Error),
}

/// The file's bytes from an offset on.
pub(super) struct FileBody {
    file: Arc<File>,
    shape: Shape,
    offset: u64,
    sent: Arc<Mutex<Sent>>,
}

impl FileBody {
    /// `crc`: of what comes before `offset`.
    pub(super) fn new(file: &Arc<File>, shape: Shape, offset: u64, crc: Crc32c) -> (Self, Arc<Mutex<Sent>>) {
        let sent = Arc::new(Mutex::new(Sent { bytes: 0, crc, problem: None }));
        (Self { file: Arc::clone(file), shape, offset, sent: Arc::clone(&sent) }, sent)
    }

    fn read(&mut self) -> Result<Vec<u8>, Problem> {
        let left = self.shape.size - self.offset;
        let mut piece = vec![0; usize::try_from(left.min(PIECE_BYTES)).unwrap_or_default()];
        self.file.read_exact_at(&mut piece, self.offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Problem::Changed,
            _ => Problem::Unreadable(error),
        })?;
        self.offset += piece.len() as u64;
        if self.offset == self.shape.size {
            let now = self.file.metadata().map_err(Problem::Unreadable)?;
            if Shape::from(&now) != self.shape {
                return Err(Problem::Changed);
            }
        }
        Ok(piece)
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let piece = self.read();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(Some(match piece {
            Ok(piece) => {
                sent.bytes += piece.len() as u64;
                sent.crc.update(&piece);
                Ok(Frame::data(piece.into()))
            }
            Err(problem) => {
                sent.problem = Some(problem);
                Err(io::Error::other("the file cannot be sent"))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.offset >= self.shape.size
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.shape.size - self.offset)
    }
}
