//! The `docker-command` attribute, and the field `docker_command` of a job-spec: a `docker run …` line as one tests it on a
//! laptop.
//!
//! In: its bytes. Out: the same [`Job`] that a job-spec would give, and warnings; or the first thing that a job
//! cannot do. The line is parsed here and never given to a shell.

use std::collections::BTreeMap;
use std::time::Duration;

use super::container::PULLS;
use super::discreet::is_surely_a_name;
use super::docker_values::key_value;
use super::error::{JobError, Problem, quote};
use super::flags::{Fate, Given};
use super::names::DOCKER_COMMAND;
use super::odd_chars::{self, Kind, Odd};
use super::types::{Container, Job, Parsed, Work};
use super::{checks, docker_head, docker_mounts, docker_values, doubts, flags, image_ref, text, units, users, words};

const EXAMPLE: &str = "docker run alpine echo hello";

/// Reads a `docker run` line. `text` is the value of the attribute as it came.
pub fn parse_docker_command(text: &[u8]) -> Result<Parsed, JobError> {
    let whole = |problem: Problem| problem.at(DOCKER_COMMAND, "");
    let text = text::decode(text, EXAMPLE).map_err(whole)?;
    if text.trim_start().starts_with('{') {
        return Err(whole(Problem::new("this is JSON, not a command line").fix("give it as job-spec")));
    }
    let Line { container, grace, ignored, mut doubts } = read_line(text)?;
    let mut job = Job::new(Work::Container(container));
    job.grace = grace.unwrap_or(job.grace);
    doubts.extend(doubts::of(&job));
    Ok(Parsed { job, ignored, doubts })
}

/// What a `docker run` line says.
pub(super) struct Line {
    pub(super) container: Container,
    /// Of `--stop-timeout`, where it is given.
    pub(super) grace: Option<Duration>,
    pub(super) ignored: Vec<String>,
    pub(super) doubts: Vec<String>,
}

/// Reads a `docker run` line that is part of a job or the whole of it.
pub(super) fn read_line(text: &str) -> Result<Line, JobError> {
    let whole = |problem: Problem| problem.at(DOCKER_COMMAND, "");
    if text.contains('\0') {
        return Err(whole(Problem::new("a command line cannot contain a NUL character")));
    }
    let mut doubts = Vec::new();
    let line = words::split(text, &mut doubts);
    line.odds.iter().try_for_each(|odd| if odd.word < 2 { Err(whole(not_plain(text, odd, false))) } else { Ok(()) })?;
    let flags_at = match (docker_head::check(&line.words), line.stop) {
        (Ok(flags_at), None) => flags_at,
        (Err(problem), None) if line.words.is_empty() && text.contains('#') => {
            return Err(whole(problem.because("the text holds a comment only", "take away the # in front".to_owned())));
        }
        // What comes first is to blame, and not what follows it.
        (Err(problem), stop) if stop.is_none() || !line.words.is_empty() && line.words != ["docker"] => {
            let is_one_line = !text.trim().contains('\n');
            return Err(whole(if is_one_line { problem } else { words::at_line(text, line.begins_at, problem) }));
        }
        (_, stop) => return Err(whole(stop.unwrap_or_else(|| Problem::new("there is no command")))),
    };
    let words = &line.words[flags_at..];
    let look = |index: usize| {
        let word = words.get(index).map_or("", |word| word);
        let mut odds = line.odds.iter().filter(|odd| odd.word == flags_at + index);
        match odds.find(|odd| odd.is_wrong_before_args(word)) {
            Some(odd) => Err(whole(not_plain(text, odd, false))),
            None => Ok(()),
        }
    };
    let (given, rest) = flags::split(words, look)?;
    let Some((image, args)) = rest.split_first() else {
        let problem = Problem::new("there is no image after the flags").fix(format!("write for example {EXAMPLE}"));
        return Err(whole(match given.last().and_then(Given::took_last_word) {
            Some(reason) => problem.because(&reason, "write the flag's value, and the image after it".to_owned()),
            None => problem,
        }));
    };
    let first_arg = line.words.len() - args.len();
    for odd in line.odds.iter().filter(|odd| odd.word >= first_arg) {
        let word = &line.words[odd.word];
        if odd.is_wrong_in_args(word) {
            return Err(whole(not_plain(text, odd, true)));
        }
        if odd.is_doubtful_in_args() {
            doubts.push(format!(
                "{} is passed on as it stands: if it was pasted, {}",
                odd_chars::name(odd.c),
                odd_chars::instead(odd.kind)
            ));
        }
    }
    doubts.extend(args.first().and_then(|word| flags::after_image(word)));
    if image == "docker" && args.first().is_some_and(|word| word == "run") {
        doubts.push("docker run stands twice: the second is taken for the image and its argument".to_owned());
    }
    let mut run = Run {
        container: Container::new(&**image),
        env: Vec::new(),
        log_options: BTreeMap::new(),
        grace: None,
        ignored: Vec::new(),
    };
    run.container.args = args.iter().map(ToString::to_string).collect();
    for given in &given {
        run.set(given).map_err(|problem| odd_chars::explain(given.value, problem).at(DOCKER_COMMAND, given.shown()))?;
    }
    run.container.image = image_after(image, &given).map_err(whole)?;
    let Run { mut container, env, log_options, grace, ignored } = run;
    if env.iter().any(|(name, _)| name.contains(|c: char| c.is_ascii_whitespace())) {
        // Docker takes it, and a shell in the container does not.
        doubts.push("the name of a variable has a space in it".to_owned());
    }
    container.env = env.into_iter().collect();
    container.log_options = log_options;
    container.bound_the_log();
    Ok(Line { container, grace, ignored, doubts })
}

