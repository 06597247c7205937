//! Files into objects: a resumable upload in one request, which goes on where the service says that it stands after a break. The
//! object is there when it is whole, or not at all.
//! Source: <https://cloud.google.com/storage/docs/performing-resumable-uploads>.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Method, Request, StatusCode,
    header::{CONTENT_RANGE, LOCATION, RANGE},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    Location, Object, Storage, StorageError,
    body::{FileBody, Problem, Sent, Shape},
    client::broken,
    location::encoded,
};
use crate::{
    crc::Crc32c,
    http::{Answer, HttpError, read_body},
    plain_file,
};

/// What is read of an answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Of files this large it is written down where their upload stands.
const LARGE_BYTES: u64 = 8 << 20;

/// What an object is to be, besides its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traits<'a> {
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    /// Only where there is no object of this name.
    pub only_new: bool,
}

/// A file on its way.
struct Source<'a> {
    file: Arc<File>,
    shape: Shape,
    path: &'a Path,
    doing: String,
}

/// An upload that another run of the agent may go on with.
#[derive(Debug, Serialize, Deserialize)]
struct Session {
    uri: String,
    to: Location,
    shape: Shape,
}

/// How far an upload has come.
struct Progress {
    session: Option<String>,
    /// Whether `offset` is what the service has; else it is to be asked.
    is_known: bool,
    offset: u64,
    /// Of what comes before `offset`.
    crc: Crc32c,
}

impl Progress {
    fn forgotten(&mut self, doing: &str) -> StorageError {
        self.session = None;
        broken(doing, &"the service has forgotten the upload")
    }
}

/// Where an upload stands.
enum Stands {
    At(u64),
    Done(Object),
    /// The service knows nothing of it any more.
    Gone,
}

impl Storage {
    /// Stores `file`, which is told of as `path`, at `to`, and returns its size. In `sessions`, a directory, it is kept where the upload of a
    /// large file stands.
    pub async fn upload(
        &self,
        file: Arc<File>,
        path: &Path,
        to: &Location,
        traits: Traits<'_>,
        sessions: Option<&Path>,
    ) -> Result<u64, StorageError> {
        let shape = self.shape_of(&file, path).await.map_err(|error| StorageError::file(path, error))?;
        let doing = format!("upload {} to {to}", path.display());
        let source = Source { file, shape, path, doing };
        let note = sessions.filter(|_| shape.size >= LARGE_BYTES).map(|dir| Note::new(dir, to, shape));
        let mut was_damaged = false;
        loop {
            let (object, crc) = self.send(&source, to, traits, note.as_ref()).await?;
            if let Some(note) = &note {
                note.remove();
            }
            if object.size() == shape.size && object.crc32c().is_none_or(|stored| stored == crc.value()) {
                return Ok(shape.size);
            }
            // What is there is not what was sent: nobody is to take it for that.
            self.delete(to).await?;
            if std::mem::replace(&mut was_damaged, true) {
                return Err(StorageError::Unfit(format!("{to} was stored damaged twice: its CRC32C is another")));
            }
        }
    }

    /// The size of `file`, if its very content is what `to` holds.
    pub async fn holds(&self, to: &Location, file: &Arc<File>, path: &Path) -> Option<u64> {
        let size = self.shape_of(file, path).await.ok()?.size;
        let stored = self.object(to).await.ok()?;
        let is_same = stored.size() == size && stored.crc32c()? == self.crc_of(file, path, size).await.ok()?.value();
        is_same.then_some(size)
    }

    async fn shape_of(&self, file: &Arc<File>, path: &Path) -> io::Result<Shape> {
        let file = Arc::clone(file);
        self.workers.run(path, move || file.metadata().map(|metadata| Shape::from(&metadata))).await
    }

    /// Sends it, on from where an earlier session stands: the object as it was stored, and the checksum of what was sent.
    async fn send(
        &self,
        source: &Source<'_>,
        to: &Location,
        traits: Traits<'_>,
        note: Option<&Note<'_>>,
    ) -> Result<(Object, Crc32c), StorageError> {
        let mut patience = self.patience();
        let session = note.and_then(Note::session);
        let mut progress = Progress { is_known: session.is_none(), session, offset: 0, crc: Crc32c::default() };
        loop {
            let before = progress.offset;
            match self.step(source, to, traits, note, &mut progress).await {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {}
                Err(error) => {
                    if progress.offset > before {
                        patience.moved();
                    }
                    error.unless_tried_again(&mut patience).await?;
                }
            }
        }
    }

