//! Objects into files: streamed into a file under a name of its own, on from where an earlier try broke off, compared with the
//! object's checksum, and then given its name. Whatever ends the agent, a file under its name is whole.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    StatusCode,
    body::Incoming,
    header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE},
};
use tokio::time::timeout;

use super::{Location, Object, Storage, StorageError, client::broken};
use crate::{
    crc::Crc32c,
    files::{Entry, JobFiles},
    http::Answer,
};

/// A file on its way in.
struct Sink<'a> {
    file: Arc<File>,
    from: &'a Location,
    path: &'a Path,
}

impl Sink<'_> {
    fn failed(&self, source: io::Error) -> StorageError {
        StorageError::Write { from: self.from.to_string(), path: self.path.display().to_string(), source }
    }
}

impl Storage {
    /// Fetches `object`, at `from`, into the job's file `path`, below its root. A file that is there already with the same content
    /// stays.
    pub async fn download(
        &self,
        from: &Location,
        object: &Object,
        files: &JobFiles,
        path: &Path,
    ) -> Result<(), StorageError> {
        let shown = Path::new("/").join(path);
        let failed = |source| StorageError::Write { from: from.to_string(), path: shown.display().to_string(), source };
        let Some(name) = path.file_name() else {
            return Err(StorageError::Unfit(format!("{from} has no name for a file")));
        };
        if object.crc32c().is_some()
            && let Ok(Entry::File(there)) = files.look(path).await
            && self.holds_already(object, &there, &shown).await.map_err(failed)?
        {
            return Ok(());
        }
        // Of the target's name too: an object may be wanted under two.
        let mut id = Crc32c::default();
        for part in [from.to_string().as_bytes(), name.as_encoded_bytes()] {
            id.update(part);
            id.update(b"\0");
        }
        let part = format!(".vmjob-{:08x}-{}.part", id.value(), object.generation);
        let new = files.create(path, part).await.map_err(failed)?;
        let sink = Sink { file: Arc::clone(&new.file), from, path: &shown };
        let fetched = self.fetch(object, &sink).await;
        if fetched.as_ref().is_err_and(|error| !error.is_transient()) {
            // Nobody will go on with it, and on a full disk its room is needed.
            let new = Arc::clone(&new);
            let _ = self.workers.run(&shown, move || new.discard()).await;
        }
        fetched?;
        self.workers.run(&shown, move || new.keep()).await.map_err(failed)
    }

    async fn holds_already(&self, object: &Object, file: &Arc<File>, path: &Path) -> io::Result<bool> {
        let size = self.size_of(file, path).await?;
        Ok(size == object.size() && object.crc32c() == Some(self.crc_of(file, path, size).await?.value()))
    }

    async fn size_of(&self, file: &Arc<File>, path: &Path) -> io::Result<u64> {
        let file = Arc::clone(file);
        self.workers.run(path, move || file.metadata().map(|metadata| metadata.len())).await
    }

    /// The checksum of a file's first bytes.
    pub(super) async fn crc_of(&self, file: &Arc<File>, path: &Path, bytes: u64) -> io::Result<Crc32c> {
        let mut crc = Crc32c::default();
        let mut pieces = self.workers.read(file, path, (0, bytes), |_| Ok(()))?;
        while let Some(piece) = pieces.next().await {
            crc.update(&piece?);
        }
        Ok(crc)
    }

    async fn cut(&self, sink: &Sink<'_>) -> Result<(), StorageError> {
        let file = Arc::clone(&sink.file);
        self.workers.run(sink.path, move || file.set_len(0)).await.map_err(|error| sink.failed(error))
    }

