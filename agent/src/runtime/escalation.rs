//! Whether a user of the VM may become root by what its administrator wrote: `sudo`, `doas`, polkit. In: a user, and the files below
//! `root`. Out: which file lets them. What cannot be read, or is not understood, does.
//! Source: `sudoers(5)`, `sudo.conf(5)`, `doas.conf(5)`, `polkit(8)`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::plain_file;

const SUDOERS: [&str; 3] = ["etc/sudoers", "etc/sudoers-rs", "usr/local/etc/sudoers"];
const DOAS: [&str; 2] = ["etc/doas.conf", "usr/local/etc/doas.conf"];
const DOAS_DIR: &str = "etc/doas.d";
const POLKIT: [&str; 7] = [
    "etc/polkit-1/rules.d",
    "run/polkit-1/rules.d",
    "usr/local/share/polkit-1/rules.d",
    "usr/share/polkit-1/rules.d",
    "etc/polkit-1/localauthority.conf.d",
    "etc/polkit-1/localauthority",
    "var/lib/polkit-1/localauthority",
];
/// As many files as `sudo` and polkit have at most here.
const MOST_FILES: usize = 1000;

pub(super) struct User<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) uid: u32,
    pub(super) groups: &'a [String],
}

/// Where it is written that the user may be root, or may be.
pub(super) fn lets_be_root(root: &Path, user: &User) -> Option<String> {
    let mut search = Search { root, user, files: 0 };
    let found = search.sudo().and_then(|()| search.doas()).and_then(|()| search.polkit());
    found.err()
}

struct Search<'a> {
    root: &'a Path,
    user: &'a User<'a>,
    files: usize,
}

/// A text that is harmless, or what may not be.
type Harmless = Result<(), String>;

