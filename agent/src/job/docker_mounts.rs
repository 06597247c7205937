//! The three ways in which `docker run` mounts: `-v`, `--mount`, `--tmpfs`.
//!
//! In: the text after the flag. Out: a [`Mount`], or what it asks for that a job-spec cannot say.

use super::checks;
use super::docker_values::comma_separated;
use super::error::{Problem, did_you_mean, quote};
use super::types::{Mount, MountKind};
use super::{flags, units};

const MOUNT_KEYS: [&str; 10] =
    ["type", "source", "src", "target", "destination", "dst", "readonly", "ro", "tmpfs-size", "consistency"];

const NO_TMPFS_MODE: &str = "leave it out: a tmpfs has the mode 1777, which the job can change by chmod";
const NO_PROPAGATION: &str = "leave it out: what is mounted in the VM later is not seen in a job";
const NO_DRIVER: &str = "leave it out: a job's volumes are of the driver local";

/// Keys of `--mount` that Docker knows and a job does not have, and what to do about each.
const OTHER_MOUNT_KEYS: [(&str, &str); 12] = [
    ("tmpfs-mode", NO_TMPFS_MODE),
    ("bind-propagation", NO_PROPAGATION),
    ("bind-recursive", "leave it out"),
    ("bind-nonrecursive", "leave it out"),
    ("bind-create-src", "use -v, which makes the directory"),
    ("volume-driver", NO_DRIVER),
    ("volume-opt", NO_DRIVER),
    ("volume-label", "leave it out"),
    ("volume-nocopy", "leave it out: a new volume gets what the image has there"),
    ("volume-subpath", "mount the whole volume"),
    ("image-subpath", "use bind, volume or tmpfs"),
    ("mode", NO_TMPFS_MODE),
];

fn no_volume_option(option: &str) -> Problem {
    let fix = match option {
        "shared" | "rshared" | "slave" | "rslave" => NO_PROPAGATION,
        "nocopy" => "leave it out: a new volume gets what the image has there",
        "O" | "U" => "leave it out: it is Podman's",
        "noexec" | "nosuid" | "nodev" | "exec" => "leave it out: the VM's own mount of the directory decides it",
        _ => "use ro or rw",
    };
    no_option(option, fix)
}

/// `/host:/target`, `name:/target`, `/target`, each with options after one more colon.
/// <https://docs.docker.com/engine/storage/volumes/#options-for---volume>
pub(super) fn volume(text: &str, ignored: &mut Vec<String>) -> Result<Mount, Problem> {
    let parts: Vec<&str> = text.split(':').collect();
    if let [drive, _, ..] = parts[..]
        && drive.len() == 1
        && drive.bytes().all(|b| b.is_ascii_alphabetic())
    {
        return Err(Problem::new(format!("{} begins with a path of Windows, and the VM has Linux", quote(text)))
            .fix(VOLUME_EXAMPLE));
    }
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => {
            return Err(Problem::new(format!("{} has too many colons", quote(text))).fix(VOLUME_EXAMPLE));
        }
    };
    let kind = match source {
        None => MountKind::Volume { source: None },
        Some(path) if path.starts_with('/') => MountKind::Bind { source: path.to_owned(), create: true },
        Some(name) => MountKind::Volume { source: Some(checks::volume_name(name)?) },
    };
    let mut mount = Mount { kind, target: checks::mount_target(target)?, read_only: false };
    let mut has_mode = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "rw" if !has_mode => (mount.read_only, has_mode) = (option == "ro", true),
            "cached" | "delegated" | "consistent" => {
                ignored.push(format!("the mount option {option} is ignored: it only has a meaning on a Mac"));
            }
            "z" | "Z" => ignored.push(format!(
                "the mount option {option} is ignored: it relabels files for SELinux, which Google's images do not enforce; \
                 elsewhere use chcon in the VM"
            )),
            // What an engine does anyway.
            "rprivate" | "private" => {}
            "ro" | "rw" => return Err(Problem::new("the mount is to be both ro and rw").fix("write one of the two")),
            _ => return Err(no_volume_option(option)),
        }
    }
    Ok(mount)
}

const VOLUME_EXAMPLE: &str = "write for example /mnt/disks/data:/data:ro";

