//! The flags of `docker run`: which there are, what becomes of each, and how they are told from the words after them.
//!
//! In: the words after `docker run`. Out: the flags that were given, in order, and the words from the image on.
//! Spellings are those of Docker's own command line: `-eA=1`, `-e A=1`, `--env=A=1`, `-it`, `--rm=false`.
//! <https://docs.docker.com/reference/cli/docker/container/run/>

use std::borrow::Cow;

use super::discreet::up_to_equals;
use super::error::{JobError, Problem, did_you_mean, quote};
use super::names::DOCKER_COMMAND;

/// Of the command line.
pub(super) type Word<'a> = Cow<'a, str>;

/// One flag that Docker knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    pub(super) long: &'static str,
    short: &'static str,
    takes_value: bool,
    pub(super) fate: Fate,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It becomes part of the job.
    Kept,
    /// A job runs as well without it; the text says what happens instead.
    Ignored(&'static str),
    /// A job with it would be another one; the text says what to do.
    Refused(&'static str),
}

/// One flag as it was given.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) flag: &'static Flag,
    is_long: bool,
    /// `true` or `false` for a flag without a value.
    pub(super) value: &'a str,
    /// Whether the value is a word of its own.
    is_apart: bool,
}

impl Given<'_> {
    /// As it was written: `-e` or `--env`.
    pub(super) fn shown(&self) -> String {
        shown(self.flag, self.is_long)
    }

    /// That the flag has taken what may have been meant as the image; a value that may be a secret is not shown.
    pub(super) fn took_last_word(&self) -> Option<String> {
        let may_be_secret = matches!(self.flag.long, "env" | "label" | "log-opt");
        (self.is_apart && !may_be_secret).then(|| format!("{} is the value of {}", quote(self.value), self.shown()))
    }
}

fn shown(flag: &Flag, is_long: bool) -> String {
    if is_long { format!("--{}", flag.long) } else { format!("-{}", flag.short) }
}

const fn value(long: &'static str, short: &'static str) -> Flag {
    Flag { long, short, takes_value: true, fate: Fate::Kept }
}

const fn switch(long: &'static str, short: &'static str) -> Flag {
    Flag { takes_value: false, ..value(long, short) }
}

const fn no(flag: Flag, advice: &'static str) -> Flag {
    Flag { fate: Fate::Refused(advice), ..flag }
}

const fn ignored(flag: Flag, instead: &'static str) -> Flag {
    Flag { fate: Fate::Ignored(instead), ..flag }
}

const LEAVE_OUT: &str = "leave it out";
const CLIENT_ONLY: &str = "leave it out: it concerns the terminal it was typed in";
const LIMITS: &str = "leave it out, or use --cpus and --memory";
const NO_PORTS: &str = "leave it out (nothing connects to a job), or use --network host";
const NO_FILE: &str = "write each one on the line: the file is not in the VM";
const NO_DNS: &str = "leave it out, or use --add-host";
const NO_HEALTH: &str = "leave it out: a job is done when it ends, its health is not watched";
const NO_DEVICE_LIMIT: &str = "leave it out: the VM's disks have their own limits";
const NO_NETWORK_DETAIL: &str = "leave it out, or use --network host";
const WINDOWS: &str = "leave it out: it is for Windows";
const NO_VOLUMES: &str = "use -v or --mount: there is no other container in the VM";

