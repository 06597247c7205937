//! The agent's own files, opened so that nothing in their place holds it up: a FIFO, a device, a directory, a link to one, or a file
//! that has no end is an error that says which.

use std::{
    fs::{File, FileType, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// More than any record, checkpoint or note of the agent's has.
pub const MAX_BYTES: u64 = 16 << 20;

/// Opens a file to read it. A link in its place is not followed.
///
/// # Errors
/// What the file system refused, or that it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(File::options().read(true), path)
}

/// Opens a file as `options` say. A link in its place is not followed.
///
/// # Errors
/// As of [`open`].
pub fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Before the opening, as that of some devices has effects.
    if let Ok(there) = path.symlink_metadata() {
        check(there.file_type())?;
    }
    opened(options, OFlags::NOFOLLOW, path)
}

/// Opens a file to write it from its beginning, made where there is none.
///
/// # Errors
/// As of [`open`].
pub fn truncate(path: &Path) -> io::Result<File> {
    open_with(File::options().write(true).create(true).truncate(true), path)
}

/// What is in a file of at most [`MAX_BYTES`]. A link in its place is not followed.
///
/// # Errors
/// As of [`open`], and that there is more.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_whole(open(path)?)
}

/// The text of a file that the machine's administrator keeps, and may have made a link; empty where there is none.
///
/// # Errors
/// As of [`read`].
pub fn read_system(path: &Path) -> io::Result<String> {
    match opened(File::options().read(true), OFlags::empty(), path) {
        Ok(file) => Ok(String::from_utf8_lossy(&read_whole(file)?).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn opened(options: &mut OpenOptions, flags: OFlags, path: &Path) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

fn read_whole(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    if file.take(MAX_BYTES + 1).read_to_end(&mut content)? as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(content)
}

fn check(found: FileType) -> io::Result<()> {
    let name = match found {
        found if found.is_file() => return Ok(()),
        found if found.is_symlink() => "symbolic link",
        found if found.is_dir() => "directory",
        found if found.is_fifo() => "FIFO",
        found if found.is_socket() => "socket",
        _ => "device",
    };
    Err(io::Error::other(format!("it is a {name}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, os::unix::net::UnixListener, process::Command};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_never_waited_for() {
        let dir = std::env::temp_dir().join(format!("vmjob-plain-{}", std::process::id()));
        fs::create_dir_all(dir.join("directory")).unwrap();
        assert!(Command::new("mkfifo").arg(dir.join("FIFO")).status().unwrap().success());
        symlink("/dev/zero", dir.join("symbolic link")).unwrap();
        let _socket = UnixListener::bind(dir.join("socket")).unwrap();
        let device = Path::new("/dev/zero");
        let paths = ["directory", "FIFO", "symbolic link", "socket"].map(|name| (name, dir.join(name)));
        for (name, path) in paths.into_iter().chain([("device", device.to_owned())]) {
            for opened in [open(&path), truncate(&path)] {
                assert_eq!(opened.unwrap_err().to_string(), format!("it is a {name}, not a regular file"));
            }
        }
        // The administrator's link is followed, and what it leads to is looked at.
        assert!(read_system(&dir.join("symbolic link")).unwrap_err().to_string().contains("a device"));
        symlink("/etc/passwd", dir.join("passwd")).unwrap();
        assert_eq!(read_system(&dir.join("passwd")).unwrap(), fs::read_to_string("/etc/passwd").unwrap());
        assert_eq!(read_system(&dir.join("none")).unwrap(), "");
        // One without an end, as far as a reader is concerned.
        File::create(dir.join("long")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&dir.join("long")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        fs::remove_dir_all(dir).unwrap();
    }
}
