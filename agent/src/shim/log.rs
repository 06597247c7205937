//! Keeps the job's output in files of bounded size, in the format of Docker's json-file driver, so that the reader of that is the
//! reader of this. Source: moby `daemon/logger/jsonfilelog`, `daemon/logger/copier.go`.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{ChildStderr, ChildStdout},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, sync_channel},
    },
    time::Duration,
};

use vmjob_logs::Stream;

use super::Event;
use crate::{clock, threads};

/// As the defaults of a container: 50 MB a file, and five of them.
const MAX_FILE_BYTES: u64 = 50_000_000;
const MAX_FILES: u32 = 5;
/// A longer line is kept in pieces of this size.
const MAX_PIECE_BYTES: usize = 16 * 1024;
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
    file: File,
    size: u64,
    max_size: u64,
    line: Vec<u8>,
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
        Ok(Self { path: path.to_owned(), file: File::create(path)?, size: 0, max_size, line: Vec::new() })
    }

    fn keep(mut self, waiting: &Receiver<Message>, mut streams: usize, events: &Sender<Event>) {
        for message in waiting {
            match message {
                // What a full disk does not take is lost; the job goes on.
                Message::Output(output) => _ = self.write(&output),
                Message::End => {
                    streams -= 1;
                    if streams == 0 {
                        let _ = events.send(Event::Drained);
                    }
                }
                Message::Ask(answer) => _ = answer.send(()),
            }
        }
    }

    fn write(&mut self, Output { stream, bytes }: &Output) -> io::Result<()> {
        let at = clock::now();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let mut line;
            (line, rest) = rest.split_at(length);
            while !line.is_empty() {
                let (piece, after) = line.split_at(char_boundary(line, MAX_PIECE_BYTES));
                line = after;
                vmjob_logs::encode(*stream, piece, &at, &mut self.line);
            }
        }
        let length = self.line.len() as u64;
        if self.size > 0 && self.size + length > self.max_size {
            self.rotate()?;
        }
        let written = self.file.write_all(&self.line);
        self.line.clear();
        self.size += length;
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        for index in (1..MAX_FILES - 1).rev() {
            let _ = fs::rename(self.rotated(index), self.rotated(index + 1));
        }
        fs::rename(&self.path, self.rotated(1))?;
        self.file = File::create(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn rotated(&self, index: u32) -> PathBuf {
        self.path.with_added_extension(index.to_string())
    }
}

/// Where to cut so that at most `most` bytes come before, and no character is torn.
fn char_boundary(bytes: &[u8], most: usize) -> usize {
    if bytes.len() <= most {
        return bytes.len();
    }
    let is_inside = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    (most.saturating_sub(3)..=most).rev().find(|at| !is_inside(at)).unwrap_or(most)
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
mod tests {
    use super::*;

    #[test]
    fn no_character_is_torn() {
        let text = "aä€😀z".as_bytes();
        let cuts: Vec<usize> = (1..=text.len()).map(|most| char_boundary(text, most)).collect();
        assert_eq!(cuts, [1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11]);
        assert_eq!(char_boundary(&[0x80; 20], 10), 10, "what is no text is cut where it has to be");
    }

    #[test]
    fn what_was_begun_to_be_said_is_kept_though_the_stream_does_not_end() {
        let path = std::env::temp_dir().join(format!("vmjob-shim-rest-{}", std::process::id()));
        let (events, coming) = std::sync::mpsc::channel();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "printf 'line\\nlast' >&2; printf x; exec sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let unfinished = Log::begin(&path, child.stdout.take(), child.stderr.take(), events).unwrap();
        let kept = || {
            unfinished.keep();
            let text = fs::read_to_string(&path).unwrap();
            let entries = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let mut texts: Vec<String> = entries.map(|entry| entry["log"].as_str().unwrap().to_owned()).collect();
            texts.sort();
            texts
        };
        while kept() != ["last", "line\n", "x"] {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(coming.recv().unwrap(), Event::Drained));
        assert_eq!(kept().len(), 3, "and not twice");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_files_are_bounded_and_keep_the_newest() {
        let dir = std::env::temp_dir().join(format!("vmjob-shim-log-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("job-json.log");
        let mut log = Log::create(&path, 10_000).unwrap();
        let line = [vec![b'x'; 3000], b"\n".to_vec()].concat();
        for _ in 0..30 {
            log.write(&Output { stream: Stream::Stdout, bytes: line.clone() }).unwrap();
        }
        log.write(&Output { stream: Stream::Stderr, bytes: b"the last \"word\"".to_vec() }).unwrap();
        let sizes: Vec<u64> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), MAX_FILES as usize);
        assert!(sizes.iter().all(|size| *size <= 10_000), "{sizes:?}");
        let newest = fs::read_to_string(&path).unwrap();
        let last: serde_json::Value = serde_json::from_str(newest.lines().last().unwrap()).unwrap();
        assert_eq!((last["log"].as_str(), last["stream"].as_str()), (Some("the last \"word\""), Some("stderr")));
        fs::remove_dir_all(&dir).unwrap();
    }
}