    /// One try to send the rest: `None` where some of it is still to come.
    async fn step(
        &self,
        source: &Source<'_>,
        to: &Location,
        traits: Traits<'_>,
        note: Option<&Note<'_>>,
        progress: &mut Progress,
    ) -> Result<Option<(Object, Crc32c)>, StorageError> {
        let (doing, size) = (&source.doing, source.shape.size);
        let crc_to = async |end| {
            let crc = self.crc_of(&source.file, source.path, end).await;
            crc.map_err(|error| StorageError::file(source.path, error))
        };
        let uri = if let Some(uri) = progress.session.clone() {
            uri
        } else {
            let uri = self.begin(doing, to, size, traits).await?;
            if let Some(note) = note {
                note.keep(&uri);
            }
            *progress = Progress { session: Some(uri.clone()), is_known: true, offset: 0, crc: Crc32c::default() };
            uri
        };
        if !progress.is_known {
            match self.ask(doing, &uri, size).await? {
                Stands::At(at) if at == progress.offset => {}
                Stands::At(at) if at > size => return Err(progress.forgotten(doing)),
                Stands::At(at) => (progress.offset, progress.crc) = (at, crc_to(at).await?),
                Stands::Done(object) => return Ok(Some((object, crc_to(size).await?))),
                Stands::Gone => return Err(progress.forgotten(doing)),
            }
        }
        progress.is_known = false;
        let (stands, sent) = self.put(source, &uri, progress.offset, progress.crc).await?;
        match stands {
            Stands::Done(object) => Ok(Some((object, sent))),
            Stands::At(_) => Ok(None),
            Stands::Gone => Err(progress.forgotten(doing)),
        }
    }

