//! The engine's json-file log, read where it lies: no load on the engine, no back-pressure on the job, and a place, (inode,
//! offset), to come back to after any restart. The log rotates; the file being read is read to its end first.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use inotify::{Event, EventMask, EventStream, Inotify, WatchMask};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;
use vmjob_logs::{Entries, Take};

use super::rotated::{FileId, find, id_at, oldest, rotated};
use crate::crc::Crc32c;

/// Where reading goes on: the next entry of this file begins at this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    file: FileId,
    offset: u64,
    /// What stands before it: see [`mark`]. None in a checkpoint of an older agent.
    #[serde(default)]
    mark: Option<u32>,
}

impl Place {
    /// Whether it is in this file, or in an earlier one that was emptied, or whose inode this one has.
    fn is_in(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|file| file.len() >= self.offset)
            && self.mark.is_none_or(|before| mark(file, self.offset) == Some(before))
    }
}

/// An entry ends with its time, to the nanosecond: so much before a place tells it from the same place in another file.
const MARK_BYTES: u64 = 48;

/// A checksum of what stands before `offset`; none where the file is shorter.
fn mark(file: &File, offset: u64) -> Option<u32> {
    let mut before = [0; 48];
    let length = offset.min(MARK_BYTES);
    let before = &mut before[..usize::try_from(length).ok()?];
    file.read_exact_at(before, offset - length).ok()?;
    let mut crc = Crc32c::default();
    crc.update(before);
    Some(crc.value())
}

/// How many reads may follow one another before the rest of the agent has its turn: a millisecond or two.
const READS_A_TURN: u32 = 16;
/// A pause after catching up, so that a chatty job costs ten wake-ups a second and not one a line.
const BREATHER: Duration = Duration::from_millis(100);

/// How long a rotation may take, and the pause between two looks at it.
const ROTATION_PATIENCE: Duration = Duration::from_secs(2);
const ROTATION_PAUSE: Duration = Duration::from_millis(2);

pub(super) struct JsonFile {
    path: PathBuf,
    file: File,
    place: Place,
    /// What was read from `place` on.
    entries: Entries,
    writes: EventStream<[u8; 4096]>,
    /// Whether the next write is to wake the reader. Each that is watched costs its writer, so only one is at a time.
    is_armed: bool,
    renames: EventStream<[u8; 4096]>,
    /// When to look again after the end was reached.
    resume_at: Instant,
    /// Whether the file being read has been renamed, and the next one is not there yet.
    is_between: bool,
    /// How many rotations have been seen, and how many when this file was begun: what comes between is counted where files
    /// go before they are read.
    rotations: u64,
    begun_after: u64,
    /// How much of the log was rotated away unread, torn, or refused by a full disk, in bytes of its files.
    lost_file_bytes: u64,
    /// How long a file of this log has been, at least.
    longest: u64,
}