const FLAGS: &[Flag] = &[
    no(value("annotation", ""), "use --label"),
    value("add-host", ""),
    no(value("attach", "a"), CLIENT_ONLY),
    no(value("blkio-weight", ""), NO_DEVICE_LIMIT),
    no(value("blkio-weight-device", ""), NO_DEVICE_LIMIT),
    value("cap-add", ""),
    value("cap-drop", ""),
    no(value("cgroup-parent", ""), LIMITS),
    no(value("cgroupns", ""), LEAVE_OUT),
    no(value("cidfile", ""), CLIENT_ONLY),
    no(value("cpu-count", ""), WINDOWS),
    no(value("cpu-percent", ""), WINDOWS),
    no(value("cpu-period", ""), "use --cpus"),
    no(value("cpu-quota", ""), "use --cpus"),
    no(value("cpu-rt-period", ""), LIMITS),
    no(value("cpu-rt-runtime", ""), LIMITS),
    no(value("cpu-shares", "c"), "use --cpus"),
    value("cpus", ""),
    no(value("cpuset-cpus", ""), "use --cpus"),
    no(value("cpuset-mems", ""), LIMITS),
    ignored(switch("detach", "d"), "vmjob always waits for the job to end"),
    no(value("detach-keys", ""), CLIENT_ONLY),
    value("device", ""),
    no(value("device-cgroup-rule", ""), "use --device"),
    no(value("device-read-bps", ""), NO_DEVICE_LIMIT),
    no(value("device-read-iops", ""), NO_DEVICE_LIMIT),
    no(value("device-write-bps", ""), NO_DEVICE_LIMIT),
    no(value("device-write-iops", ""), NO_DEVICE_LIMIT),
    no(switch("disable-content-trust", ""), "pin the image by its digest instead"),
    no(value("dns", ""), NO_DNS),
    no(value("dns-opt", ""), NO_DNS),
    no(value("dns-option", ""), NO_DNS),
    no(value("dns-search", ""), NO_DNS),
    no(value("domainname", ""), "use --hostname"),
    value("entrypoint", ""),
    value("env", "e"),
    no(value("env-file", ""), NO_FILE),
    no(value("expose", ""), NO_PORTS),
    value("gpus", ""),
    no(value("group-add", ""), "use --user user:group"),
    no(value("health-cmd", ""), NO_HEALTH),
    no(value("health-interval", ""), NO_HEALTH),
    no(value("health-retries", ""), NO_HEALTH),
    no(value("health-start-interval", ""), NO_HEALTH),
    no(value("health-start-period", ""), NO_HEALTH),
    no(value("health-timeout", ""), NO_HEALTH),
    no(switch("help", ""), "give the command line of the job"),
    value("hostname", "h"),
    switch("init", ""),
    ignored(switch("interactive", "i"), "a job has no standard input"),
    no(value("io-maxbandwidth", ""), WINDOWS),
    no(value("io-maxiops", ""), WINDOWS),
    no(value("ip", ""), NO_NETWORK_DETAIL),
    no(value("ip6", ""), NO_NETWORK_DETAIL),
    no(value("ipc", ""), "leave it out, or use --shm-size for more shared memory"),
    no(value("isolation", ""), WINDOWS),
    no(value("kernel-memory", ""), "use --memory"),
    value("label", "l"),
    no(value("label-file", ""), NO_FILE),
    no(value("link", ""), "leave it out: there is no other container in the VM"),
    no(value("link-local-ip", ""), NO_NETWORK_DETAIL),
    value("log-driver", ""),
    value("log-opt", ""),
    no(value("mac-address", ""), NO_NETWORK_DETAIL),
    value("memory", "m"),
    no(value("memory-reservation", ""), "use --memory"),
    no(value("memory-swap", ""), "leave it out: a VM has no swap unless you made some"),
    no(value("memory-swappiness", ""), "leave it out: a VM has no swap unless you made some"),
    value("mount", ""),
    ignored(value("name", ""), "the container is named after the job's id"),
    value("net", ""),
    no(value("net-alias", ""), NO_NETWORK_DETAIL),
    value("network", ""),
    no(value("network-alias", ""), NO_NETWORK_DETAIL),
    no(switch("no-healthcheck", ""), NO_HEALTH),
    no(switch("oom-kill-disable", ""), "leave it out: the VM would hang instead of reporting"),
    no(value("oom-score-adj", ""), LEAVE_OUT),
    no(value("pid", ""), LEAVE_OUT),
    value("pids-limit", ""),
    no(value("platform", ""), "leave it out: the VM's own platform is taken"),
    switch("privileged", ""),
    no(value("publish", "p"), NO_PORTS),
    no(switch("publish-all", "P"), NO_PORTS),
    value("pull", ""),
    no(switch("quiet", "q"), CLIENT_ONLY),
    switch("read-only", ""),
    value("restart", ""),
    ignored(switch("rm", ""), "vmjob removes the container itself once the report is out"),
    no(value("runtime", ""), "leave it out, or use --gpus all"),
    value("security-opt", ""),
    value("shm-size", ""),
    no(switch("sig-proxy", ""), CLIENT_ONLY),
    no(value("stop-signal", ""), "leave it out: a job is stopped with TERM, then KILL"),
    value("stop-timeout", ""),
    no(value("storage-opt", ""), LEAVE_OUT),
    no(value("sysctl", ""), "set it in the VM"),
    value("tmpfs", ""),
    switch("tty", "t"),
    value("ulimit", ""),
    no(switch("use-api-socket", ""), "use -v /var/run/docker.sock:/var/run/docker.sock"),
    value("user", "u"),
    no(value("userns", ""), LEAVE_OUT),
    no(value("uts", ""), "use --hostname"),
    value("volume", "v"),
    no(value("volume-driver", ""), NO_VOLUMES),
    no(value("volumes-from", ""), NO_VOLUMES),
    value("workdir", "w"),
];

