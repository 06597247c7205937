//! The calls by which the job's files are opened, made, renamed and removed. As the kernel keeps a thread's rights with the thread, so
//! is kept here who makes them: the thread itself, or for it a helper that has the job's rights.

use std::{
    cell::RefCell,
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    sync::Arc,
};

use rustix::{
    cmsg_space,
    fs::{AtFlags, CWD, Mode, OFlags, fchmod, mkdirat, openat, renameat, unlinkat},
    io::{Errno, IoSlice, IoSliceMut, retry_on_intr},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};

/// Of names, the two of a call together; the kernel takes less (`NAME_MAX`).
const MAX_NAMES_BYTES: usize = 8 * 1024;
/// Before the names: what is to be done, flags, mode.
const HEAD_BYTES: usize = 9;

thread_local! {
    static HELPED: RefCell<Option<Helped>> = const { RefCell::new(None) };
}

/// A process that makes calls for others.
pub(super) trait Helper {
    /// A connection for one thread.
    fn connect(&self) -> io::Result<OwnedFd>;
    /// The error of a call where there is no process, or no longer.
    fn gone(&self) -> io::Error;
}

/// A thread that sends its calls to a helper.
struct Helped {
    helper: Arc<dyn Helper>,
    /// To the helper, which has a thread for this one.
    connection: Option<OwnedFd>,
    /// Why a call could not be made at all.
    problem: Option<io::Error>,
}

/// From now on this thread's calls are made by a helper.
pub(super) fn have_made_by(helper: Arc<dyn Helper>) {
    HELPED.set(Some(Helped { helper, connection: None, problem: None }));
}

/// Why a call of this thread, since this was last asked, could not be made at all.
pub(super) fn take_problem() -> Option<io::Error> {
    HELPED.with_borrow_mut(|helped| helped.as_mut()?.problem.take())
}

pub(super) fn open(dir: impl AsFd, name: &OsStr, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let call = Call { flags, mode, ..Call::new(What::Open, dir.as_fd(), name) };
    call.make()?.ok_or(Errno::BADF)
}

/// Opens the very thing that is held: whatever has its name by now.
pub(super) fn reopen(held: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let call = Call { flags: flags | OFlags::CLOEXEC, ..Call::new(What::Reopen, held.as_fd(), OsStr::new("")) };
    call.make()?.ok_or(Errno::BADF)
}

pub(super) fn make_dir(dir: impl AsFd, name: &OsStr, mode: u32) -> Result<(), Errno> {
    Call { mode, ..Call::new(What::MakeDir, dir.as_fd(), name) }.make().map(drop)
}

pub(super) fn set_mode(file: impl AsFd, mode: u32) -> Result<(), Errno> {
    Call { mode, ..Call::new(What::SetMode, file.as_fd(), OsStr::new("")) }.make().map(drop)
}

/// Renames within a directory.
pub(super) fn rename(dir: impl AsFd, name: &OsStr, to: &OsStr) -> Result<(), Errno> {
    Call { to, ..Call::new(What::Rename, dir.as_fd(), name) }.make().map(drop)
}

pub(super) fn remove(dir: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    Call::new(What::Remove, dir.as_fd(), name).make().map(drop)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Open,
    Reopen,
    MakeDir,
    SetMode,
    Rename,
    Remove,
}

const ALL: [What; 6] = [What::Open, What::Reopen, What::MakeDir, What::SetMode, What::Rename, What::Remove];

#[derive(Debug)]
struct Call<'a> {
    what: What,
    /// The directory that has the name, or the file itself.
    at: BorrowedFd<'a>,
    name: &'a OsStr,
    to: &'a OsStr,
    flags: OFlags,
    mode: u32,
}

impl<'a> Call<'a> {
    fn new(what: What, at: BorrowedFd<'a>, name: &'a OsStr) -> Self {
        Self { what, at, name, to: OsStr::new(""), flags: OFlags::empty(), mode: 0 }
    }

    /// Makes it with the rights of this thread's files.
    fn make(&self) -> Result<Option<OwnedFd>, Errno> {
        HELPED.with_borrow_mut(|helped| match helped {
            None => self.make_here(),
            Some(helped) => helped.ask(self),
        })
    }

