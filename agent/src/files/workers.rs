//! Threads for work on files. A file system may hang (FUSE, NFS): then its thread does, and nothing else. It is left behind, and what
//! was wanted of it is an error.

use std::{
    fs::File,
    future::poll_fn,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Rights,
    calls::{have_made_by, take_problem},
    helper::Helpers,
};
use crate::threads;

/// At once, those that hang among them; more would be a file system that takes everything.
const MAX_THREADS: usize = 64;
/// How long is waited where something has hung before: a job may have many files there.
const LATER_STALL: Duration = Duration::from_secs(5);
/// What is read at once.
const PIECE_BYTES: u64 = 64 * 1024;

type Task = Box<dyn FnOnce() + Send>;

/// How many threads there are, of all [`Workers`] that share it.
pub type ThreadCount = Arc<AtomicUsize>;

/// Threads with the rights of one user. Cheap to clone; dropped, they end, but for those that hang.
#[derive(Clone)]
pub struct Workers {
    tasks: Sender<Task>,
    shared: Arc<Shared>,
    stall: Duration,
}

struct Shared {
    tasks: Mutex<Receiver<Task>>,
    /// Threads that wait for a task, and have not been given one.
    idle: AtomicUsize,
    threads: ThreadCount,
    rights: Rights,
    /// What makes the calls for it; the agent's own rights need none.
    helpers: Option<Arc<Helpers>>,
    has_stalled: AtomicBool,
}

impl Workers {
    /// `stall`: how long a file system may take to answer.
    pub fn new(rights: Rights, stall: Duration, threads: &ThreadCount) -> Self {
        let (tasks, queue) = channel();
        let shared = Shared {
            tasks: Mutex::new(queue),
            idle: AtomicUsize::new(0),
            threads: Arc::clone(threads),
            helpers: (rights != Rights::Agent).then(|| Arc::new(Helpers::of(&rights))),
            rights,
            has_stalled: AtomicBool::new(false),
        };
        Self { tasks, shared: Arc::new(shared), stall }
    }

    pub fn rights(&self) -> &Rights {
        &self.shared.rights
    }

    /// Does `work`, which is about `path`, on a thread.
    ///
    /// # Errors
    /// Those of `work`; `TimedOut` where it takes longer than file systems may.
    pub async fn run<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        self.start(path, move || {
            // There may be nobody left who wants it.
            let result = work();
            let _ = done.send(take_problem().map_or(result, Err));
        })?;
        match timeout(self.stall(), result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(thread_is_gone()),
            Err(_) => Err(self.stalled(path)),
        }
    }

    /// Reads the bytes of `file` from one offset up to another, on a thread. `last_look` comes before the last of them.
    pub fn read(
        &self,
        file: &Arc<File>,
        path: &Path,
        (mut offset, end): (u64, u64),
        last_look: impl FnOnce(&File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Pieces> {
        let (sender, read) = mpsc::channel(1);
        let left = end.saturating_sub(offset);
        let pieces = Pieces { read, left, workers: self.clone(), path: path.to_owned() };
        if offset >= end {
            return Ok(pieces);
        }
        let file = Arc::clone(file);
        let mut last_look = Some(last_look);
        self.start(path, move || {
            while offset < end {
                let mut piece = vec![0; usize::try_from(PIECE_BYTES.min(end - offset)).unwrap_or_default()];
                let mut read = file.read_exact_at(&mut piece, offset);
                offset += piece.len() as u64;
                if offset == end
                    && let Some(last_look) = last_look.take()
                {
                    read = read.and_then(|()| last_look(&file));
                }
                let is_error = read.is_err();
                if sender.blocking_send(read.map(|()| piece.into())).is_err() || is_error {
                    return;
                }
            }
        })?;
        Ok(pieces)
    }

    /// How long a file system may take to answer.
    pub fn stall(&self) -> Duration {
        if self.shared.has_stalled.load(Ordering::Relaxed) { self.stall.min(LATER_STALL) } else { self.stall }
    }

    /// What is told where it takes longer.
    pub fn stalled(&self, path: &Path) -> io::Error {
        let stall = self.stall();
        self.shared.has_stalled.store(true, Ordering::Relaxed);
        let text = format!("no answer from the file system at {} for {} s", path.display(), stall.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, text)
    }

    fn start(&self, path: &Path, task: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (shared, task) = (&self.shared, Box::new(task));
        let has_idle = shared.idle.fetch_update(Ordering::AcqRel, Ordering::Acquire, |idle| idle.checked_sub(1));
        if has_idle.is_ok() {
            return self.tasks.send(task).map_err(|_| io::Error::other("the threads for files are gone"));
        }
        if shared.threads.fetch_add(1, Ordering::AcqRel) >= MAX_THREADS {
            shared.threads.fetch_sub(1, Ordering::AcqRel);
            let text = format!("{MAX_THREADS} threads wait for file systems that do not answer: {}", path.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        let worker = Arc::clone(shared);
        threads::try_spawn(move || {
            worker.work(task);
            worker.threads.fetch_sub(1, Ordering::AcqRel);
        })
        .inspect_err(|_| {
            shared.threads.fetch_sub(1, Ordering::AcqRel);
        })
    }
}

impl Shared {
    /// The life of a thread.
    fn work(&self, first: Task) {
        if let Some(helpers) = &self.helpers {
            have_made_by(Arc::<Helpers>::clone(helpers));
        }
        first();
        loop {
            self.idle.fetch_add(1, Ordering::AcqRel);
            // One thread waits for the next task, and the others for it.
            let task = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match task {
                Ok(task) => task(),
                Err(_) => return,
            }
        }
    }
}

fn thread_is_gone() -> io::Error {
    io::Error::other("a thread for files is gone")
}

/// A file's bytes as they are read.
pub struct Pieces {
    read: mpsc::Receiver<io::Result<Bytes>>,
    /// How many bytes are to come.
    left: u64,
    workers: Workers,
    path: PathBuf,
}

impl Pieces {
    /// The next of them; `None` after the last.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let stall = self.workers.stall();
        match timeout(stall, poll_fn(|context| self.poll_next(context))).await {
            Ok(piece) => piece,
            Err(_) => Some(Err(self.stalled())),
        }
    }

    /// As [`Self::next`], without the limit.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.read.poll_recv(context).map(|piece| {
            let piece = piece.unwrap_or_else(|| Err(thread_is_gone()));
            self.left -= piece.as_ref().map_or(self.left, |piece| piece.len() as u64);
            Some(piece)
        })
    }

    pub fn stalled(&self) -> io::Error {
        self.workers.stalled(&self.path)
    }
}
