//! Files that are replaced whole: a power cut leaves the old content or the new.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Replaces a file: a temporary one in the same directory, synced, renamed over the old one, and the directory synced.
///
/// # Errors
/// What the file system refused; the old content is still there then.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    // What an agent that died has left: of another mode, perhaps.
    let _ = fs::remove_file(new);
    let written = File::options().create_new(true).write(true).mode(mode).open(new).and_then(|mut file| {
        // Whatever the umask.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
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