    async fn fetch(&self, object: &Object, sink: &Sink<'_>) -> Result<(), StorageError> {
        let failed = |error| sink.failed(error);
        let mut was_damaged = false;
        let mut patience = self.patience();
        // What an earlier agent has left may be of any kind: the checksum tells.
        let mut offset = self.size_of(&sink.file, sink.path).await.map_err(failed)?;
        if offset > object.size() {
            self.cut(sink).await?;
            offset = 0;
        }
        let mut crc = self.crc_of(&sink.file, sink.path, offset).await.map_err(failed)?;
        loop {
            while offset < object.size() {
                let before = offset;
                let read = self.read_on(object, sink, &mut offset, &mut crc).await;
                if offset > before {
                    patience.moved();
                }
                if let Err(error) = read {
                    error.unless_tried_again(&mut patience).await?;
                }
            }
            if object.crc32c().is_none_or(|wanted| wanted == crc.value()) {
                return Ok(());
            }
            if std::mem::replace(&mut was_damaged, true) {
                let from = sink.from;
                return Err(StorageError::Unfit(format!("{from} arrived damaged twice: its CRC32C is another")));
            }
            self.cut(sink).await?;
            (offset, crc) = (0, Crc32c::default());
        }
    }

    /// One request, from `offset` on.
    async fn read_on(
        &self,
        object: &Object,
        sink: &Sink<'_>,
        offset: &mut u64,
        crc: &mut Crc32c,
    ) -> Result<(), StorageError> {
        let from = sink.from;
        let doing = format!("fetch {from}");
        let late = || broken(&doing, &format!("nothing came for {} s", self.stall().as_secs_f32()));
        // Without this, what was stored compressed would be unpacked on its way, and its checksum be another.
        let path_and_query = format!("{}?alt=media&ifGenerationMatch={}", from.object_path(), object.generation);
        let mut request = self.authorized(&doing, &path_and_query).await?.header(ACCEPT_ENCODING, "gzip");
        if *offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let request = request.body(Full::<Bytes>::default()).map_err(|error| broken(&doing, &error))?;
        let answer = timeout(self.stall(), self.client.http.open(request, self.stall())).await.map_err(|_| late())?;
        let (head, mut body) = answer.map_err(|error| broken(&doing, &error))?.into_parts();
        match head.status {
            StatusCode::OK if *offset == 0 => {}
            StatusCode::PARTIAL_CONTENT if begins_at(head.headers.get(CONTENT_RANGE), *offset) => {}
            // A server that knows no ranges: from the beginning, then.
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.cut(sink).await?;
                (*offset, *crc) = (0, Crc32c::default());
                return Err(broken(&doing, &"the answer begins at another place than was asked for"));
            }
            StatusCode::PRECONDITION_FAILED => {
                return Err(StorageError::Unfit(format!("{from} was replaced while it was fetched")));
            }
            status => {
                let body = timeout(self.stall(), first_bytes(&mut body)).await.unwrap_or_default();
                let answer = Answer { status, headers: head.headers, body: Ok(body) };
                return Err(self
                    .client
                    .judge(answer)
                    .map_or_else(|error| StorageError::call(&doing, error), |_| late()));
            }
        }
        while *offset < object.size() {
            let frame = match timeout(self.stall(), body.frame()).await.map_err(|_| late())? {
                Some(frame) => frame.map_err(|error| broken(&doing, &error))?,
                None => return Err(broken(&doing, &"the answer ended too early")),
            };
            let Ok(data) = frame.into_data() else { continue };
            let room = usize::try_from(object.size() - *offset).unwrap_or(usize::MAX);
            let data = data.slice(..data.len().min(room));
            let (file, written, at) = (Arc::clone(&sink.file), data.clone(), *offset);
            let written = self.workers.run(sink.path, move || file.write_all_at(&written, at)).await;
            written.map_err(|error| sink.failed(error))?;
            crc.update(&data);
            *offset += data.len() as u64;
        }
        Ok(())
    }
}

fn begins_at(range: Option<&hyper::header::HeaderValue>, offset: u64) -> bool {
    let text = range.and_then(|range| range.to_str().ok()).unwrap_or_default();
    text.trim_start_matches("bytes ").split('-').next().is_some_and(|first| first.parse() == Ok(offset))
}

/// The beginning of an error's text.
async fn first_bytes(body: &mut Incoming) -> Bytes {
    match body.frame().await {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}