/// A character that is not what it looks like, with its place.
fn not_plain(text: &str, odd: &Odd, is_in_args: bool) -> Problem {
    // Of a flag: a dash for each that is meant. Of anything else the rest is not shown, as it may be a secret: -pPASSWORD.
    let rest = &text[odd.at + odd.c.len_utf8()..];
    let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').take(24).collect();
    let fix = match odd.kind {
        Kind::Dash if odd.is_first => {
            let word = word.trim_start_matches('-');
            match flags::dashes(word).filter(|_| !is_in_args) {
                Some(dashes) => format!("write {dashes}{word} instead"),
                None => "write - or -- instead, without a space after it".to_owned(),
            }
        }
        kind => odd_chars::instead(kind),
    };
    let what = match odd.kind {
        Kind::DoubleQuote | Kind::SingleQuote => "is no quote to a command line",
        Kind::Dash => "is no dash to a command line",
        Kind::Space => "does not separate words",
        Kind::Invisible => "was probably pasted with the text",
        Kind::Ellipsis => "stands for something that was left out",
        Kind::Wide(_) => "is not the character that it looks like",
    };
    let may_be_meant = is_in_args || matches!(odd.kind, Kind::DoubleQuote | Kind::SingleQuote);
    let or = if may_be_meant { ", or put the word between '…' if it is meant" } else { "" };
    words::error_at(text, odd.at, &format!("{} {what}", odd_chars::name(odd.c))).fix(format!("{fix}{or}"))
}

/// The image, which may be what was meant to be the end of the value before it.
fn image_after(image: &str, given: &[Given]) -> Result<String, Problem> {
    let is_cut_off = given.last().is_some_and(|last| last.flag.long == "env" && last.value.ends_with('='));
    if image.starts_with('=') {
        return Err(Problem::new("a space stands before a =").fix("write NAME=value without a space"));
    }
    if let Some((name, _)) = image.split_once('=') {
        let shown = if is_surely_a_name(name) { name } else { "NAME" };
        return Err(Problem::new(format!("{shown}=… stands where the image belongs"))
            .fix(format!("write -e {shown}=… for a variable, and the image after the flags")));
    }
    image_ref::check(image).map_err(|problem| {
        if is_cut_off {
            return Problem::new("what follows the variable without a value is no image")
                .fix("write NAME=value without a space, or NAME='' for an empty value");
        }
        odd_chars::explain(image, problem)
    })
}

