//! A process that has become the job's user, and makes calls for the agent's threads: what it opens comes back as a descriptor. So the
//! agent needs no right to become another user, and nothing that the job's user may signal is the agent.
//!
//! The agent has one end of a socket, and the process the other as its standard input; each thread sends an end of a socket of its own
//! through it, for which the process has a thread. It ends when the first socket is closed. Source: `unix(7)`, `SCM_RIGHTS`.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    stdio::stdin,
    thread::{CapabilitySet, capabilities},
};

use super::{
    Rights,
    calls::{Helper, receive, send, serve_thread},
};
use crate::{service, threads};

/// One that does not stay is not started for ever.
const MAX_STARTS: u32 = 3;

/// The helper of one user's threads: the first call starts it, and a call after its end another.
#[derive(Debug)]
pub(super) struct Helpers {
    rights: Rights,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    control: Option<OwnedFd>,
    starts: u32,
}

impl Helpers {
    pub(super) fn of(rights: &Rights) -> Self {
        Self { rights: rights.clone(), now: Mutex::default() }
    }

    fn start(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = pair()?;
        #[cfg(test)]
        if let Rights::User { .. } = self.rights {
            // The program is the tests' own. A thread has rights of its own, and so have those that it starts.
            let rights = self.rights.clone();
            threads::spawn(move || drop(rights.assume().map(|()| serve_control(&theirs))));
            return Ok(ours);
        }
        let agent = service::own_program()?;
        let mut command = if may_become_others() || !service::can_start_units() {
            let mut command = Command::new(agent);
            command.env_clear();
            command
        } else {
            // As a unit of its own: the agent's own may not become others. A VM that is being shut down starts no other units than
            // those without the usual dependencies.
            let mut command = Command::new("systemd-run");
            command
                .args([
                    "--quiet",
                    "--collect",
                    "--wait",
                    "--pipe",
                    "--description=opens files as the user of vmjob's job",
                ])
                .args(["--property=DefaultDependencies=no", "--property=OOMScoreAdjust=-900"])
                .arg(agent);
            command
        };
        command.arg("files").arg(serde_json::to_string(&self.rights)?).stdin(theirs).stdout(Stdio::null());
        // Ctrl-C at a terminal is for the agent.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| {
            let program = command.get_program().display();
            io::Error::new(error.kind(), format!("failed to start {program} for {}: {error}", self.rights))
        })?;
        // Its end is known by the socket.
        threads::try_spawn(move || drop(child.wait()))?;
        Ok(ours)
    }
}

impl Helper for Helpers {
    fn connect(&self) -> io::Result<OwnedFd> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, theirs) = pair()?;
        if let Some(control) = &now.control
            && send(control, &[0], Some(theirs.as_fd())).is_ok()
        {
            return Ok(ours);
        }
        if now.starts == MAX_STARTS {
            return Err(self.gone());
        }
        now.starts += 1;
        let control = now.control.insert(self.start()?);
        send(control, &[0], Some(theirs.as_fd())).map_err(|_| self.gone())?;
        Ok(ours)
    }

    fn gone(&self) -> io::Error {
        io::Error::other(format!(
            "no process got the rights of {}, or it is gone; the agent's log says why",
            self.rights
        ))
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn may_become_others() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// The life of the process: with these rights, as JSON, it serves the agent at the other end of its standard input.
///
/// # Errors
/// It cannot have these rights.
pub fn serve(rights: &str) -> io::Result<()> {
    let rights: Rights = serde_json::from_str(rights)?;
    let control = fcntl_dupfd_cloexec(stdin(), 3)?;
    // Before there are other threads: each has rights of its own.
    rights.assume()?;
    serve_control(&control);
    Ok(())
}

fn serve_control(control: &OwnedFd) {
    while let Ok(Some((_, connection))) = receive(control, &mut [0]) {
        if let Some(connection) = connection {
            // The agent sees it where there is no thread for it: the connection is closed then.
            let _ = threads::try_spawn(move || serve_thread(&connection));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{MetadataExt, PermissionsExt},
        path::{Path, PathBuf},
        sync::Arc,
        time::Duration,
    };

    use rustix::{
        net::{Shutdown, shutdown},
        process::geteuid,
    };

    use super::*;
    use crate::files::{Entry, JobFiles, View, Workers, Writable, open_root};

    const NOBODY: u32 = 65534;

    /// A directory of nobody's in which root has `secret`; `None` where there is no root.
    fn stage(name: &str) -> Option<(PathBuf, View)> {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can become others");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("vmjob-helper-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::write(dir.join("secret"), "secret").unwrap();
        fs::set_permissions(dir.join("secret"), Permissions::from_mode(0o600)).unwrap();
        let view = View::of_dir(open_root(&dir, &Writable::default()).unwrap());
        Some((dir, view))
    }

    #[tokio::test]
    async fn files_are_opened_made_and_named_by_the_user_and_by_no_other() {
        let Some((dir, view)) = stage("user") else { return };
        let rights = Rights::of(NOBODY, NOBODY, &[NOBODY]);
        let files = JobFiles::new(view, Workers::new(rights, Duration::from_secs(20), &Arc::default()));
        let denied = files.look(Path::new("secret")).await.unwrap_err();
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied, "{denied}");
        assert_eq!(files.look(Path::new("nothing")).await.unwrap_err().kind(), io::ErrorKind::NotFound);

        files.make_dirs(Path::new("a/b"), 0o750).await.unwrap();
        let new = files.create(Path::new("a/b/new"), "part".into()).await.unwrap();
        let kept = Arc::clone(&new);
        files.workers.run(Path::new("new"), move || kept.keep()).await.unwrap();
        let made = |path: &str| dir.join(path).metadata().map(|made| (made.uid(), made.mode() & 0o777)).unwrap();
        assert_eq!((made("a/b"), made("a/b/new")), ((NOBODY, 0o750), (NOBODY, 0o644)));
        assert!(matches!(files.look(Path::new("a/b/new")).await, Ok(Entry::File(_))));
        let thrown = files.create(Path::new("thrown"), "part".into()).await.unwrap();
        files.workers.run(Path::new("thrown"), move || thrown.discard()).await.unwrap();

        let (mut walk, mut found) = (files.walk(Path::new("")).await.unwrap(), Vec::new());
        while let (next, Some(file)) = files.next(walk).await.unwrap() {
            walk = next;
            found.push((file.path, file.file.is_ok()));
        }
        found.sort();
        assert_eq!(found, [("a/b/new".into(), true), ("secret".into(), false)]);
        assert_eq!((geteuid().as_raw(), made("secret").0), (0, 0), "the agent is who it was");
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_helper_that_ends_is_followed_by_another_but_not_for_ever() {
        let Some((dir, view)) = stage("ends") else { return };
        let helpers = Helpers::of(&Rights::of(NOBODY, NOBODY, &[NOBODY]));
        for start in 1..=MAX_STARTS {
            let one = helpers.connect().unwrap();
            helpers.connect().unwrap();
            let mut now = helpers.now.lock().unwrap();
            assert_eq!(now.starts, start, "two threads have one helper");
            shutdown(now.control.as_mut().unwrap(), Shutdown::Both).unwrap();
            drop(one);
        }
        let error = helpers.connect().unwrap_err().to_string();
        assert!(error.starts_with("no process got the rights of the job's user (65534)"), "{error}");
        drop(view);
        fs::remove_dir_all(dir).unwrap();
    }
}