impl JsonFile {
    /// Opens the log at `place`, which may have been rotated meanwhile, or else at the oldest file there is.
    pub(super) fn follow(path: PathBuf, place: Option<Place>) -> io::Result<Self> {
        let directory = directory(&path);
        // Apart, as a reader that pauses wants to hear of renames alone.
        let writes = watch(directory, WatchMask::MODIFY | WatchMask::ONESHOT)?;
        // The kernel makes one of two events that follow one another and are the same: removals come between.
        let renames = watch(directory, WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE)?;

        let found = place.and_then(|place| Some((look_up(&path, &place)?, place)));
        let lost = place.filter(|_| found.is_none());
        let index = found.as_ref().map_or_else(|| oldest(&path), |((index, _), _)| *index);
        let (file, place) = match found {
            Some(((_, file), place)) => {
                let mark = mark(&file, place.offset);
                (file, Place { mark, ..place })
            }
            None => open_at(&path, index)?,
        };
        // How many files came and went while nobody looked, nobody knows; the rest of the one that was read is gone.
        let lost_file_bytes =
            lost.map_or(0, |lost| file.metadata().map_or(0, |file| file.len()).saturating_sub(lost.offset).max(1));
        // Rotations are counted from one high enough that the oldest file has a number.
        let (rotations, begun_after) = (u64::from(index), 0);
        Ok(Self {
            path,
            file,
            place,
            entries: Entries::default(),
            writes,
            is_armed: true,
            renames,
            resume_at: Instant::now(),
            is_between: false,
            rotations,
            begun_after,
            lost_file_bytes,
            longest: 0,
        })
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// About how many bytes of the job the engine rotated away before they were read, or could not keep; at least how many, where
    /// no agent ran.
    pub(super) fn lost_bytes(&self) -> u64 {
        self.entries.text_bytes_of(self.lost_file_bytes).max(u64::from(self.lost_file_bytes > 0))
    }

    fn lose(&mut self, file_bytes: u64) {
        self.lost_file_bytes = self.lost_file_bytes.saturating_add(file_bytes);
    }

    /// Hands some of what is in the log now to `take`; false when that was all.
    pub(super) async fn more(&mut self, take: &mut Take<'_>) -> io::Result<bool> {
        tokio::task::yield_now().await;
        Ok(self.read_some(take)? || self.next_file().await?)
    }

    /// Waits until there is something to read and hands some of it to `take`.
    pub(super) async fn next(&mut self, take: &mut Take<'_>) -> io::Result<()> {
        loop {
            // Of a fast job's small files none may be gone before it is read.
            tokio::select! {
                Some(event) = self.renames.next() => {
                    self.note(&event?);
                    self.resume_at = Instant::now();
                }
                () = sleep_until(self.resume_at) => {}
            }
            if self.read_some(take)? {
                // Let the rest of the agent have its turn, however much there is to read.
                tokio::task::yield_now().await;
                return Ok(());
            }
            if self.next_file().await? {
                continue;
            }
            if !std::mem::replace(&mut self.is_armed, true) {
                // What was written just before is seen by another look.
                self.writes.watches().add(directory(&self.path), WatchMask::MODIFY | WatchMask::ONESHOT)?;
                continue;
            }
            tokio::select! {
                Some(event) = self.renames.next() => self.note(&event?),
                Some(event) = self.writes.next() => {
                    event?;
                    self.is_armed = false;
                    self.resume_at = Instant::now() + BREATHER;
                }
                else => {}
            }
        }
    }

    /// Reads on and hands over the entries that are complete; false at the end of the file.
    fn read_some(&mut self, take: &mut Take) -> io::Result<bool> {
        self.look_whether_begun_anew()?;
        let mut has_read = false;
        for _ in 0..READS_A_TURN {
            let offset = self.place.offset + self.entries.pending_bytes();
            let room = self.entries.room();
            let wanted = room.len();
            let read = self.file.read_at(room, offset)?;
            self.place.offset += self.entries.advance(read, take);
            has_read |= read > 0;
            if read < wanted {
                // Running after the engine entry by entry would cost a call for each; a file that is finished is another matter.
                if self.is_newest() {
                    self.resume_at = Instant::now() + BREATHER;
                }
                break;
            }
        }
        self.place.mark = mark(&self.file, self.place.offset);
        let skipped = self.entries.take_skipped();
        if skipped > 0 {
            warn!("{skipped} bytes of the job's log are missing, or are no entry");
            self.lose(skipped);
        }
        Ok(has_read)
    }

    /// Somebody may have emptied the file to make room, and an engine does where it cannot rename it: what was not read by then is gone.
    fn look_whether_begun_anew(&mut self) -> io::Result<()> {
        let (length, read) = (self.file.metadata()?.len(), self.place.offset + self.entries.pending_bytes());
        if length < read || mark(&self.file, self.place.offset) != self.place.mark {
            // It was as long as the others have been, or nobody knows.
            self.lose(self.longest.saturating_sub(self.place.offset).max(1));
            (self.place.offset, self.place.mark) = (0, mark(&self.file, 0));
            self.entries.clear();
        }
        self.longest = self.longest.max(length);
        Ok(())
    }

    fn is_newest(&self) -> bool {
        id_at(&self.path).is_none_or(|file| file.is(self.place.file))
    }

    /// Notes what has changed by now.
    async fn note_all(&mut self) -> io::Result<()> {
        while let Ok(Some(event)) = timeout(ROTATION_PAUSE, self.renames.next()).await {
            self.note(&event?);
        }
        Ok(())
    }

    fn note(&mut self, event: &Event<OsString>) {
        let (newest, first) = (self.path.file_name(), rotated(&self.path, 1));
        if event.mask.contains(EventMask::MOVED_TO) && event.name.as_deref() == first.file_name() {
            self.rotations += 1;
            self.is_between = true;
        } else if event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) && event.name.as_deref() == newest {
            // Where one file is kept, Docker from 23 on does not rename it: it is removed, and another is made.
            self.rotations += u64::from(!std::mem::take(&mut self.is_between));
        }
    }