/// `type=bind,source=/host,target=/target,readonly`; without a type, a volume.
/// <https://docs.docker.com/reference/cli/docker/container/run/#mount>
pub(super) fn mount(text: &str, ignored: &mut Vec<String>) -> Result<Mount, Problem> {
    let (mut kind, mut source, mut target, mut size, mut read_only) = ("volume".to_owned(), None, None, None, false);
    for field in comma_separated(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("readonly" | "ro", value) => read_only = value.map_or(Ok(true), flags::boolean)?,
            ("type", Some(value)) => kind = value.to_ascii_lowercase(),
            ("source" | "src", Some(value)) => source = Some(value.to_owned()),
            ("target" | "destination" | "dst", Some(value)) => {
                target = Some(checks::mount_target(value)?);
            }
            ("tmpfs-size", Some(value)) => {
                size = Some(checks::shm_size(units::parse_size(value)?)?);
            }
            ("consistency", Some(_)) => {
                ignored.push("the mount option consistency is ignored: it only has a meaning on a Mac".to_owned());
            }
            // The engine's own default.
            ("tmpfs-mode", Some("1777" | "01777")) | ("bind-propagation", Some("rprivate" | "private")) => {}
            ("", None) => {
                return Err(Problem::new("nothing stands between two commas, or after the last")
                    .fix("write the options without a space and without a comma at the end"));
            }
            (key, _) if MOUNT_KEYS.contains(&key) => {
                return Err(Problem::new(format!("{} is not key=value", quote(&field))).fix(MOUNT_EXAMPLE));
            }
            (key, _) => {
                let known = OTHER_MOUNT_KEYS.iter().find(|(known, _)| *known == key).map(|(_, fix)| (*fix).to_owned());
                let meant = did_you_mean(key, MOUNT_KEYS).map(|meant| format!("did you mean {meant}?"));
                return Err(no_option(key, &known.or(meant).unwrap_or_else(|| MOUNT_EXAMPLE.to_owned())));
            }
        }
    }
    let target = target.ok_or_else(|| Problem::new("there is no target").fix(MOUNT_EXAMPLE))?;
    if size.is_some() && kind != "tmpfs" {
        return Err(Problem::new("only a tmpfs has a size"));
    }
    let kind = match (kind.as_str(), source) {
        ("bind", Some(source)) => MountKind::Bind { source: checks::absolute_path(&source)?, create: false },
        ("bind", None) => {
            return Err(Problem::new("a bind mount needs a source").fix(MOUNT_EXAMPLE));
        }
        ("volume", Some(path)) if path.starts_with('/') => {
            return Err(Problem::new(format!("{} is a directory, and the mount is of type volume", quote(&path)))
                .fix("write type=bind"));
        }
        ("volume", source) => {
            let source = source.filter(|name| !name.is_empty());
            MountKind::Volume { source: source.map(|name| checks::volume_name(&name)).transpose()? }
        }
        ("tmpfs", None) => MountKind::Tmpfs { size },
        ("tmpfs", Some(_)) => return Err(Problem::new("a tmpfs has no source")),
        (kind, _) => {
            return Err(Problem::new(format!("the mount type {} has no counterpart in a job", quote(kind)))
                .fix("use bind, volume or tmpfs"));
        }
    };
    Ok(Mount { kind, target, read_only })
}

const MOUNT_EXAMPLE: &str = "write for example type=bind,source=/mnt/disks/data,target=/data";

/// `/target` or `/target:size=1g,ro`.
pub(super) fn tmpfs(text: &str) -> Result<Mount, Problem> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let target = checks::mount_target(target)?;
    let (mut size, mut read_only) = (None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", bytes)) => size = Some(checks::shm_size(units::parse_size(bytes)?)?),
            _ => match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                // What the engine does anyway.
                "noexec" | "nosuid" | "nodev" | "mode=1777" | "mode=01777" => {}
                "exec" => {
                    return Err(no_option(
                        option,
                        "leave it out, and run programs from a directory of the VM: -v /mnt/disks/data:/data",
                    ));
                }
                _ if option.starts_with("mode=") => return Err(no_option("mode", NO_TMPFS_MODE)),
                _ if option.starts_with("uid=") || option.starts_with("gid=") => {
                    return Err(no_option(&option[..3], NO_TMPFS_MODE));
                }
                _ => return Err(no_option(option, "use size, ro or rw")),
            },
        }
    }
    Ok(Mount { kind: MountKind::Tmpfs { size }, target, read_only })
}

/// As Docker has it: of equal mounts there is one, of several `--tmpfs` the last counts, and an anonymous volume gives way to what
/// else is on its target.
pub(super) fn add(mounts: &mut Vec<Mount>, mount: Mount) -> Result<(), Problem> {
    let is_anonymous = |mount: &Mount| mount.kind == MountKind::Volume { source: None };
    let is_tmpfs = |mount: &Mount| matches!(mount.kind, MountKind::Tmpfs { .. });
    match mounts.iter_mut().find(|other| checks::bare(&other.target) == checks::bare(&mount.target)) {
        None => mounts.push(mount),
        Some(other) if is_anonymous(other) || (is_tmpfs(other) && is_tmpfs(&mount)) => *other = mount,
        Some(other) if is_anonymous(&mount) || *other == mount => {}
        Some(_) => return Err(checks::taken_target(&mount.target)),
    }
    Ok(())
}

