//! How far a job's report has come, in a file of its own: it outlives a damaged journal, and a state directory that cannot be
//! written for a while. A job whose marker says that its report left is not run and not reported again.

use std::{
    fs::{File, OpenOptions},
    io::{
        self,
        ErrorKind::{NotADirectory, NotFound},
    },
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::plain_file;

/// How far the report has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sent {
    /// It has not left the VM.
    No,
    /// The first POST was about to be made: whether it arrived is not known.
    Begun,
    /// It was delivered, or given up for good.
    Settled,
}

impl Sent {
    /// All are of one length: a marker is overwritten in place, which takes no room on a full disk.
    fn text(self) -> &'static [u8] {
        match self {
            Self::No => b"no     \n",
            Self::Begun => b"begun  \n",
            Self::Settled => b"settled\n",
        }
    }

    fn parse(text: &[u8]) -> Self {
        // A marker that was made and never written: the first POST waits for the write of `Begun` to be synced.
        let is_blank = text.iter().all(|byte| *byte == 0);
        match text {
            _ if is_blank || text == Self::No.text() => Self::No,
            _ if text == Self::Settled.text() => Self::Settled,
            _ => Self::Begun,
        }
    }
}

/// The marker of one job, which its claim names.
#[derive(Debug, Clone)]
pub struct Marker {
    /// In the state directory; and beside it, for a VM whose state directory cannot be written.
    places: [PathBuf; 2],
}

impl Marker {
    pub fn new(state_dir: &Path, claim: &str) -> Self {
        let mut beside = state_dir.as_os_str().to_owned();
        beside.push("-reported");
        Self { places: [state_dir.join(format!("reported.{claim}")), Path::new(&beside).join(claim)] }
    }

    /// The furthest that any of its files tells.
    pub fn sent(&self) -> Sent {
        self.places.iter().map(|place| read(place)).max().unwrap_or(Sent::No)
    }

    /// Makes the file in the state directory while there is room and time: [`Marker::set`] then only overwrites it. The next
    /// save of the journal syncs the directory.
    pub fn prepare(&self) {
        if let Err(error) = open(&self.places[0], true).and_then(|file| file.write_all_at(Sent::No.text(), 0)) {
            warn!("failed to prepare {}: {error}", self.places[0].display());
        }
    }

    /// Writes down how far the report has come, on disk when this returns.
    ///
    /// # Errors
    /// What the file systems refused: a restart that loses the journal too may report the job again.
    pub fn set(&self, sent: Sent) -> io::Result<()> {
        if self.sent() >= sent {
            return Ok(());
        }
        let [inside, beside] = &self.places;
        write(inside, sent).or_else(|_| {
            // It outlives the state directory's trouble only if it is not part of it.
            let dir = beside.parent().unwrap_or(beside);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            write(beside, sent)
        })
    }
}

fn read(place: &Path) -> Sent {
    match plain_file::read(place) {
        Ok(text) => Sent::parse(&text),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Sent::No,
        // It is there, and the disk does not give it: no less than one that is damaged.
        Err(_) => Sent::Begun,
    }
}

fn write(place: &Path, sent: Sent) -> io::Result<()> {
    let is_new = !place.exists();
    let file = open(place, is_new)?;
    file.write_all_at(sent.text(), 0)?;
    file.sync_data()?;
    if is_new {
        File::open(place.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    }
    Ok(())
}

fn open(place: &Path, create: bool) -> io::Result<File> {
    plain_file::open_with(OpenOptions::new().write(true).create(create).truncate(false).mode(0o600), place)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_marker_only_advances_and_outlives_its_directory() {
        let dir = std::env::temp_dir().join(format!("vmjob-marker-{}", std::process::id()));
        let state = dir.join("state");
        fs::create_dir_all(&state).unwrap();
        let marker = Marker::new(&state, "c");
        assert_eq!(marker.sent(), Sent::No);
        marker.prepare();
        for (set, sent) in [(Sent::Begun, Sent::Begun), (Sent::Settled, Sent::Settled), (Sent::Begun, Sent::Settled)] {
            marker.set(set).unwrap();
            assert_eq!(Marker::new(&state, "c").sent(), sent);
        }
        assert_eq!(Marker::new(&state, "another").sent(), Sent::No);
        // Where the state directory does not take it.
        fs::remove_dir_all(&state).unwrap();
        fs::write(&state, "").unwrap();
        marker.set(Sent::Begun).unwrap();
        fs::remove_file(&state).unwrap();
        fs::create_dir_all(&state).unwrap();
        assert_eq!(Marker::new(&state, "c").sent(), Sent::Begun);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_marker_that_was_never_written_is_no_report_and_a_damaged_one_is() {
        for (text, sent) in [
            (&b""[..], Sent::No),
            (&[0; 8], Sent::No),
            (b"no     \n", Sent::No),
            (b"begun  \n", Sent::Begun),
            (b"settled\n", Sent::Settled),
            (b"bPQun \n", Sent::Begun),
            (b"settl", Sent::Begun),
        ] {
            assert_eq!(Sent::parse(text), sent, "{text:?}");
        }
        // Reading it fails, as on a bad sector.
        assert_eq!(read(Path::new("/proc/self/mem")), Sent::Begun);
        assert_eq!(read(Path::new("/no/such/marker")), Sent::No);
    }
}
