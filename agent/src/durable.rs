//! Files that are replaced whole: a power cut leaves the old content or the new.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use tracing::warn;

/// Keeps room at `reserve` for files to come, so that there is some even when something else has filled the disk.
pub fn reserve(reserve: &Path, bytes: usize) -> io::Result<()> {
    if reserve.is_file() {
        return Ok(());
    }
    create(reserve, &vec![0; bytes], 0o600).map(drop)
}

/// As [`replace`]; on a full disk with the room that was kept at `reserve`.
///
/// # Errors
/// What the file system refused, or that there is no such room any more.
pub fn replace_by(reserve: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match replace(path, content, mode) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull && fs::remove_file(reserve).is_ok() => {
            warn!("the disk is full: {} uses the room that was kept for it", path.display());
            replace(path, content, mode)
        }
        result => result,
    }
}

/// Makes a file, in the place of what an agent that died has left: of another mode, perhaps.
///
/// # Errors
/// What the file system refused.
pub fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    let mut file = File::options().create_new(true).write(true).mode(mode).open(path)?;
    // Whatever the umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    Ok(file)
}

/// Replaces a file: a temporary one in the same directory, synced, renamed over the old one, and the directory synced.
///
/// # Errors
/// What the file system refused; the old content is still there then.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let written = create(new, content, mode).and_then(|file| {
        file.sync_all()?;
        fs::rename(new, path)
    });
    if written.is_err() {
        // On a full disk its room is needed.
        let _ = fs::remove_file(new);
    }
    written?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
