//! With whose rights a file is opened: those of the agent, or those of the job's user.

use std::{fmt, io};

use rustix::{
    process::{Gid, Uid, getegid, geteuid, getgid, getuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use serde::{Deserialize, Serialize};

/// The group of those whose own is not known; nothing belongs to it. Source: Linux `kernel.overflowgid`.
const NO_GROUP: u32 = 65534;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rights {
    /// The agent's own: of root, unless a person runs it.
    Agent,
    User {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
}

impl Rights {
    /// Those of a user and its groups. An agent that is not root can have no other rights than its own, nor can its jobs.
    pub fn of(uid: u32, gid: u32, groups: &[u32]) -> Self {
        if uid == 0 || !geteuid().is_root() {
            return Self::Agent;
        }
        Self::User { uid, gid, groups: groups.to_vec() }
    }

    /// Those of the user of a container, `UID` or `UID:GID`. A name stands in the image alone: there it is root's, or nobody knows.
    pub fn of_container(user: &str) -> Option<Self> {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        if matches!(user, "" | "root") {
            return Some(Self::Agent);
        }
        let gid = group.parse().unwrap_or(NO_GROUP);
        Some(Self::of(user.parse().ok()?, gid, &[gid]))
    }

    /// Gives the calling thread, and no other, these rights for as long as it lives: with another user than root it loses its
    /// capabilities, by which it could read everything (`capabilities(7)`).
    pub fn assume(&self) -> io::Result<()> {
        match self {
            Self::Agent => Ok(()),
            Self::User { uid, gid, groups } => become_user(*uid, *gid, groups),
        }
    }
}

/// Makes the calling thread this user's.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    if (getuid(), geteuid(), getgid(), getegid()) != (uid, uid, gid, gid) {
        return Err(io::Error::other(format!("the user did not become {}", uid.as_raw())));
    }
    Ok(())
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("the agent"),
            Self::User { uid, .. } => write!(f, "the job's user ({uid})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_s_user_is_a_number_or_root() {
        let user = |uid, gid| Some(Rights::of(uid, gid, &[gid]));
        for (text, rights) in [
            ("", Some(Rights::Agent)),
            ("root", Some(Rights::Agent)),
            ("0", Some(Rights::Agent)),
            ("0:1000", Some(Rights::Agent)),
            ("root:root", Some(Rights::Agent)),
            ("1000", user(1000, NO_GROUP)),
            ("1000:100", user(1000, 100)),
            ("1000:users", user(1000, NO_GROUP)),
            ("nginx", None),
            ("-1", None),
        ] {
            assert_eq!(Rights::of_container(text), rights, "{text:?}");
        }
    }
}
