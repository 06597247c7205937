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
use vmjob_logs::{Entries, Loss, Lost, Progress, Take};

use super::rotated::{FileId, find, id_at, oldest, rotated};
use crate::{crc::Crc32c, plain_file};

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
    /// How much of the log was rotated away unread, in bytes of its files.
    rotated_bytes: u64,
    /// What else went before it was read.
    lost: Lost,
}

impl JsonFile {
    /// Opens the log at `place`, which may have been rotated meanwhile, or else at the oldest file there is: what a reader that came
    /// as far as `progress` had taken is then passed over.
    pub(super) fn follow(path: PathBuf, place: Option<Place>, progress: Progress) -> io::Result<Self> {
        let directory = directory(&path);
        // Apart, as a reader that pauses wants to hear of renames alone.
        let writes = watch(directory, WatchMask::MODIFY | WatchMask::ONESHOT)?;
        // The kernel makes one of two events that follow one another and are the same: removals come between.
        let renames = watch(directory, WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE)?;

        let found = place.and_then(|place| look_up(&path, &place));
        let index = found.as_ref().map_or_else(|| oldest(&path), |(index, ..)| *index);
        let (mut entries, mut lost) = (Entries::resume(progress), Lost::default());
        if let (None, Some(place)) = (&found, place) {
            // How much came and went while no agent ran is unknown.
            let is_there = find(&path, place.file).is_some();
            lost.add(Lost::some(if is_there { Loss::Shortened } else { Loss::Rotated }));
            warn!("the log no longer has the place up to which it was read; it is read on by the times in it");
            entries.pass_over();
        }
        let (file, place) = found.map_or_else(|| open_at(&path, index), |(_, file, place)| Ok((file, place)))?;
        // Rotations are counted from one high enough that the oldest file has a number.
        let (rotations, begun_after) = (u64::from(index), 0);
        Ok(Self {
            path,
            file,
            place,
            entries,
            writes,
            is_armed: true,
            renames,
            resume_at: Instant::now(),
            is_between: false,
            rotations,
            begun_after,
            rotated_bytes: 0,
            lost,
        })
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn progress(&self) -> &Progress {
        self.entries.progress()
    }

    /// About how much of the job's output was gone before it was read, or could not be kept.
    pub(super) fn lost(&self) -> Lost {
        let mut lost = self.entries.lost(self.rotated_bytes, Loss::Rotated);
        lost.add(self.lost.clone());
        lost
    }

    /// Nothing more will be written: an entry that is not whole by now never is.
    pub(super) fn end(&mut self) {
        self.entries.end_file();
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
        Ok(has_read)
    }

    /// Somebody may have emptied the file to make room, and an engine does where it cannot rename it: what was not read by then is
    /// gone, unless it was copied first. What has been read may still be there, or be there again.
    fn look_whether_begun_anew(&mut self) -> io::Result<()> {
        let has_place = mark(&self.file, self.place.offset) == self.place.mark;
        if has_place && self.file.metadata()?.len() >= self.place.offset + self.entries.pending_bytes() {
            return Ok(());
        }
        if let Some((_, file, place)) = look_up(&self.path, &self.place) {
            // Of the same file what was no whole entry yet is gone.
            if place.file.is(self.place.file) {
                self.lost.add(Lost::some(Loss::Shortened));
            }
            (self.file, self.place) = (file, place);
            self.entries.clear();
            return Ok(());
        }
        warn!("the log's file became shorter, or another, where it was being read; it is read on by the times in it");
        self.lost.add(Lost::some(Loss::Shortened));
        (self.place.offset, self.place.mark) = (0, mark(&self.file, 0));
        self.entries.pass_over();
        Ok(())
    }

    /// Whether this file, which is begun now in the place of one that was removed, was written before what has been read: somebody
    /// has put a part of the log there. Entries of one moment may stand in either order.
    fn is_older(&self) -> bool {
        let mut begin = vec![0; 32 * 1024];
        let length = self.file.read_at(&mut begin, 0).unwrap_or_default();
        let second = |time: &str| time.get(..19).map(str::to_owned);
        vmjob_logs::first_time(&begin[..length]).is_some_and(|time| second(time) < second(self.progress().latest()))
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
            if index.is_none()
                && this.nlink() == 0
                && let Some((_, file, place)) = look_up(&self.path, &self.place)
            {
                (self.file, self.place) = (file, place);
                self.entries.clear();
                return Ok(true);
            }
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
                self.rotated_bytes = self.rotated_bytes.saturating_add(skipped);
                self.entries.end_file();
                (self.file, self.place) = (file, place);
                if index.is_none() && self.is_older() {
                    self.lost.add(Lost::some(Loss::Shortened));
                    self.entries.pass_over();
                }
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
    let file = plain_file::open(&rotated(path, index))?;
    let place = Place { file: FileId::of(&file)?, offset: 0, mark: mark(&file, 0) };
    Ok((file, place))
}

/// The file that `place` is in, how often it was rotated, and the place in it, if there still is one: that file, or one with the same
/// entries before the place, where the log was copied.
fn look_up(path: &Path, place: &Place) -> Option<(u32, File, Place)> {
    let at = |index: u32| {
        let file = plain_file::open(&rotated(path, index)).ok()?;
        let id = FileId::of(&file).ok()?;
        let here = Place { file: id, mark: mark(&file, place.offset), ..*place };
        place.is_in(&file).then_some((index, file, here))
    };
    while let Some(index) = find(path, place.file) {
        // Renamed between the look and the opening, it is looked for again.
        if let Ok(id) = FileId::of(&plain_file::open(&rotated(path, index)).ok()?)
            && id.is(place.file)
        {
            if let Some(found) = at(index).filter(|(_, _, here)| here.file.is(place.file)) {
                return Some(found);
            }
            break;
        }
    }
    // Nothing stands before a log's beginning that would tell it from another's.
    let is_marked = place.offset > 0 && place.mark.is_some();
    (0..=oldest(path)).filter(|_| is_marked).find_map(at)
}

#[cfg(test)]
mod tests;
