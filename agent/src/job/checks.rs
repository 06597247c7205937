//! What single values must look like, whichever text they came from.
//!
//! In: a value without its place. Out: the value as the engine wants it, or a [`Problem`].

use std::net::IpAddr;

use super::discreet::up_to_equals;
use super::error::{Problem, did_you_mean, quote};
use super::names::RESULT_DIR;
use super::odd_chars::{self, Kind};
use super::types::{Device, Ulimit};

/// <https://github.com/docker/go-units/blob/master/ulimit.go>
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// capabilities(7), and all of them.
const CAPABILITIES: &str = "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH \
    FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE \
    NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT SYSLOG SYS_MODULE SYS_NICE \
    SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM";

pub(super) fn non_empty(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        Err(Problem::new("must not be empty").fix("leave it out for the default"))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn absolute_path(text: &str) -> Result<String, Problem> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("expected an absolute path, found {}", quote(text))).fix(r#"write for example "/data""#))
}

/// Where a mount may go: the engine says so only once it has the image.
pub(super) fn mount_target(text: &str) -> Result<String, Problem> {
    let target = absolute_path(text)?;
    match bare(text) {
        "" => Err(no_target(text, "is the whole container")),
        RESULT_DIR => Err(no_target(text, "is vmjob's own")),
        _ => Ok(target),
    }
}

pub(super) fn taken_target(text: &str) -> Problem {
    no_target(text, "is another mount's target")
}

fn no_target(text: &str, why: &str) -> Problem {
    Problem::new(format!("{} {why}", quote(text))).fix("choose another")
}

/// A directory without the slashes after it.
pub(super) fn bare(path: &str) -> &str {
    path.trim_end_matches('/')
}

pub(super) fn job_id(text: &str) -> Result<String, Problem> {
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("expected 1 to 63 of the characters A-Z a-z 0-9 _ . -, found {}", quote(text)))
        .fix(r#"write for example "train-42""#))
}

pub(super) fn variable_name(name: &str) -> Result<(), Problem> {
    if name.is_empty() || name.bytes().any(|byte| matches!(byte, b'=' | b'\0')) {
        return Err(Problem::new(format!("{} cannot be the name of a variable", quote(&up_to_equals(name))))
            .fix("a name is not empty and has no ="));
    }
    // An engine takes any other name; these are slips.
    let is_slip = |c: char| odd_chars::kind(c).is_some_and(|kind| !matches!(kind, Kind::Ellipsis | Kind::Wide(_)));
    if name.contains(is_slip) {
        let problem = Problem::new("the name of a variable has a curly quote or a hard space in it, or the like");
        return Err(odd_chars::explain(name, problem.fix("write letters, digits and _ only")));
    }
    Ok(())
}

/// Linux refuses longer names when the container starts (`HOST_NAME_MAX`).
pub(super) fn hostname(text: &str) -> Result<String, Problem> {
    if (1..=64).contains(&text.len()) && !text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("expected a host name of 1 to 64 characters, found {}", quote(text))))
}

/// Whether the text is the resource name of one version, as the Secret Manager API wants it: nothing in it means anything in a URL.
pub fn is_secret_version(text: &str) -> bool {
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b':'))
    };
    let parts: Vec<&str> = text.split('/').collect();
    matches!(parts[..], ["projects", project, "secrets", secret, "versions", version]
        if [project, secret, version].into_iter().all(is_name))
}