/// The dashes before what is the name of a flag, or the letters of several.
pub(super) fn dashes(name: &str) -> Option<&'static str> {
    let is_long = FLAGS.iter().any(|flag| flag.long == name);
    let is_switch = |letter: char| FLAGS.iter().any(|flag| flag.short.starts_with(letter) && !flag.takes_value);
    let letters = name.strip_suffix(|last: char| FLAGS.iter().any(|flag| flag.short.starts_with(last)));
    let is_short = letters.is_some_and(|letters| letters.chars().all(is_switch));
    is_long.then_some("--").or(is_short.then_some("-"))
}

/// Splits the words after `docker run` into flags and what follows them. `look` is called for each word before it is taken
/// for a flag, a flag's value or the image, with its index.
pub(super) fn split<'a>(
    words: &'a [Word<'a>],
    look: impl Fn(usize) -> Result<(), JobError>,
) -> Result<(Vec<Given<'a>>, &'a [Word<'a>]), JobError> {
    let mut given = Vec::new();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let at = words.len() - rest.len();
        look(at)?;
        if word == "--" {
            look(at + 1)?;
            return Ok((given, after));
        }
        rest = if let Some(long) = word.strip_prefix("--") {
            long_flag(long, after, &mut given)?
        } else if word.len() > 1 && word.starts_with('-') {
            short_flags(word, after, &mut given)?
        } else {
            break;
        };
        // Its value, where that is a word of its own.
        (at + 1..words.len() - rest.len()).try_for_each(&look)?;
    }
    Ok((given, rest))
}

/// `--env=A=1`, or `--env` with its value in the next word.
fn long_flag<'a>(word: &'a str, after: &'a [Word<'a>], given: &mut Vec<Given<'a>>) -> Result<&'a [Word<'a>], JobError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let flag = FLAGS.iter().find(|flag| flag.long == name).ok_or_else(|| {
        let elsewhere = IN_A_JOB_SPEC.iter().find(|(known, _)| *known == name).map(|(_, fix)| (*fix).to_owned());
        let meant = did_you_mean(name, FLAGS.iter().map(|flag| flag.long)).map(|meant| did_mean(&format!("--{meant}")));
        unknown(&format!("--{}", discreet_name(name)), elsewhere.or(meant))
    })?;
    take(flag, true, value, after, given)
}

/// `-it`, `-eA=1`, `-e=A=1`, `-e` with its value in the next word; the last of several may have a value.
fn short_flags<'a>(
    word: &'a str,
    after: &'a [Word<'a>],
    given: &mut Vec<Given<'a>>,
) -> Result<&'a [Word<'a>], JobError> {
    let mut rest = &word[1..];
    while let Some(letter) = rest.chars().next() {
        let (short, tail) = rest.split_at(letter.len_utf8());
        let flag = FLAGS.iter().find(|flag| flag.short == short).ok_or_else(|| {
            let name = word[1..].split('=').next().unwrap_or_default();
            let meant = FLAGS.iter().find(|flag| flag.long == name).map(|flag| did_mean(&format!("--{}", flag.long)));
            unknown(
                &if tail.is_empty() && word.len() == 2 {
                    word.to_owned()
                } else {
                    format!("-{short} in {}", quote(&discreet_group(word, short)))
                },
                meant,
            )
        })?;
        if let Some(value) = tail.strip_prefix('=') {
            return take(flag, false, Some(value), after, given);
        }
        if flag.takes_value {
            return take(flag, false, (!tail.is_empty()).then_some(tail), after, given);
        }
        take(flag, false, None, after, given)?;
        rest = tail;
    }
    Ok(after)
}