    fn make_here(&self) -> Result<Option<OwnedFd>, Errno> {
        let mode = Mode::from_raw_mode(self.mode);
        match self.what {
            What::Open => return openat(self.at, self.name, self.flags, mode).map(Some),
            What::Reopen => {
                let path = format!("/proc/self/fd/{}", self.at.as_raw_fd());
                return openat(CWD, path, self.flags, Mode::empty()).map(Some);
            }
            What::MakeDir => mkdirat(self.at, self.name, mode)?,
            What::SetMode => fchmod(self.at, mode)?,
            What::Rename => renameat(self.at, self.name, self.at, self.to)?,
            What::Remove => unlinkat(self.at, self.name, AtFlags::empty())?,
        }
        Ok(None)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, Errno> {
        let (name, to) = (self.name.as_bytes(), self.to.as_bytes());
        if name.len() + to.len() > MAX_NAMES_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        if name.contains(&0) || to.contains(&0) {
            return Err(Errno::INVAL);
        }
        let head = [&[self.what as u8][..], &self.flags.bits().to_le_bytes(), &self.mode.to_le_bytes()];
        Ok([&head.concat(), name, &[0], to].concat())
    }

    fn of_bytes(bytes: &'a [u8], at: BorrowedFd<'a>) -> Option<Self> {
        let (head, names) = bytes.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let end = names.iter().position(|byte| *byte == 0)?;
        Some(Self {
            what: *ALL.get(usize::from(head[0]))?,
            at,
            name: OsStr::from_bytes(&names[..end]),
            to: OsStr::from_bytes(&names[end + 1..]),
            flags: OFlags::from_bits_retain(number(1)?),
            mode: number(5)?,
        })
    }
}

impl Helped {
    fn ask(&mut self, call: &Call<'_>) -> Result<Option<OwnedFd>, Errno> {
        let bytes = call.to_bytes()?;
        let answer = self.exchange(&bytes, call.at);
        answer.unwrap_or_else(|problem| {
            (self.connection, self.problem) = (None, Some(problem));
            Err(Errno::CONNRESET)
        })
    }

    fn exchange(&mut self, call: &[u8], at: BorrowedFd<'_>) -> io::Result<Result<Option<OwnedFd>, Errno>> {
        let connection = match &self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.helper.connect()?),
        };
        let gone = |_| self.helper.gone();
        send(connection, call, Some(at)).map_err(gone)?;
        let mut answer = [0; 4];
        let Some((4, file)) = receive(connection, &mut answer).map_err(gone)? else { return Err(self.helper.gone()) };
        Ok(match i32::from_le_bytes(answer) {
            0 => Ok(file),
            error => Err(Errno::from_raw_os_error(error)),
        })
    }
}

/// Makes the calls that come in from one thread of the agent, until it is gone.
pub(super) fn serve_thread(connection: &OwnedFd) {
    let mut bytes = [0; HEAD_BYTES + MAX_NAMES_BYTES + 1];
    while let Ok(Some((length, at))) = receive(connection, &mut bytes) {
        let call = at.as_ref().and_then(|at| Call::of_bytes(&bytes[..length], at.as_fd()));
        let made = call.map_or(Err(Errno::INVAL), |call| call.make_here());
        let error = made.as_ref().err().map_or(0, |error| error.raw_os_error());
        let file = made.ok().flatten();
        if send(connection, &error.to_le_bytes(), file.as_ref().map(AsFd::as_fd)).is_err() {
            return;
        }
    }
}

/// Sends a message, and a file with it.
pub(super) fn send(socket: &OwnedFd, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    retry_on_intr(|| {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(file) = &file {
            control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(file)));
        }
        sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
    })
}

/// The next message's length, and the file that came with it; `None` at the end.
pub(super) fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> Result<Option<(usize, Option<OwnedFd>)>, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = retry_on_intr(|| {
        Ok(recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes)
    })?;
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let file = files.last();
    // No message is empty.
    Ok((length > 0).then_some((length, file)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_call_is_read_as_it_was_written_and_what_is_none_is_none() {
        let dir = openat(CWD, Path::new("/"), OFlags::PATH, Mode::empty()).unwrap();
        let long = "x".repeat(MAX_NAMES_BYTES);
        for (what, name, to) in
            [(What::Open, "a", ""), (What::Reopen, "", ""), (What::Rename, "\u{1}ä", "b"), (What::Remove, &*long, "")]
        {
            let (name, to) = (OsStr::new(name), OsStr::new(to));
            let call = Call { to, flags: OFlags::NOFOLLOW, mode: 0o640, ..Call::new(what, dir.as_fd(), name) };
            let bytes = call.to_bytes().unwrap();
            let read = Call::of_bytes(&bytes, dir.as_fd()).unwrap();
            let facts = |call: &Call<'_>| (call.what, call.name.to_owned(), call.to.to_owned(), call.flags, call.mode);
            assert_eq!(facts(&read), facts(&call));
            for cut in 0..=HEAD_BYTES {
                assert!(Call::of_bytes(&bytes[..cut], dir.as_fd()).is_none(), "{cut} bytes");
            }
        }
        for (name, error) in [("a\0b", Errno::INVAL), (&*format!("{long}x"), Errno::NAMETOOLONG)] {
            assert_eq!(Call::new(What::Open, dir.as_fd(), OsStr::new(name)).to_bytes().unwrap_err(), error);
        }
        let unknown = [&[u8::MAX][..], &[0; 9]].concat();
        assert!(Call::of_bytes(&unknown, dir.as_fd()).is_none());
    }
}