/// `gs://bucket/…`; the name after the bucket may be empty.
pub(super) fn bucket_uri(text: &str) -> Result<String, Problem> {
    match text.strip_prefix("gs://").and_then(|rest| rest.split_once('/')) {
        Some((bucket, _)) if !bucket.is_empty() => Ok(text.to_owned()),
        _ => Err(Problem::new(format!("expected a place in a bucket, found {}", quote(text)))
            .fix(r#"write for example "gs://bucket/dir/""#)),
    }
}

/// <https://docs.docker.com/engine/storage/volumes/>: the engine refuses other names.
pub(super) fn volume_name(text: &str) -> Result<String, Problem> {
    let fits = text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits {
        return Ok(text.to_owned());
    }
    let problem = format!("{} is neither a volume name nor an absolute path", quote(text));
    Err(Problem::new(problem).fix("name a volume like \"data\", or a directory of the VM like \"/mnt/disks/data\""))
}

/// `/dev/fuse`, `/dev/sda:/dev/xvda`, `/dev/sda:/dev/xvda:rwm`, `/dev/sda:r`, as `docker run --device`.
pub(super) fn device(text: &str) -> Result<Device, Problem> {
    let permissions_ok =
        |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && text.matches(c).count() == 1);
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, permissions] if permissions_ok(permissions) => (host, host, permissions),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] if permissions_ok(permissions) => (host, container, permissions),
        _ => ("", "", ""),
    };
    if host.starts_with('/') && container.starts_with('/') {
        let [host, container, permissions] = [host, container, permissions].map(str::to_owned);
        return Ok(Device { host, container, permissions });
    }
    Err(Problem::new(format!("{} is not a device", quote(text)))
        .fix(r#"write for example "/dev/fuse" or "/dev/sdb:/dev/data:r""#))
}

/// `name:address` or `name=address`, an IPv6 address also in brackets; the engine knows the first only, and no brackets.
pub(super) fn extra_host(text: &str) -> Result<String, Problem> {
    let host = match text.split_once([':', '=']) {
        Some((name, address)) if !name.is_empty() => {
            let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
            let is_address = bare == "host-gateway" || bare.parse::<IpAddr>().is_ok();
            is_address.then(|| format!("{name}:{bare}"))
        }
        _ => None,
    };
    host.ok_or_else(|| {
        Problem::new(format!("expected a host and its address, found {}", quote(text)))
            .fix(r#"write for example "db:10.0.0.7""#)
    })
}

/// With `CAP_` or without, in any case.
pub(super) fn capability(text: &str) -> Result<String, Problem> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if CAPABILITIES.split(' ').any(|known| known == name) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("unknown capability {}", quote(text))).fix("write for example SYS_PTRACE"))
}

pub(super) fn ulimit_name(name: &str) -> Result<(), Problem> {
    if ULIMITS.contains(&name) {
        return Ok(());
    }
    let fix = did_you_mean(name, ULIMITS)
        .map_or_else(|| format!("known are {}", ULIMITS.join(", ")), |known| format!("did you mean \"{known}\"?"));
    Err(Problem::new(format!("unknown ulimit {}", quote(name))).fix(fix))
}

/// `1024` or `1024:2048`; -1 is unlimited.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, Problem> {
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    match (soft.parse(), hard.parse()) {
        (Ok(soft), Ok(hard)) => ulimit_pair(soft, hard),
        _ => Err(Problem::new(format!("{} is not a limit", quote(text)))
            .fix("write a number, -1 for no limit, or soft:hard such as 1024:2048")),
    }
}

pub(super) fn ulimit_pair(soft: i64, hard: i64) -> Result<Ulimit, Problem> {
    if soft < -1 || hard < -1 {
        return Err(Problem::new("a limit cannot be less than -1").fix("-1 is no limit"));
    }
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(Problem::new(format!("the soft limit {soft} is above the hard limit {hard}")));
    }
    Ok(Ulimit { soft, hard })
}

/// In steps of the engine's `NanoCpus`, so that a number written out and read again is the same.
pub(super) fn cpus(cpus: f64) -> Result<f64, Problem> {
    if (0.01..=4096.0).contains(&cpus) {
        return Ok((cpus * 1e9).round() / 1e9);
    }
    Err(Problem::new(format!("expected 0.01 to 4096 CPUs, found {cpus}")).fix("write for example 1.5"))
}

/// The engine's own least (`linuxMinMemory` in moby's `daemon_unix.go`).
pub(super) fn memory(bytes: u64) -> Result<u64, Problem> {
    const LEAST: u64 = 6 << 20;
    if bytes >= LEAST {
        return Ok(bytes);
    }
    Err(Problem::new(format!("{bytes} bytes are less than the 6m that an engine accepts"))
        .fix("did you leave out the unit, as in \"8g\"?"))
}