fn take<'a>(
    flag: &'static Flag,
    is_long: bool,
    value: Option<&'a str>,
    after: &'a [Word<'a>],
    given: &mut Vec<Given<'a>>,
) -> Result<&'a [Word<'a>], JobError> {
    if let Fate::Refused(advice) = flag.fate {
        let next = value.or_else(|| after.first().map(|word| &**word)).unwrap_or_default();
        // Meant for the shell that --entrypoint names.
        let is_for_shell = flag.short == "c" && !is_long && !next.bytes().all(|b| b.is_ascii_digit());
        let advice = if is_for_shell { "write -c and what belongs to it after the image" } else { advice };
        return Err(Problem::new("this flag has no counterpart in a job")
            .fix(advice)
            .at(DOCKER_COMMAND, shown(flag, is_long)));
    }
    let is_apart = value.is_none() && flag.takes_value;
    let (value, after) = match (value, flag.takes_value) {
        (Some(value), true) => (value, after),
        (None, true) => match after.split_first() {
            Some((value, after)) => (&**value, after),
            None => return Err(Problem::new("the flag has no value").at(DOCKER_COMMAND, shown(flag, is_long))),
        },
        (value, false) => {
            let on =
                boolean(value.unwrap_or("true")).map_err(|problem| problem.at(DOCKER_COMMAND, shown(flag, is_long)))?;
            (if on { "true" } else { "false" }, after)
        }
    };
    given.push(Given { flag, is_long, value, is_apart });
    Ok(after)
}

/// As Go's `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Result<bool, Problem> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(Problem::new(format!("expected true or false, found {}", quote(other)))),
    }
}

/// What is to be said of the first argument, where it is a flag of Docker's that few programs have.
pub(super) fn after_image(word: &str) -> Option<String> {
    const TELLING: [&str; 12] = [
        "rm",
        "env",
        "volume",
        "mount",
        "gpus",
        "network",
        "entrypoint",
        "shm-size",
        "privileged",
        "restart",
        "detach",
        "interactive",
    ];
    let long = word.strip_prefix("--").map(|name| name.split('=').next().unwrap_or_default());
    let is_telling = long.is_some_and(|name| TELLING.contains(&name)) || matches!(word, "-e" | "-it" | "-ti");
    is_telling.then(|| {
        format!(
            "{} after the image goes to the program: flags of docker run stand before the image",
            up_to_equals(word)
        )
    })
}

/// What other tools have as options, and where it belongs here.
const IN_A_JOB_SPEC: [(&str, &str); 8] = [
    ("timeout", "set \"timeout\" in a job-spec"),
    ("args", "write the arguments after the image"),
    ("command", "write the command after the image, or use --entrypoint"),
    ("cmd", "write the command after the image"),
    ("image", "write the image after the flags, without a name"),
    ("secret", "use \"secret_env\" of a container in a job-spec"),
    ("env-vars", "write -e NAME=value"),
    ("set-env-vars", "write -e NAME=value"),
];

fn did_mean(flag: &str) -> String {
    format!("did you mean {flag}?")
}

/// A group of short flags with the unknown flag `unknown`. The text after it may be a secret value.
fn discreet_group<'a>(word: &'a str, unknown: &str) -> Cow<'a, str> {
    let is_switch = |letter: char| FLAGS.iter().any(|flag| flag.short.starts_with(letter) && !flag.takes_value);
    let is_group = word[1..].chars().all(|letter| unknown.starts_with(letter) || is_switch(letter));
    let is_name = FLAGS.iter().any(|flag| flag.long == &word[1..]);
    if is_group || is_name { word.into() } else { format!("{}…", word.chars().take(2).collect::<String>()).into() }
}

/// A flag's name, or as much of it as is known where the rest may be a value that was joined to it, and a secret.
fn discreet_name(name: &str) -> String {
    const LONGEST: usize = 24;
    let known = || FLAGS.iter().map(|flag| flag.long).chain(IN_A_JOB_SPEC.iter().map(|(known, _)| *known));
    let joined = known().filter(|known| name.starts_with(known)).max_by_key(|known| known.len());
    let is_word = name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    match joined {
        _ if did_you_mean(name, known()).is_some() => name.escape_debug().to_string(),
        Some(known) if known.len() < name.len() => format!("{known}…"),
        None if !is_word => format!("{}…", name.chars().take(2).collect::<String>().escape_debug()),
        _ => name.to_owned(),
    }
}

fn unknown(shown: &str, fix: Option<String>) -> JobError {
    let fix = fix.unwrap_or_else(|| "see docker run --help".to_owned());
    Problem::new(format!("unknown flag {shown}")).fix(fix).at(DOCKER_COMMAND, "")
}
