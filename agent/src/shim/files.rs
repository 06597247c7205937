//! The directory of a job without a container: what is to run, what became of it, and where its log and its shim are.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::{durable, plain_file};

const SPEC: &str = "spec.json";
const STATE: &str = "state.json";
const SOCKET: &str = "socket";
/// Room that is kept for the state, should the job fill the disk.
const RESERVE: &str = "reserve";
const RESERVE_BYTES: usize = 16 * 1024;

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    pub name: String,
    pub command: Vec<String>,
    /// On top of what the user's own login would have.
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    /// `NAME`, `UID`, or either with `:GROUP`.
    pub user: Option<String>,
    /// Which claim it belongs to, and the boot in which it was made.
    pub labels: BTreeMap<String, String>,
    /// Whether the shim finds itself in a control group of its own; else it makes one.
    pub has_own_group: bool,
    /// Whether part of the environment comes through the socket, as it must not be in a file.
    #[serde(default)]
    pub has_secrets: bool,
    /// Whether no program of it may have more rights than its user, as `sudo` has.
    #[serde(default)]
    pub no_new_privileges: bool,
}

/// What became of it. There once the job's process was made, and before that runs the job's program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    pub pid: i64,
    /// The job's control groups that have to be removed.
    pub groups: Vec<PathBuf>,
    /// RFC 3339; none while, or where, the program could not be started.
    pub started_at: Option<String>,
    /// Why it could not be started.
    pub error: Option<String>,
    pub ended: Option<Ended>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// As a shell or a container gives it: 128 and the signal's number, where one ended it.
    pub code: i64,
    pub finished_at: String,
    /// The kernel killed something of the job for memory.
    pub oom_killed: bool,
}

impl ProcessState {
    pub(super) fn begun(pid: i64, groups: Vec<PathBuf>) -> Self {
        Self { pid, groups, started_at: None, error: None, ended: None }
    }

    /// Of one that was never made.
    pub(super) fn failed(error: &io::Error) -> Self {
        Self { error: Some(error.to_string()), ..Self::begun(0, Vec::new()) }
    }
}

/// Access to the directory.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes the directory with what is to run.
    pub fn create(&self, spec: &ProcessSpec) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(&self.dir) {
            // Made by an agent that died before it could say what for.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.spec().is_err() => {}
            made => made?,
        }
        durable::reserve(&self.dir.join(RESERVE), RESERVE_BYTES)?;
        self.write(SPEC, spec)
    }

    /// The shim's end of its socket, which may be there already. Its address has the directory by a number, as one has 107 bytes at
    /// most (`unix(7)`), and the directory's path may have more.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        // Of a shim that never got the job's secrets.
        let _ = fs::remove_file(self.dir.join(SOCKET));
        let dir = File::open(&self.dir)?;
        let listener = UnixListener::bind(address(&dir))?;
        fs::set_permissions(self.dir.join(SOCKET), fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Connects to the shim; an error if there is none.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let dir = File::open(&self.dir)?;
        UnixStream::connect(address(&dir)).await
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("job-json.log")
    }

    /// Held by the shim for as long as it is there; `None` if another holds it.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let lock =
            plain_file::open_with(File::options().create(true).append(true).mode(0o600), &self.dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn spec(&self) -> io::Result<ProcessSpec> {
        self.read(SPEC)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such job"))
    }

    pub fn state(&self) -> io::Result<Option<ProcessState>> {
        self.read(STATE)
    }

    pub(super) fn save(&self, state: &ProcessState) -> io::Result<()> {
        let content = serde_json::to_vec_pretty(state)?;
        durable::replace_by(&self.dir.join(RESERVE), &self.dir.join(STATE), &content, 0o600)
    }

    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match plain_file::read(&self.dir.join(name)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        durable::replace(&self.dir.join(name), &serde_json::to_vec_pretty(content)?, 0o600)
    }
}

/// A path to the socket in a directory, for as long as that is open here.
fn address(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_a_dead_agent_left_empty_is_used_and_any_other_is_not() {
        let files = Files::new(&std::env::temp_dir().join(format!("vmjob-shim-files-{}", std::process::id())));
        let text = r#"{"name": "a", "command": ["true"], "env": {}, "labels": {}, "has_own_group": false}"#;
        let spec: ProcessSpec = serde_json::from_str(text).unwrap();
        fs::create_dir(&files.dir).unwrap();
        files.create(&spec).unwrap();
        assert_eq!(files.create(&spec).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        files.remove().unwrap();
    }
}
