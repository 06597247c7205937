//! A file as the body of a request: read as it is sent, and counted. A file that is not what it was any more breaks the request off
//! before its end, so that nothing is stored.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde::{Deserialize, Serialize};

use crate::{
    crc::Crc32c,
    files::{Pieces, Workers},
};

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
    /// Whether it is the file that has to give the next bytes, and not the network that has to take some.
    pub(super) waits_for_file: bool,
}

#[derive(Debug)]
pub(super) enum Problem {
    Changed,
    Unreadable(io::Error),
}

/// The file's bytes from an offset on.
pub(super) struct FileBody {
    pieces: Pieces,
    left: u64,
    sent: Arc<Mutex<Sent>>,
}

impl FileBody {
    /// `crc`: of what comes before `offset`.
    pub(super) fn new(
        workers: &Workers,
        (file, path): (&Arc<File>, &Path),
        shape: Shape,
        offset: u64,
        crc: Crc32c,
    ) -> io::Result<(Self, Arc<Mutex<Sent>>)> {
        let is_the_same = move |file: &File| {
            if Shape::from(&file.metadata()?) == shape { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        let pieces = workers.read(file, path, (offset, shape.size), is_the_same)?;
        let sent = Arc::new(Mutex::new(Sent { crc, ..Sent::default() }));
        Ok((Self { pieces, left: shape.size - offset, sent: Arc::clone(&sent) }, sent))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.pieces.poll_next(context);
        let this = &mut *self;
        let mut sent = this.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.waits_for_file = piece.is_pending();
        piece.map(|piece| {
            Some(match piece? {
                Ok(piece) => {
                    sent.bytes += piece.len() as u64;
                    sent.crc.update(&piece);
                    this.left -= piece.len() as u64;
                    Ok(Frame::data(piece))
                }
                Err(error) => {
                    sent.problem = Some(match error.kind() {
                        io::ErrorKind::UnexpectedEof => Problem::Changed,
                        _ => Problem::Unreadable(error),
                    });
                    Err(io::Error::other("the file cannot be sent"))
                }
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
