//! The log's parts compressed, by a thread of its own: parts that are ready come out of a directory, and go back as gzip members, so that
//! parts put together are the log. Neither the reader of the log nor the job waits for it.
//! Source: RFC 1951, RFC 1952.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
};

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use tokio::sync::oneshot;
use tracing::warn;

use super::part_file::{Kind, Name, files};
use crate::{crc::Crc32, durable, plain_file, threads};

/// Fast: it is to keep up with any job.
const LEVEL: i32 = 1;
/// Without zlib's header.
const RAW_WINDOW_BITS: i32 = -15;
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const PIECE_BYTES: usize = 64 * 1024;
/// What is written before it has its name.
const UNFINISHED: &str = "unfinished";

/// The thread. It ends when this does, and all parts are packed.
pub(super) struct Packer {
    thread: Thread,
    is_over: Arc<AtomicBool>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Packer {
    /// Packs what is ready in `dir` whenever it is woken.
    pub(super) fn start(dir: PathBuf, checkpoint: PathBuf) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_last = Arc::clone(&is_over);
        let (end, ended) = oneshot::channel();
        let thread = threads::spawn(move || {
            loop {
                let is_last = is_last.load(Ordering::Acquire);
                if let Err(error) = pack_all(&dir, &checkpoint) {
                    warn!("part of the log cannot be compressed for the bucket yet: {error}");
                }
                if is_last {
                    let _ = end.send(());
                    return;
                }
                // Woken meanwhile, it does not wait.
                thread::park();
            }
        });
        Self { thread: thread.thread().clone(), is_over, ended: Some(ended) }
    }

    /// There are parts that are ready.
    pub(super) fn wake(&self) {
        self.thread.unpark();
    }

    /// What is returned ends when all parts are packed that can be.
    pub(super) fn end(mut self) -> Option<oneshot::Receiver<()>> {
        self.ended.take()
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.wake();
    }
}

/// A part is uploaded when its checkpoint will be there whatever happens: after a power cut too its number means the same bytes.
fn pack_all(dir: &Path, checkpoint: &Path) -> io::Result<()> {
    loop {
        let ready = files(dir, &[Kind::Ready]);
        if ready.is_empty() {
            return Ok(());
        }
        plain_file::open(checkpoint)?.sync_all()?;
        File::open(checkpoint.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        for (path, name) in ready {
            // It may have had to make room.
            let Ok(path) = name.turn(&path, Kind::Packing) else { continue };
            if let Err(error) = pack(&path, name) {
                let _ = name.turn(&path, Kind::Ready);
                return Err(error);
            }
        }
    }
}

/// Of a part that a power cut has shortened, what is left; its new name tells how much that is.
fn pack(path: &Path, name: Name) -> io::Result<()> {
    let unfinished = path.with_file_name(UNFINISHED);
    let bytes = compress(&plain_file::open(path)?, &durable::create(&unfinished, b"", 0o600)?).inspect_err(|_| {
        // On a full disk its room is needed.
        let _ = fs::remove_file(&unfinished);
    })?;
    name.with_bytes(bytes).turn(&unfinished, Kind::Packed)?;
    fs::remove_file(path)
}

/// Returns how many bytes it read.
fn compress(mut from: &File, mut to: &File) -> io::Result<u64> {
    to.write_all(&GZIP_HEADER)?;
    let mut compressor = Box::new(CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, RAW_WINDOW_BITS, 0)));
    let (mut crc, mut bytes, mut piece) = (Crc32::default(), 0, vec![0; PIECE_BYTES]);
    loop {
        let length = from.read(&mut piece)?;
        crc.update(&piece[..length]);
        bytes += length as u64;
        let flush = if length == 0 { TDEFLFlush::Finish } else { TDEFLFlush::None };
        let mut written = Ok(());
        let (status, _) = compress_to_output(&mut compressor, &piece[..length], flush, |packed| {
            written = to.write_all(packed);
            written.is_ok()
        });
        written?;
        match status {
            TDEFLStatus::Okay => {}
            TDEFLStatus::Done => break,
            _ => return Err(io::Error::other("the log cannot be compressed")),
        }
    }
    to.write_all(&crc.value().to_le_bytes())?;
    to.write_all(&modulo(bytes))?;
    Ok(bytes)
}

/// Modulo 2³², as gzip wants it.
fn modulo(bytes: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = bytes.to_le_bytes();
    [a, b, c, d]
}

/// Whether a packed part of so many bytes has its end: a power cut may have taken it.
pub(super) fn is_whole(path: &Path, bytes: u64) -> bool {
    let end = plain_file::open(path).and_then(|file| {
        let mut end = [0; 4];
        let length = file.metadata()?.len();
        file.read_exact_at(&mut end, length.saturating_sub(4)).map(|()| end)
    });
    end.is_ok_and(|end| end == modulo(bytes))
}