fn no_option(option: &str, fix: &str) -> Problem {
    Problem::new(format!("the mount option {} has no counterpart in a job", quote(option))).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str, create: bool) -> MountKind {
        MountKind::Bind { source: source.to_owned(), create }
    }

    fn named(name: &str) -> MountKind {
        MountKind::Volume { source: Some(name.to_owned()) }
    }

    #[test]
    fn mounts_as_docker_reads_them() {
        let anonymous = MountKind::Volume { source: None };
        let cases = [
            ("-v", "/a:/x", bind("/a", true), false),
            ("-v", "/a:/x:ro,cached", bind("/a", true), true),
            ("-v", "data:/x:rw", named("data"), false),
            ("-v", "/a:/x:ro,z", bind("/a", true), true),
            ("-v", "/a:/x:Z,rprivate", bind("/a", true), false),
            ("--mount", "type=tmpfs,dst=/x,tmpfs-mode=1777", MountKind::Tmpfs { size: None }, false),
            ("-v", "/x", anonymous.clone(), false),
            ("--mount", "type=bind,source=/a,target=/x,readonly", bind("/a", false), true),
            ("--mount", "src=data,dst=/x,ro=false", named("data"), false),
            ("--mount", "src=data,dst=/x,readonly=TRUE", named("data"), true),
            ("--mount", "src=data,dst=/x,readonly=t", named("data"), true),
            ("--mount", "destination=/x", anonymous, false),
            ("--mount", "\"type=bind\",\"source=/a,b\",target=/x", bind("/a,b", false), false),
            ("--mount", "type=tmpfs,target=/x,tmpfs-size=64m", MountKind::Tmpfs { size: Some(64 << 20) }, false),
            ("--tmpfs", "/x", MountKind::Tmpfs { size: None }, false),
            ("--tmpfs", "/x:rw,noexec,size=1g", MountKind::Tmpfs { size: Some(1 << 30) }, false),
        ];
        for (flag, text, kind, read_only) in cases {
            let mount = read(flag, text).unwrap();
            assert_eq!(mount, Mount { kind, target: "/x".to_owned(), read_only }, "{flag} {text}");
        }
    }

    #[test]
    fn what_a_job_cannot_say_is_named() {
        let cases = [
            ("-v", "./a:/x", r#""./a" is neither a volume name nor an absolute path"#),
            ("-v", "_:x", "volume name"),
            ("-v", "aa:x", r#"expected an absolute path, found "x""#),
            ("-v", "/a:/b:/c:ro", "too many colons"),
            ("-v", "/a:/b:rw,ro", "both ro and rw"),
            ("-v", "/a:/", r#""/" is the whole container"#),
            ("-v", "/a:/b:ro,x", r#"the mount option "x" has no counterpart in a job; use ro or rw"#),
            ("-v", "/a:/b:rshared", r#""rshared" has no counterpart in a job; leave it out: what is mounted"#),
            ("-v", "v1:/b:nocopy", r#""nocopy" has no counterpart in a job; leave it out"#),
            ("-v", "C:/a:/b", r#""C:/a:/b" begins with a path of Windows"#),
            ("-v", "", "expected an absolute path"),
            ("--mount", "type=bind,target=/x", "needs a source"),
            ("--mount", "type=bind,source=/a", "no target"),
            ("--mount", "type=npipe,target=/x", r#"the mount type "npipe""#),
            ("--mount", "target=/x,tmpfs-size=1m", "only a tmpfs has a size"),
            (
                "--mount",
                "type=tmpfs,target=/x,tmpfs-mode=1770",
                r#""tmpfs-mode" has no counterpart in a job; leave it out"#,
            ),
            ("--mount", "target=/x,volume-opt=type=nfs", r#""volume-opt" has no counterpart in a job; leave it out"#),
            ("--mount", "type=bind,src=/a,target=/x,bind-propagation=rshared", r#""bind-propagation" has"#),
            ("--tmpfs", "/x:mode=1770", r#""mode" has no counterpart in a job; leave it out"#),
            ("--tmpfs", "/x:uid=5", r#""uid" has no counterpart"#),
            ("--mount", "target=/x,sorce=a", "did you mean source?"),
            ("--mount", "target=/run/vmjob/", r#""/run/vmjob/" is vmjob's own"#),
            ("--tmpfs", "//", r#""//" is the whole container"#),
            ("--mount", "target", "is not key=value"),
            ("--mount", "target=/x,readonly=yes", r#"expected true or false, found "yes""#),
            ("--tmpfs", "/x:exec", r#"the mount option "exec""#),
            ("--tmpfs", "/x:size=0", "more than 0"),
        ];
        for (flag, text, error) in cases {
            let found = read(flag, text).unwrap_err().at("a", flag).to_string();
            assert!(found.contains(error), "{flag} {text}: {found}");
        }
    }

    fn read(flag: &str, text: &str) -> Result<Mount, Problem> {
        match flag {
            "-v" => volume(text, &mut Vec::new()),
            "--mount" => mount(text, &mut Vec::new()),
            _ => tmpfs(text),
        }
    }
}