/// What the flags make, one after the other; of a repeated one the last counts, as with Docker.
struct Run {
    container: Container,
    /// Made a map as a whole: one by one, many would take long.
    env: Vec<(String, String)>,
    log_options: BTreeMap<String, String>,
    grace: Option<Duration>,
    ignored: Vec<String>,
}

impl Run {
    fn set(&mut self, given: &Given) -> Result<(), Problem> {
        if let Fate::Ignored(instead) = given.flag.fate {
            if given.value != "false" {
                self.ignored.push(format!("{} is ignored: {instead}", given.shown()));
            }
            return Ok(());
        }
        let c = &mut self.container;
        let text = given.value;
        let on = text == "true";
        match given.flag.long {
            "add-host" => c.extra_hosts.push(checks::extra_host(text)?),
            "cap-add" => c.cap_add.push(checks::capability(text)?),
            "cap-drop" => c.cap_drop.push(checks::capability(text)?),
            "cpus" => c.cpus = docker_values::cpus(text)?,
            "device" => c.devices.push(checks::device(text)?),
            // An empty one clears the image's: the engine wants that as one empty word.
            "entrypoint" => c.entrypoint = Some(vec![text.to_owned()]),
            "env" => {
                let (name, value) = variable(text)?;
                self.env.push((name, value));
            }
            "gpus" if c.gpus.is_some() => {
                return Err(Problem::new("a job asks for GPUs once").fix("leave the others out"));
            }
            "gpus" => c.gpus = Some(docker_values::gpus(text)?),
            "hostname" => c.hostname = Some(checks::hostname(text)?),
            "init" => c.init = on,
            "label" => {
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                c.labels.insert(checks::non_empty(key)?, value.to_owned());
            }
            "log-driver" => c.log_driver = checks::non_empty(text)?,
            "log-opt" => {
                let (key, value) = key_value(text, "max-size=50m")?;
                self.log_options.insert(key.to_owned(), value.to_owned());
            }
            "memory" => c.memory = docker_values::size(text, checks::memory)?,
            "mount" => docker_mounts::add(&mut c.mounts, docker_mounts::mount(text, &mut self.ignored)?)?,
            // Docker attaches the container to each, and which of them leads out is not told by the line.
            "net" | "network" if c.network.is_some() => {
                return Err(Problem::new("a job's container is on one network").fix("leave the others out"));
            }
            "net" | "network" => c.network = Some(network(text)?),
            "pids-limit" => c.pids_limit = docker_values::pids_limit(text)?,
            "privileged" => c.privileged = on,
            "pull" => {
                let pull = PULLS.iter().find(|(name, _)| *name == text);
                c.pull = pull
                    .ok_or_else(|| Problem::new(format!("expected always, missing or never, found {}", quote(text))))?
                    .1;
            }
            "read-only" => c.read_only = on,
            "restart" => {
                restart(text)?;
                self.ignored.push(format!("{} no is ignored: it is what vmjob does", given.shown()));
            }
            "security-opt" => c.security_opt.push(checks::security_opt(text)?),
            "shm-size" => c.shm_size = docker_values::size(text, checks::shm_size)?,
            "stop-timeout" => self.grace = Some(stop_timeout(text)?),
            "tmpfs" => docker_mounts::add(&mut c.mounts, docker_mounts::tmpfs(text)?)?,
            "tty" => c.tty = on,
            "ulimit" => {
                let (name, limit) = docker_values::ulimit(text)?;
                c.ulimits.insert(name, limit);
            }
            "user" => c.user = Some(users::user(text)?),
            "volume" => docker_mounts::add(&mut c.mounts, docker_mounts::volume(text, &mut self.ignored)?)?,
            "workdir" => c.workdir = Some(checks::absolute_path(text)?),
            _ => {
                return Err(Problem::new("this flag has no counterpart in a job").fix("leave it out"));
            }
        }
        Ok(())
    }
}