    async fn begin(&self, doing: &str, to: &Location, size: u64, traits: Traits<'_>) -> Result<String, StorageError> {
        let mut path =
            format!("/upload/storage/v1/b/{}/o?uploadType=resumable&name={}", encoded(&to.bucket), encoded(&to.name));
        if traits.only_new {
            path.push_str("&ifGenerationMatch=0");
        }
        let mut body = json!({});
        for (name, value) in [("contentType", traits.content_type), ("contentEncoding", traits.content_encoding)] {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        let size = size.to_string();
        let headers = [("X-Upload-Content-Length", size.as_str())];
        let answer = self.try_call(doing, Method::POST, &path, &headers, &body).await?;
        let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        location.map(str::to_owned).ok_or_else(|| broken(doing, &"the answer has no `Location`"))
    }

    /// Asks where the upload stands.
    async fn ask(&self, doing: &str, uri: &str, size: u64) -> Result<Stands, StorageError> {
        let request = Request::put(self.checked(doing, uri)?).header(CONTENT_RANGE, format!("bytes */{size}"));
        let request = request.body(Bytes::new()).map_err(|error| broken(doing, &error))?;
        self.answer_to(doing, request).await.map_or_else(stands_gone, |answer| stands(doing, answer))
    }

    /// Sends the rest from `offset` on. Without a byte going out, or an answer coming, for a while it is dropped.
    async fn put(
        &self,
        source: &Source<'_>,
        uri: &str,
        offset: u64,
        crc: Crc32c,
    ) -> Result<(Stands, Crc32c), StorageError> {
        let Source { file, shape, path, doing } = source;
        let size = shape.size;
        let range = if size == 0 { "bytes */0".into() } else { format!("bytes {offset}-{}/{size}", size - 1) };
        let (body, sent) = FileBody::new(&self.workers, (file, path), *shape, offset, crc)
            .map_err(|error| StorageError::file(path, error))?;
        let request = Request::put(self.checked(doing, uri)?).header(CONTENT_RANGE, range);
        let request = request.body(body).map_err(|error| broken(doing, &error))?;
        let exchange = async {
            let (head, body) = self.client.http.open(request, self.stall()).await?.into_parts();
            let body = read_body(body, MAX_ANSWER_BYTES).await.unwrap_or_default();
            let body = self.client.http.shown(head.status, body);
            Ok::<_, HttpError>(Answer { status: head.status, headers: head.headers, body: Ok(body) })
        };
        let answer = tokio::select! {
            answer = exchange => answer.map_err(|error| broken(doing, &error)),
            () = standstill(&sent, self.stall(), self.workers.stall()) => {
                let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
                if sent.waits_for_file {
                    sent.problem = Some(Problem::Unreadable(self.workers.stalled(path)));
                }
                Err(broken(doing, &format!("nothing moved for {} s", self.stall().as_secs_f32())))
            }
        };
        let sent = std::mem::take(&mut *sent.lock().unwrap_or_else(PoisonError::into_inner));
        match sent.problem {
            Some(Problem::Changed) => {
                self.cancel(doing, uri).await;
                return Err(StorageError::Unfit(format!("{} changed while it was uploaded", path.display())));
            }
            Some(Problem::Unreadable(error)) => {
                self.cancel(doing, uri).await;
                return Err(StorageError::file(path, error));
            }
            None => {}
        }
        let answer = answer?;
        let stands = match self.client.judge(answer) {
            Ok(answer) => stands(doing, answer)?,
            Err(error) => stands_gone(StorageError::call(doing, error))?,
        };
        Ok((stands, sent.crc))
    }

    /// Lets the service forget what has come of it. That nobody answers changes nothing.
    async fn cancel(&self, doing: &str, uri: &str) {
        if let Ok(uri) = self.checked(doing, uri)
            && let Ok(request) = Request::delete(uri).body(Bytes::new())
        {
            let _ = timeout(Duration::from_secs(5), self.answer_to(doing, request)).await;
        }
    }
}

/// Resolves when nothing more has been sent for `stall`, or has come from the file for `file_stall`.
async fn standstill(sent: &Mutex<Sent>, stall: Duration, file_stall: Duration) {
    let tick = stall.min(file_stall);
    let (mut before, mut idle) = (0, Duration::ZERO);
    loop {
        sleep(tick).await;
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        idle = if sent.bytes == before { idle + tick } else { Duration::ZERO };
        before = sent.bytes;
        if idle >= stall || (sent.waits_for_file && idle >= file_stall) {
            return;
        }
    }
}

fn stands(doing: &str, answer: Answer) -> Result<Stands, StorageError> {
    if answer.status.is_success() {
        return Object::of(doing, answer).map(Stands::Done);
    }
    // `bytes=0-N`: the last byte that is stored; without it there is none yet.
    let range = answer.headers.get(RANGE).and_then(|range| range.to_str().ok());
    let last = range.and_then(|range| range.rsplit('-').next()?.parse::<u64>().ok());
    Ok(Stands::At(last.map_or(0, |last| last.saturating_add(1))))
}

fn stands_gone(error: StorageError) -> Result<Stands, StorageError> {
    if error.is_status(StatusCode::NOT_FOUND) || error.is_status(StatusCode::GONE) {
        return Ok(Stands::Gone);
    }
    Err(error)
}

/// A session on disk, under a name that the object's gives it.
struct Note<'a> {
    file: PathBuf,
    to: &'a Location,
    shape: Shape,
}

impl<'a> Note<'a> {
    fn new(dir: &Path, to: &'a Location, shape: Shape) -> Self {
        let mut id = Crc32c::default();
        id.update(to.to_string().as_bytes());
        Self { file: dir.join(format!("{:08x}.json", id.value())), to, shape }
    }

    fn session(&self) -> Option<String> {
        let session: Session = serde_json::from_slice(&plain_file::read(&self.file).ok()?).ok()?;
        (session.to == *self.to && session.shape == self.shape).then_some(session.uri)
    }

    /// What a full disk does not take only means that another run begins anew.
    fn keep(&self, uri: &str) {
        let session = Session { uri: uri.into(), to: self.to.clone(), shape: self.shape };
        let _ = self.file.parent().map(fs::create_dir_all);
        let _ = serde_json::to_vec(&session).map(|text| crate::durable::replace(&self.file, &text, 0o600));
    }

    fn remove(&self) {
        let _ = fs::remove_file(&self.file);
    }
}