pub(super) fn shm_size(bytes: u64) -> Result<u64, Problem> {
    if bytes > 0 { Ok(bytes) } else { Err(Problem::new("must be more than 0").fix(r#"write for example "1g""#)) }
}

/// Some options are known to Docker's command line only, which reads files and sets paths for them.
pub(super) fn security_opt(text: &str) -> Result<String, Problem> {
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    match name {
        "" => Err(Problem::new("must not be empty").fix("write for example no-new-privileges")),
        "seccomp" if !(matches!(value, "unconfined" | "builtin") || value.starts_with('{')) => {
            Err(Problem::new(format!("{} names a file, which no engine reads", quote(text)))
                .fix("give the profile itself as JSON, or seccomp=unconfined"))
        }
        "systempaths" => Err(Problem::new("systempaths is not known to engines").fix("leave it out")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let good = [
            ("/dev/fuse", ["/dev/fuse", "/dev/fuse", "rwm"]),
            ("/dev/a:/dev/b", ["/dev/a", "/dev/b", "rwm"]),
            ("/dev/a:r", ["/dev/a", "/dev/a", "r"]),
            ("/dev/a:/dev/b:rw", ["/dev/a", "/dev/b", "rw"]),
        ];
        for (text, [host, container, permissions]) in good {
            let device = device(text).unwrap();
            assert_eq!([&*device.host, &*device.container, &*device.permissions], [host, container, permissions]);
        }
        for text in [
            "",
            "fuse",
            "/dev/a:b",
            "/dev/a:rr",
            "/dev/a:/dev/b:rwmr",
            "/dev/a:/dev/b:x",
            "/dev/a:/dev/b:r:w",
            "nvidia.com/gpu=all",
        ] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn capabilities() {
        for text in ["ALL", "all", "SYS_ADMIN", "cap_net_raw", "CAP_WAKE_ALARM", "syslog"] {
            assert_eq!(capability(text), Ok(text.to_owned()));
        }
        for text in ["", "CAP_", "NOPE", "SYS", "SYS_ADMIN SYS_BOOT", "NET_ADMIN "] {
            assert!(capability(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ulimits() {
        let good = [("1024", 1024, 1024), ("1:2", 1, 2), ("-1", -1, -1), ("5:-1", 5, -1)];
        for (text, soft, hard) in good {
            assert_eq!(ulimit(text), Ok(Ulimit { soft, hard }));
        }
        for text in ["", "x", "2:1", "-1:5", "-2", "1:2:3"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
        let error = ulimit_name("nofiles").unwrap_err().at("a", "b").to_string();
        assert_eq!(error, r#"a: b: unknown ulimit "nofiles"; did you mean "nofile"?"#);
    }

    #[test]
    fn names_and_places() {
        for text in ["a", "train-42", ".x_Y", &"a".repeat(63)] {
            assert!(job_id(text).is_ok());
        }
        for text in ["", "a b", "a/b", "é", &"a".repeat(64)] {
            assert!(job_id(text).is_err());
        }
        assert!(bucket_uri("gs://b/").is_ok() && bucket_uri("gs://b/dir/x").is_ok());
        for text in ["gs://b", "gs:///x", "s3://b/x", "/x"] {
            assert!(bucket_uri(text).is_err());
        }
        assert!(is_secret_version("projects/p/secrets/s/versions/3"));
        assert!(is_secret_version("projects/example.com:p/secrets/S_1-a/versions/latest"));
        for text in [
            "s",
            "projects/p/secrets/s",
            "projects//secrets/s/versions/1",
            "projects/p/secrets/../versions/1",
            "projects/p/secrets/s?x=/versions/1",
            "projects/p/secrets/s/versions/1#",
        ] {
            assert!(!is_secret_version(text), "{text}");
        }
        assert_eq!(extra_host("a=::1"), Ok("a:::1".to_owned()));
        assert_eq!(extra_host("a:host-gateway"), Ok("a:host-gateway".to_owned()));
        for text in ["a", "a:", ":1.2.3.4", "db:notanip", "db:10.0.0", "a=1"] {
            assert!(extra_host(text).is_err(), "{text}");
        }
    }
}
