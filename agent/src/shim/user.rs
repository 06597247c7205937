//! Whom the job runs as: looked up in the machine's own files, as a static program has no other way.
//! Source: `passwd(5)`, `group(5)`.

use std::{io, path::Path};

use crate::{
    files::{Rights, become_user},
    plain_file,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) home: String,
    pub(super) shell: String,
    pub(super) uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// As far as they have names.
    pub(super) group_names: Vec<String>,
    /// Nothing has to be changed.
    is_caller: bool,
}

impl User {
    /// The user that `text` names (`NAME`, `UID`, either with `:GROUP`); root where it names nobody.
    pub(super) fn named(text: Option<&str>) -> io::Result<Self> {
        let read = |path: &str| plain_file::read_system(Path::new(path)).unwrap_or_default();
        let user = Self::find(text.unwrap_or("root"), &read("/etc/passwd"), &read("/etc/group"));
        Ok(Self { is_caller: text.is_none(), ..user.map_err(io::Error::other)? })
    }

    pub(super) fn find(text: &str, passwd: &str, group: &str) -> Result<Self, String> {
        let (name, group_name) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
        let entry = lines(passwd, 7).find(|fields| fields[0] == name || fields[2] == name);
        let uid = match &entry {
            Some(fields) => number(fields[2]),
            None => number(name),
        };
        let uid = uid.ok_or_else(|| format!("there is no user {name:?} on this machine"))?;
        let gid = match group_name {
            Some(group_name) => lines(group, 4)
                .find(|fields| fields[0] == group_name)
                .map_or_else(|| number(group_name), |fields| number(fields[2]))
                .ok_or_else(|| format!("there is no group {group_name:?} on this machine"))?,
            None => entry.as_ref().and_then(|fields| number(fields[3])).unwrap_or(uid),
        };
        let name = entry.as_ref().map_or_else(|| uid.to_string(), |fields| fields[0].to_owned());
        let is_member = |fields: &Vec<&str>| fields[3].split(',').any(|member| member == name);
        let mut groups: Vec<u32> = lines(group, 4).filter(is_member).filter_map(|fields| number(fields[2])).collect();
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        let is_ours = |fields: &Vec<&str>| number(fields[2]).is_some_and(|gid| groups.contains(&gid));
        let group_names = lines(group, 4).filter(is_ours).map(|fields| fields[0].to_owned()).collect();
        let field = |index: usize, default: &str| {
            entry.as_ref().map(|fields| fields[index]).filter(|text| !text.is_empty()).unwrap_or(default).to_owned()
        };
        let (home, shell) = (field(5, "/"), field(6, "/bin/sh"));
        Ok(Self { name, home, shell, uid, gid, groups, group_names, is_caller: false })
    }

    /// Makes the calling thread, which is to be the process's only one, this user's.
    pub(super) fn become_it(&self) -> io::Result<()> {
        if self.is_caller { Ok(()) } else { become_user(self.uid, self.gid, &self.groups) }
    }

    pub(super) fn rights(&self) -> Rights {
        if self.is_caller { Rights::Agent } else { Rights::of(self.uid, self.gid, &self.groups) }
    }
}

/// The lines that have all their fields.
fn lines(text: &str, fields: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(move |line| line.len() >= fields)
}

/// As the kernel takes it: the largest number of 32 bits means "as it is" to `setresuid(2)`, and a sign is not for a number.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|id| is_plain && *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\njob:x:1000:1001::/home/job:/bin/sh\nbare:x:7:7:::\nbroken\n";
    const GROUP: &str = "root:x:0:\njobs:x:1001:\ndocker:x:999:job,other\nbroken:x\n";

    #[test]
    fn a_user_is_found_by_name_or_number_and_with_a_group() {
        let cases = [
            ("job", "job", 1000, 1001, vec![999, 1001], "/home/job"),
            ("1000", "job", 1000, 1001, vec![999, 1001], "/home/job"),
            ("job:docker", "job", 1000, 999, vec![999], "/home/job"),
            ("job:5", "job", 1000, 5, vec![5, 999], "/home/job"),
            ("bare", "bare", 7, 7, vec![7], "/"),
            ("4711", "4711", 4711, 4711, vec![4711], "/"),
            ("4711:jobs", "4711", 4711, 1001, vec![1001], "/"),
        ];
        for (text, name, uid, gid, groups, home) in cases {
            let user = User::find(text, PASSWD, GROUP).unwrap();
            assert_eq!((user.name.as_str(), user.uid, user.gid, user.home.as_str()), (name, uid, gid, home), "{text}");
            assert_eq!(user.groups, groups, "{text}");
            assert_eq!(user.group_names.contains(&"docker".to_owned()), groups.contains(&999), "{text}");
        }
    }

    #[test]
    fn who_is_not_there_is_named() {
        assert_eq!(User::find("nobody", PASSWD, GROUP).unwrap_err(), "there is no user \"nobody\" on this machine");
        assert_eq!(User::find("job:x", PASSWD, GROUP).unwrap_err(), "there is no group \"x\" on this machine");
        let passwd = "odd:x:4294967295:0:::\nplus:x:+5:0:::\nwide:x:5:4294967295:::\n";
        for text in
            ["4294967295", "4294967295:0", "+5", "-1", "00", "odd", "plus", "5:4294967295", "5:+0", "4294967296"]
        {
            assert!(User::find(text, passwd, GROUP).is_err(), "{text}");
        }
        assert_eq!(User::find("4294967294", passwd, GROUP).unwrap().uid, 4_294_967_294);
    }
}
