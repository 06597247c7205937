//! The last step before the job's program: a process that has everything of the job's but the program. Once told to go on, it
//! becomes that. What goes wrong is told through its standard input, which is a socket to the shim.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::Command,
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Pid, Signal, getppid, set_parent_process_death_signal, setsid},
    stdio::{dup2_stdin, stdin},
    thread::set_no_new_privs,
};

use super::{
    files::{Files, ProcessSpec},
    user::User,
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the job of `dir`.
///
/// # Errors
/// What keeps it from that; the shim has been told.
pub fn exec(dir: &Path) -> io::Error {
    let parent = getppid();
    let mut shim = match take_over_stdin() {
        Ok(shim) => shim,
        Err(error) => return error,
    };
    // Without the word to go on, the shim is gone: nobody would know of the job.
    let mut word = [0];
    if let Err(error) = shim.read_exact(&mut word) {
        return error;
    }
    let mut secrets = String::new();
    if let Err(error) = shim.read_to_string(&mut secrets) {
        return error;
    }
    let error = match prepare(dir, parent, &secrets) {
        Ok(mut command) => {
            let error = command.exec();
            io::Error::new(error.kind(), format!("{}: {error}", command.get_program().display()))
        }
        Err(error) => error,
    };
    let _ = shim.write_all(error.to_string().as_bytes());
    error
}

/// The socket, closed as the program begins, with `/dev/null` in its old place.
fn take_over_stdin() -> io::Result<UnixStream> {
    let socket: OwnedFd = fcntl_dupfd_cloexec(stdin(), 3)?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}

fn prepare(dir: &Path, shim: Option<Pid>, secrets: &str) -> io::Result<Command> {
    let spec = Files::new(dir).spec()?;
    setsid()?;
    let user = User::named(spec.user.as_deref())?;
    user.become_it()?;
    // After the change of user, which undoes it. No job without a shim.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != shim {
        return Err(io::Error::other("the shim is gone"));
    }
    if spec.no_new_privileges {
        set_no_new_privs(true)?;
    }
    let ProcessSpec { command, env, workdir, .. } = spec;
    let secrets: BTreeMap<String, String> =
        if secrets.is_empty() { BTreeMap::new() } else { serde_json::from_str(secrets)? };
    let (program, args) = command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let workdir = workdir.as_deref().unwrap_or("/");
    std::env::set_current_dir(workdir).map_err(|error| io::Error::new(error.kind(), format!("{workdir}: {error}")))?;
    let mut prepared = Command::new(program);
    prepared
        .args(args)
        .env_clear()
        .envs([
            ("PATH", PATH),
            ("HOME", &user.home),
            ("USER", &user.name),
            ("LOGNAME", &user.name),
            ("SHELL", &user.shell),
        ])
        .envs(secrets)
        .envs(env);
    Ok(prepared)
}