impl Search<'_> {
    fn sudo(&mut self) -> Harmless {
        let conf = self.read("etc/sudo.conf".as_ref())?;
        if lines(&conf).any(|line| line.starts_with("Plugin") && !line.contains("sudoers")) {
            return Err("/etc/sudo.conf, which has a plug-in that is not sudoers,".into());
        }
        let nsswitch = self.read("etc/nsswitch.conf".as_ref())?;
        let sources = lines(&nsswitch).find_map(|line| line.strip_prefix("sudoers:"));
        if sources.is_some_and(|sources| sources.trim() != "files") {
            return Err("/etc/nsswitch.conf, by which sudo asks others than its files,".into());
        }
        let mut files = SUDOERS.map(PathBuf::from).to_vec();
        while let Some(file) = files.pop() {
            self.sudoers(&file, &mut files)?;
        }
        Ok(())
    }

    /// `others` gets what is included.
    fn sudoers(&mut self, file: &Path, others: &mut Vec<PathBuf>) -> Harmless {
        let text = self.read(file)?.replace("\\\n", " ");
        for line in text.lines().map(str::trim) {
            let unclear = || format!("/{}, in a line that is not understood,", file.display());
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            match word {
                "@include" | "#include" => others.push(included(file, rest).ok_or_else(unclear)?),
                "@includedir" | "#includedir" => {
                    let dir = included(file, rest).ok_or_else(unclear)?;
                    let is_read = |name: &str| !name.contains('.') && !name.ends_with('~');
                    others.extend(self.in_dir(&dir, is_read)?);
                }
                _ if is_comment(line) || is_default(word) => {}
                "Host_Alias" | "Runas_Alias" | "Cmnd_Alias" | "Cmd_Alias" => {}
                "User_Alias" => {
                    let aliases = rest.split(':').map(|alias| alias.split_once('=').map(|(_, users)| users));
                    aliases.into_iter().try_for_each(|users| self.sudo_users(file, users.unwrap_or("?")))?;
                }
                _ => self.sudo_users(file, &first_list(line))?,
            }
        }
        Ok(())
    }

    /// Each is somebody else for sure.
    fn sudo_users(&self, file: &Path, users: &str) -> Harmless {
        for user in users.split(',').map(str::trim) {
            let is_other = match user.strip_prefix('%') {
                Some(group) => is_name(group) && !self.is_own_group(group),
                None => match user.strip_prefix('#') {
                    Some(uid) => uid.parse::<u32>().is_ok_and(|uid| uid != self.user.uid),
                    None => is_name(user) && user != "ALL" && !self.is_own_name(user),
                },
            };
            if !is_other {
                return Err(format!("/{}", file.display()));
            }
        }
        Ok(())
    }

    fn doas(&mut self) -> Harmless {
        let mut files = DOAS.map(PathBuf::from).to_vec();
        files.extend(
            self.in_dir(DOAS_DIR.as_ref(), |name| Path::new(name).extension().is_some_and(|end| end == "conf"))?,
        );
        for file in files {
            let text = self.read(&file)?.replace("\\\n", " ");
            for line in lines(&text).filter(|line| !line.starts_with("deny")) {
                let without_variables =
                    line.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?.1)));
                let (before, after) = without_variables.unwrap_or((line, ""));
                let mut words = before.split_whitespace().chain(after.split_whitespace());
                let is_option =
                    |word: &&str| matches!(*word, "permit" | "nopass" | "nolog" | "persist" | "keepenv" | "setenv");
                let who = words.find(|word| !is_option(word)).unwrap_or("?");
                let is_other = match who.strip_prefix(':') {
                    Some(group) => is_name(group) && !self.is_own_group(group),
                    None => is_name(who) && !self.is_own_name(who) && who.parse() != Ok(self.user.uid),
                };
                if !is_other {
                    return Err(format!("/{}", file.display()));
                }
            }
        }
        Ok(())
    }

    /// Rules are programs: those that name the user, or a group of theirs, are not judged.
    fn polkit(&mut self) -> Harmless {
        let mut dirs: Vec<PathBuf> = POLKIT.iter().map(PathBuf::from).collect();
        while let Some(dir) = dirs.pop() {
            for file in self.in_dir(&dir, |_| true)? {
                if self.root.join(&file).is_dir() {
                    dirs.push(file);
                    continue;
                }
                let text = self.read(&file)?;
                let text = lines(&text).filter(|line| !line.starts_with("//")).collect::<Vec<_>>().join("\n");
                let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
                if text.split(|c| !is_part(c)).any(|word| self.is_own_name(word) || self.is_own_group(word)) {
                    return Err(format!("/{}", file.display()));
                }
            }
        }
        Ok(())
    }

    /// `sudo` compares so by default.
    fn is_own_name(&self, name: &str) -> bool {
        self.user.name.is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    fn is_own_group(&self, name: &str) -> bool {
        self.user.groups.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    fn read(&mut self, file: &Path) -> Result<String, String> {
        self.count(file)?;
        plain_file::read_system(&self.root.join(file))
            .map_err(|error| format!("/{}, which cannot be read ({error}),", file.display()))
    }

    fn count(&mut self, file: &Path) -> Harmless {
        self.files += 1;
        let problem = || Err(format!("/{}, behind more files than are read,", file.display()));
        if self.files > MOST_FILES { problem() } else { Ok(()) }
    }

    fn in_dir(&mut self, dir: &Path, is_read: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, String> {
        self.count(dir)?;
        let entries = match fs::read_dir(self.root.join(dir)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            entries => entries.map_err(|error| format!("/{}, which cannot be read ({error}),", dir.display()))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.filter(|name| is_read(name)).map(|name| dir.join(name)).collect())
    }
}

/// A comment begins with `#`, but for a user's number.
fn is_comment(line: &str) -> bool {
    line.is_empty() || line.strip_prefix('#').is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `Defaults`, or of some hosts, users or commands; a user may be called so too.
fn is_default(word: &str) -> bool {
    word.strip_prefix("Defaults").is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', ':', '!', '>']))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The list that a line begins with: it ends with a space that is not beside a comma.
fn first_list(line: &str) -> String {
    let parts: Vec<&str> = line.split(',').map(str::trim).collect();
    let last = parts.iter().position(|part| part.contains(char::is_whitespace)).unwrap_or(parts.len() - 1);
    let end = parts[last].split_whitespace().next().unwrap_or_default();
    parts[..last].iter().chain([&end]).copied().collect::<Vec<_>>().join(",")
}

/// The path below the root, as far as it has no characters with a meaning.
fn included(by: &Path, path: &str) -> Option<PathBuf> {
    let path = path.trim().trim_matches('"');
    let is_plain = !path.is_empty() && !path.contains(['\\', '%', '"']);
    let path = by.parent()?.join(path);
    is_plain.then(|| path.strip_prefix("/").map_or(path.clone(), Path::to_owned))
}

/// Whether it is one name, with nothing that means more.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_named_by_sudo_doas_or_polkit_or_may_be_is_as_good_as_root() {
        let harmless = "# job ALL=(ALL) ALL\nDefaults env_reset\nDefaults:job !lecture\nroot ALL=(ALL:ALL) ALL\n%sudo\tALL=(ALL) ALL\n\
                        Cmnd_Alias JOB = /bin/job\nUser_Alias OPS = ann, bob : DEV = #77, %devs\nOPS, ann , #78 ALL = JOB, /bin/x\n";
        let cases: &[(&str, &str, bool)] = &[
            ("etc/sudoers", harmless, false),
            ("etc/sudoers", "job ALL=(ALL) ALL", true),
            ("etc/sudoers", "Defaults,job ALL=(ALL) ALL", true),
            ("etc/sudoers", "JOB ALL=(ALL) ALL", true),
            ("etc/sudoers", "ann,job ALL=(ALL) ALL", true),
            ("etc/sudoers", "ann , \\\n job ALL=(ALL) ALL", true),
            ("etc/sudoers", "#1000 ALL=(ALL) ALL", true),
            ("etc/sudoers", "#1001 ALL=(ALL) ALL", false),
            ("etc/sudoers", "ALL ALL=(ALL) NOPASSWD: /bin/x", true),
            ("etc/sudoers", "+ops ALL=(ALL) ALL", true),
            ("etc/sudoers", "%jobs ALL=(ALL) ALL", true),
            ("etc/sudoers", "%#1000 ALL=(ALL) ALL", true),
            ("etc/sudoers", "%:nt\\ users ALL=(ALL) ALL", true),
            ("etc/sudoers", "!ann ALL=(ALL) ALL", true),
            ("etc/sudoers", "\"job\" ALL=(ALL) ALL", true),
            ("etc/sudoers", "j\\ob ALL=(ALL) ALL", true),
            ("etc/sudoers", "User_Alias OPS = ann, job\nOPS ALL=(ALL) ALL", true),
            ("etc/sudoers", "User_Alias A = ann : B = bob, job", true),
            ("etc/sudoers", "@include /etc/%h", true),
            ("etc/sudoers.d/90-job", "job ALL=(ALL) NOPASSWD:ALL", true),
            ("etc/sudoers.d/90-ann", "ann ALL=(ALL) NOPASSWD:ALL", false),
            ("etc/sudoers.d/90.not", "job ALL=(ALL) NOPASSWD:ALL", false),
            ("etc/more", "job ALL=(ALL) ALL", true),
            ("etc/nsswitch.conf", "passwd: files ldap\nsudoers: files sss", true),
            ("etc/nsswitch.conf", "passwd: files ldap\nsudoers: files\n", false),
            ("etc/sudo.conf", "Plugin other_policy other.so", true),
            ("etc/sudo.conf", "Plugin sudoers_policy sudoers.so", false),
            ("etc/doas.conf", "permit persist keepenv :wheel\npermit nopass ann as root\ndeny job", false),
            ("etc/doas.conf", "permit nopass setenv { A=1 -B } job as root cmd /bin/x", true),
            ("etc/doas.conf", "permit :jobs", true),
            ("etc/doas.d/a.conf", "permit 1000", true),
            ("etc/polkit-1/rules.d/a.rules", "// job\nif (subject.isInGroup(\"sudo\")) { return 'yes'; }", false),
            ("etc/polkit-1/rules.d/a.rules", "if (subject.user == 'job') { return 'yes'; }", true),
            ("usr/share/polkit-1/rules.d/a.rules", "return [\"unix-group:jobs\"];", true),
            ("etc/polkit-1/localauthority/50-local.d/a.pkla", "Identity=unix-user:job", true),
        ];
        let root = std::env::temp_dir().join(format!("vmjob-escalation-{}", std::process::id()));
        let groups = ["jobs".to_owned()];
        for (file, text, is_strong) in cases {
            let put = |file: &str, text: &str| {
                fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
                fs::write(root.join(file), text).unwrap();
            };
            put("etc/sudoers", "root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n#include more\n");
            put(file, text);
            let found = lets_be_root(&root, &User { name: Some("job"), uid: 1000, groups: &groups });
            assert_eq!(found.is_some(), *is_strong, "{file}: {text}: {found:?}");
            fs::remove_dir_all(&root).unwrap();
        }
        let nobody = User { name: None, uid: 4711, groups: &[] };
        assert_eq!(lets_be_root(&root, &nobody), None);
        fs::create_dir_all(root.join("etc/sudoers")).unwrap();
        assert!(lets_be_root(&root, &nobody).unwrap().contains("not a regular file"));
        fs::remove_dir_all(&root).unwrap();
        // A file that includes itself has an end.
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/sudoers"), "@include /etc/sudoers").unwrap();
        assert!(lets_be_root(&root, &nobody).unwrap().contains("more files"));
        fs::remove_dir_all(&root).unwrap();
    }
}