fn variable(text: &str) -> Result<(String, String), Problem> {
    let Some((name, value)) = text.split_once('=') else {
        checks::variable_name(text)?;
        // What stands there may be the value alone.
        let name = if is_surely_a_name(text) { text } else { "NAME" };
        let subject = if name == text { quote(text) } else { "the variable".to_owned() };
        return Err(Problem::new(format!("{subject} has no value, and there is nothing to inherit one from"))
            .fix(format!("write -e {name}=…; for a secret use \"secret_env\" of a container in a job-spec")));
    };
    checks::variable_name(name)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The name, or `name=NAME`.
fn network(text: &str) -> Result<String, Problem> {
    let name = text.strip_prefix("name=").unwrap_or(text);
    if name.contains(['=', ',']) {
        return Err(Problem::new("network options have no counterpart in a job").fix("write the network's name only"));
    }
    checks::non_empty(name)
}

fn restart(text: &str) -> Result<(), Problem> {
    if text == "no" || text.is_empty() {
        return Ok(());
    }
    let policy = text.split(':').next().filter(|policy| ["always", "unless-stopped", "on-failure"].contains(policy));
    let shown = policy.map_or(String::new(), |policy| format!(" ({policy})"));
    Err(Problem::new(format!("a container that restarts itself{shown} never ends"))
        .fix("leave it out, or ask for \"retry\" in a job-spec"))
}

fn stop_timeout(text: &str) -> Result<Duration, Problem> {
    match text.parse::<u32>() {
        Ok(seconds) => units::duration_from_seconds(seconds.into()),
        Err(_) => Err(Problem::new(format!("expected a number of seconds, found {}", quote(text)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::parse_spec;

    /// The cases of a table: blocks of two lines.
    fn cases(table: &str) -> impl Iterator<Item = (&str, &str)> {
        table.trim_end().split("\n\n").map(|case| case.split_once('\n').expect("a case has two lines"))
    }

    #[test]
    fn a_line_is_the_job_spec_that_says_the_same() {
        for (line, container) in cases(include_str!("testdata/docker_jobs.txt")) {
            let parsed = parse_docker_command(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
            let spec = format!("{{\"container\": {container}}}");
            assert_eq!(parsed.job, parse_spec(spec.as_bytes()).unwrap().job, "{line}");
        }
        let parsed = parse_docker_command(b"docker run --stop-timeout 90 a").unwrap();
        assert_eq!(parsed.job.grace, Duration::from_secs(90));
    }

    #[test]
    fn what_is_ignored_is_said() {
        let line = "docker run --rm -it --name x --restart no --name y -v /a:/b:cached --init=true a 'python train.py'";
        assert_eq!(
            parse_docker_command(line.as_bytes()).unwrap().warnings().collect::<Vec<_>>(),
            [
                "--rm is ignored: vmjob removes the container itself once the report is out",
                "-i is ignored: a job has no standard input",
                "--name is ignored: the container is named after the job's id",
                "--restart no is ignored: it is what vmjob does",
                "--name is ignored: the container is named after the job's id",
                "the mount option cached is ignored: it only has a meaning on a Mac",
                "the only argument \"python train.py\" has a space in it and stays one word: if it is a command line, give each word on its own",
            ]
        );
        assert_eq!(parse_docker_command(b"docker run --rm=false a").unwrap().warnings().next(), None);
    }

    #[test]
    fn errors_name_the_flag_and_what_to_do() {
        for (line, error) in cases(include_str!("testdata/docker_errors.txt")) {
            let found = parse_docker_command(line.as_bytes()).map(|parsed| parsed.job);
            assert_eq!(found.unwrap_err().to_string(), error, "{line}");
        }
    }
}