    /// Goes on to the file that was begun after this one; false while this one is the newest. May be dropped while it waits.
    async fn next_file(&mut self) -> io::Result<bool> {
        if self.is_newest() {
            return Ok(false);
        }
        let end = Instant::now() + ROTATION_PATIENCE;
        while Instant::now() < end {
            let this = self.file.metadata()?;
            // The last entries may have been written between our read and the rename.
            if this.len() > self.place.offset + self.entries.pending_bytes() {
                return Ok(true);
            }
            let index = find(&self.path, self.place.file);
            let next = match index {
                Some(index) => Some(index.saturating_sub(1)),
                // A file that has a name and is not found is being renamed.
                None if this.nlink() > 0 => None,
                None => {
                    self.note_all().await?;
                    Some(oldest(&self.path))
                }
            };
            // Another rotation in between would skip a file, so the answer is checked against a second look.
            if let Some(next) = next
                && let Ok((file, place)) = open_at(&self.path, next)
                && find(&self.path, self.place.file) == index
            {
                let next_after = self.begun_after + 1;
                self.begun_after = match index {
                    Some(_) => next_after,
                    None => self.rotations.saturating_sub(u64::from(next)).max(next_after),
                };
                let skipped = (self.begun_after - next_after) * this.len().max(file.metadata()?.len());
                // An entry that is torn at the end of its file is never whole.
                self.lose(skipped + self.entries.pending_bytes());
                (self.file, self.place) = (file, place);
                self.entries.clear();
                return Ok(true);
            }
            sleep(ROTATION_PAUSE).await;
        }
        Err(io::Error::other("the next file of the log cannot be found"))
    }
}

fn directory(log: &Path) -> &Path {
    log.parent().unwrap_or(Path::new("/"))
}

fn watch(directory: &Path, what: WatchMask) -> io::Result<EventStream<[u8; 4096]>> {
    let inotify = Inotify::init()?;
    inotify.watches().add(directory, what | WatchMask::ONLYDIR)?;
    inotify.into_event_stream([0; 4096])
}

fn open_at(path: &Path, index: u32) -> io::Result<(File, Place)> {
    let file = File::open(rotated(path, index))?;
    let place = Place { file: FileId::of(&file)?, offset: 0, mark: mark(&file, 0) };
    Ok((file, place))
}

/// The file that `place` is in, and how often it was rotated, if it is still there.
fn look_up(path: &Path, place: &Place) -> Option<(u32, File)> {
    loop {
        let index = find(path, place.file)?;
        // Renamed between the look and the opening, it is looked for again.
        if let Ok(file) = File::open(rotated(path, index))
            && FileId::of(&file).is_ok_and(|id| id.is(place.file))
        {
            return place.is_in(&file).then_some((index, file));
        }
    }
}

#[cfg(test)]
mod tests;
