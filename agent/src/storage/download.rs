//! Objects into files: streamed into a file under a name of its own, on from where an earlier try broke off, compared with the
//! object's checksum, and then given its name. Whatever ends the agent, a file under its name is whole.

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    StatusCode,
    body::Incoming,
    header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE},
};
use tokio::{task::yield_now, time::timeout};

use super::{
    Location, Object, Storage, StorageError,
    client::broken,
    tree::{Entry, Tree},
};
use crate::{crc::Crc32c, http::Answer};

/// Reading files for their checksum, a piece at a time.
const PIECE_BYTES: usize = 256 * 1024;

impl Storage {
    /// Fetches `object`, at `from`, into the file `path` below `tree`. A file that is there already with the same content stays.
    pub async fn download(
        &self,
        from: &Location,
        object: &Object,
        tree: &Tree,
        path: &Path,
    ) -> Result<(), StorageError> {
        let failed = |source| StorageError::Write { from: from.to_string(), path: path.display().to_string(), source };
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(StorageError::Unfit(format!("{from} has no name for a file")));
        };
        if let Ok(Entry::File(there)) = tree.look(path)
            && there.metadata().is_ok_and(|there| there.len() == object.size())
            && object.crc32c().is_some()
            && object.crc32c() == Some(crc_of(&there, object.size()).await.map_err(failed)?.value())
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
        let file = tree.create(dir, &part).map_err(failed)?;
        let fetched = self.fetch(from, object, &file, &failed).await;
        if fetched.as_ref().is_err_and(|error| !error.is_transient()) {
            // Nobody will go on with it, and on a full disk its room is needed.
            let _ = tree.remove(dir, &part);
        }
        fetched?;
        file.set_permissions(Permissions::from_mode(0o644)).map_err(failed)?;
        tree.rename(dir, &part, name).map_err(failed)
    }

    async fn fetch(
        &self,
        from: &Location,
        object: &Object,
        file: &File,
        failed: &impl Fn(io::Error) -> StorageError,
    ) -> Result<(), StorageError> {
        let mut was_damaged = false;
        let mut patience = self.patience();
        // What an earlier agent has left may be of any kind: the checksum tells.
        let mut offset = file.metadata().map_err(failed)?.len();
        if offset > object.size() {
            file.set_len(0).map_err(failed)?;
            offset = 0;
        }
        let mut crc = crc_of(file, offset).await.map_err(failed)?;
        loop {
            while offset < object.size() {
                let before = offset;
                let read = self.read_on(from, object, file, failed, &mut offset, &mut crc).await;
                if offset > before {
                    patience.moved();
                }
                if let Err(error) = read {
                    patience.after(error).await?;
                }
            }
            if object.crc32c().is_none_or(|wanted| wanted == crc.value()) {
                return Ok(());
            }
            if std::mem::replace(&mut was_damaged, true) {
                return Err(StorageError::Unfit(format!("{from} arrived damaged twice: its CRC32C is another")));
            }
            file.set_len(0).map_err(failed)?;
            (offset, crc) = (0, Crc32c::default());
        }
    }

    /// One request, from `offset` on.
    async fn read_on(
        &self,
        from: &Location,
        object: &Object,
        file: &File,
        failed: &impl Fn(io::Error) -> StorageError,
        offset: &mut u64,
        crc: &mut Crc32c,
    ) -> Result<(), StorageError> {
        let doing = format!("fetch {from}");
        let late = || broken(&doing, &format!("nothing came for {} s", self.stall().as_secs_f32()));
        // Without this, what was stored compressed would be unpacked on its way, and its checksum be another.
        let path_and_query = format!("{}?alt=media&ifGenerationMatch={}", from.object_path(), object.generation);
        let mut request = self.authorized(&doing, &path_and_query).await?.header(ACCEPT_ENCODING, "gzip");
        if *offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let request = request.body(Full::<Bytes>::default()).map_err(|error| broken(&doing, &error))?;
        let answer = timeout(self.stall(), self.http.open(request, self.stall())).await.map_err(|_| late())?;
        let (head, mut body) = answer.map_err(|error| broken(&doing, &error))?.into_parts();
        match head.status {
            StatusCode::OK if *offset == 0 => {}
            StatusCode::PARTIAL_CONTENT if begins_at(head.headers.get(CONTENT_RANGE), *offset) => {}
            // A server that knows no ranges: from the beginning, then.
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                file.set_len(0).map_err(failed)?;
                (*offset, *crc) = (0, Crc32c::default());
                return Err(broken(&doing, &"the answer begins at another place than was asked for"));
            }
            StatusCode::PRECONDITION_FAILED => {
                return Err(StorageError::Unfit(format!("{from} was replaced while it was fetched")));
            }
            status => {
                let body = timeout(self.stall(), first_bytes(&mut body)).await.unwrap_or_default();
                return Err(StorageError::status(&doing, &Answer { status, headers: head.headers, body: Ok(body) }));
            }
        }
        while *offset < object.size() {
            let frame = match timeout(self.stall(), body.frame()).await.map_err(|_| late())? {
                Some(frame) => frame.map_err(|error| broken(&doing, &error))?,
                None => return Err(broken(&doing, &"the answer ended too early")),
            };
            let Ok(data) = frame.into_data() else { continue };
            let room = usize::try_from(object.size() - *offset).unwrap_or(usize::MAX);
            let data = &data[..data.len().min(room)];
            file.write_all_at(data, *offset).map_err(failed)?;
            crc.update(data);
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

/// The checksum of a file's first bytes.
pub(super) async fn crc_of(file: &File, bytes: u64) -> io::Result<Crc32c> {
    let mut crc = Crc32c::default();
    let mut piece = vec![0; if bytes == 0 { 0 } else { PIECE_BYTES }];
    let mut done = 0;
    while done < bytes {
        let most = piece.len().min(usize::try_from(bytes - done).unwrap_or(usize::MAX));
        match file.read_at(&mut piece[..most], done)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                crc.update(&piece[..read]);
                done += read as u64;
            }
        }
        // The rest of the agent has its turn.
        yield_now().await;
    }
    Ok(crc)
}
