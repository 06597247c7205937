//! Keeps the job's output in files of bounded size, in the format of Docker's json-file driver, so that the reader of that is the
//! reader of this. Source: moby `daemon/logger/jsonfilelog`, `daemon/logger/copier.go`.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{ChildStderr, ChildStdout},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, sync_channel},
    },
    time::Duration,
};

use vmjob_logs::{Stream, char_boundary};

use super::event::Event;
use crate::{clock, plain_file, threads};

/// As the defaults of a container: 50 MB a file, and five of them.
const MAX_FILE_BYTES: u64 = 50_000_000;
const MAX_FILES: u32 = 5;
/// A longer line is kept in pieces of this size.
const MAX_PIECE_BYTES: usize = 16 * 1024;
/// Room that is kept on the disk for what tells what was refused.
const RESERVE_BYTES: usize = 4096;
/// How many reads of output may wait for the disk.
const MAX_WAITING: usize = 16;
/// How long the disk may take for what is waited for in the end.
const KEEP_PATIENCE: Duration = Duration::from_secs(2);

/// Some output of one stream, whole lines or pieces of one.
struct Output {
    stream: Stream,
    bytes: Vec<u8>,
}

enum Message {
    Output(Output),
    /// A stream has ended.
    End,
    /// Answered when all before it is in the log.
    Ask(SyncSender<()>),
}

/// What has come of a stream and is not a whole line yet.
type Pending = Arc<Mutex<Vec<u8>>>;

/// What was begun to be said, of streams that have not ended.
pub(super) struct Unfinished {
    pending: Vec<(Stream, Pending)>,
    messages: SyncSender<Message>,
}

impl Unfinished {
    /// Keeps it as it is, and returns when all that came is in the log.
    pub(super) fn keep(&self) {
        for (stream, pending) in &self.pending {
            // Held until it is sent: what its reader sends comes before, or after.
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = send(&self.messages, *stream, std::mem::take(&mut pending));
        }
        let (answer, answered) = sync_channel(1);
        if self.messages.send(Message::Ask(answer)).is_ok() {
            let _ = answered.recv_timeout(KEEP_PATIENCE);
        }
    }
}

/// False where nobody keeps it any more.
fn send(messages: &SyncSender<Message>, stream: Stream, bytes: Vec<u8>) -> bool {
    bytes.is_empty() || messages.send(Message::Output(Output { stream, bytes })).is_ok()
}

pub(super) struct Log {
    path: PathBuf,
    file: Box<dyn Write + Send>,
    size: u64,
    max_size: u64,
    line: Vec<u8>,
    /// How many bytes of the output the disk did not take, and the log does not tell yet.
    refused: u64,
}

impl Log {
    /// Begins to keep the output; the event comes when both streams have ended and all is written.
    pub(super) fn begin(
        path: &Path,
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
        events: Sender<Event>,
    ) -> io::Result<Unfinished> {
        let log = Self::create(path, MAX_FILE_BYTES)?;
        let (messages, waiting) = sync_channel(MAX_WAITING);
        let mut pending = Vec::new();
        if let Some(stdout) = stdout {
            pending.push((Stream::Stdout, read(Stream::Stdout, stdout, messages.clone())));
        }
        if let Some(stderr) = stderr {
            pending.push((Stream::Stderr, read(Stream::Stderr, stderr, messages.clone())));
        }
        let streams = pending.len();
        threads::spawn(move || log.keep(&waiting, streams, &events));
        Ok(Unfinished { pending, messages })
    }

    fn create(path: &Path, max_size: u64) -> io::Result<Self> {
        let file = Box::new(plain_file::truncate(path)?);
        let log = Self { path: path.to_owned(), file, size: 0, max_size, line: Vec::new(), refused: 0 };
        log.reserve();
        Ok(log)
    }

    fn keep(mut self, waiting: &Receiver<Message>, mut streams: usize, events: &Sender<Event>) {
        for message in waiting {
            match message {
                Message::Output(output) => self.write(&output),
                Message::End => {
                    streams -= 1;
                    if streams == 0 {
                        let _ = events.send(Event::Drained);
                    }
                }
                Message::Ask(answer) => {
                    // The job may have left the disk full: what was kept for the next file gives its room.
                    if !self.tell_refused() && plain_file::truncate(&self.next()).is_ok() {
                        self.tell_refused();
                    }
                    let _ = answer.send(());
                }
            }
        }
    }

    /// What a full disk does not take is lost, and counted; the job goes on.
    fn write(&mut self, Output { stream, bytes }: &Output) {
        let at = clock::now();
        let mut rest = &bytes[..];
        // Where each entry ends in what is written, and how much of the output has come by then.
        let (mut ends, mut come) = (Vec::new(), 0_u64);
        while !rest.is_empty() {
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let mut line;
            (line, rest) = rest.split_at(length);
            while !line.is_empty() {
                let (piece, after) = line.split_at(char_boundary(line, MAX_PIECE_BYTES));
                line = after;
                vmjob_logs::encode(*stream, piece, &at, &mut self.line);
                come += piece.len() as u64;
                ends.push((self.line.len() as u64, come));
            }
        }
        let line = std::mem::take(&mut self.line);
        let length = line.len() as u64;
        let size = self.size + length;
        // Where no file can be made the old one goes on, until it is as long as all of them may be together.
        let has_room = self.size == 0
            || size <= self.max_size
            || self.rotate().is_ok()
            || size <= self.max_size * u64::from(MAX_FILES);
        let written = if has_room && self.tell_refused() { self.put(&line) } else { 0 };
        let whole = ends.partition_point(|(end, _)| *end <= written);
        self.refused += come - if whole > 0 { ends[whole - 1].1 } else { 0 };
        self.line = line;
        self.line.clear();
    }

    /// Says in the log how much of the output is missing here: a number on a line of its own is no entry, and [`vmjob_logs::Entries`]
    /// knows it. It ends an entry of which only a part was taken, and counts it: that part is not taken back, as the reader may have
    /// it. False if the disk is full.
    fn tell_refused(&mut self) -> bool {
        if self.refused > 0 {
            let note = format!("\n{}\n", self.refused);
            if self.put(note.as_bytes()) < note.len() as u64 {
                return false;
            }
            self.refused = 0;
        }
        true
    }

    /// Writes as much as the disk takes, and returns how much that was.
    fn put(&mut self, bytes: &[u8]) -> u64 {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(length @ 1..) => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        let written = (bytes.len() - rest.len()) as u64;
        self.size += written;
        written
    }

    /// Nothing is renamed before there is a file to go on with, and none to where there is one but the oldest: what fails may be
    /// tried again.
    fn rotate(&mut self) -> io::Result<()> {
        let next = plain_file::truncate(&self.next())?;
        let free = (1..MAX_FILES - 1).find(|index| !self.rotated(*index).exists()).unwrap_or(MAX_FILES - 1);
        for index in (1..free).rev() {
            let _ = fs::rename(self.rotated(index), self.rotated(index + 1));
        }
        fs::rename(&self.path, self.rotated(1))?;
        fs::rename(self.next(), &self.path).inspect_err(|_| _ = fs::rename(self.rotated(1), &self.path))?;
        self.file = Box::new(next);
        self.size = 0;
        self.reserve();
        Ok(())
    }

    /// Makes the next file ahead of its time, and keeps some room with it: a job may use up the disk's blocks, or its inodes.
    fn reserve(&self) {
        let _ = plain_file::truncate(&self.next()).and_then(|mut next| next.write_all(&[0; RESERVE_BYTES]));
    }

    fn next(&self) -> PathBuf {
        self.path.with_added_extension("next")
    }

    fn rotated(&self, index: u32) -> PathBuf {
        self.path.with_added_extension(index.to_string())
    }
}

/// Reads a stream to its end. What is passed on ends with a line, or is as long as a line may be: a character is not torn. What is
/// returned has the rest.
fn read(stream: Stream, mut source: impl Read + Send + 'static, messages: SyncSender<Message>) -> Pending {
    let rest = Pending::default();
    let pending = Arc::clone(&rest);
    threads::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = match source.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.extend_from_slice(&buffer[..length]);
            let whole = memchr::memrchr(b'\n', &pending).map_or(0, |at| at + 1);
            let is_long = pending.len() - whole >= MAX_PIECE_BYTES;
            let whole = if is_long { char_boundary(&pending, pending.len() - 1) } else { whole };
            let rest = pending.split_off(whole);
            if !send(&messages, stream, std::mem::replace(&mut pending, rest)) {
                return;
            }
        }
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        if send(&messages, stream, std::mem::take(&mut pending)) {
            let _ = messages.send(Message::End);
        }
    });
    rest
}

#[cfg(test)]
mod tests;
