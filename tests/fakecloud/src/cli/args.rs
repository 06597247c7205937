//! The command line. In: words. Out: what to do, or what is wrong with the words.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use fakecloud::Script;
use lexopt::prelude::*;

use super::help;

#[derive(Debug)]
pub(crate) enum Command {
    Print(String),
    Serve(ServeOptions),
    Run(RunOptions),
}

#[derive(Debug)]
pub(crate) struct ServeOptions {
    pub(crate) bind: IpAddr,
    pub(crate) metadata_port: u16,
    pub(crate) callback_port: u16,
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
    pub(crate) values: Vec<(String, String)>,
    /// Whether further values come on stdin.
    pub(crate) control: bool,
    pub(crate) service_account: bool,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) callback_script: Script,
    /// By path prefix.
    pub(crate) metadata_scripts: Vec<(String, Script)>,
}

#[derive(Debug)]
pub(crate) struct RunOptions {
    pub(crate) agent: Option<PathBuf>,
    pub(crate) job: Job,
    /// Beside the job's own.
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
    /// `projects/P/secrets/S`, and its value.
    pub(crate) secrets: Vec<(String, String)>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) quiet: bool,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) enum Job {
    /// The words of a `docker run …`.
    DockerCommand(Vec<String>),
    /// A file with a job-spec.
    Spec(PathBuf),
}

/// Reads the command line. The error is a sentence for the user.
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    match parser.next()? {
        Some(Short('h') | Long("help")) => Ok(Command::Print(help::MAIN.into())),
        Some(Short('V') | Long("version")) => Ok(Command::Print(format!("fakecloud {}\n", env!("CARGO_PKG_VERSION")))),
        Some(Value(word)) if word == "serve" => parse_serve(&mut parser),
        Some(Value(word)) if word == "run" => parse_run(&mut parser),
        Some(other) => Err(format!("{}; the commands are `run` and `serve`", other.unexpected()).into()),
        None => Err("say what to do: `fakecloud run -- docker run …` or `fakecloud serve`".into()),
    }
}

fn parse_serve(parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut options = ServeOptions {
        bind: Ipv4Addr::LOCALHOST.into(),
        metadata_port: 0,
        callback_port: 0,
        attributes: BTreeMap::new(),
        values: Vec::new(),
        control: false,
        service_account: true,
        scopes: None,
        callback_script: Script::default(),
        metadata_scripts: Vec::new(),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Print(help::SERVE.into())),
            Long("bind") => options.bind = parser.value()?.parse()?,
            Long("metadata-port") => options.metadata_port = parser.value()?.parse()?,
            Long("callback-port") => options.callback_port = parser.value()?.parse()?,
            Long("attribute") => options.attributes.extend([attribute(parser)?]),
            Long("attribute-file") => options.attributes.extend([attribute_file(parser)?]),
            Long("set") => options.values.push(pair(parser, "--set PATH=VALUE")?),
            Long("control") => options.control = true,
            Long("no-service-account") => options.service_account = false,
            Long("scopes") => {
                let scopes = parser.value()?.string()?;
                options.scopes = Some(scopes.split(',').map(full_scope).collect());
            }
            Long("script-callback") => options.callback_script = parser.value()?.parse()?,
            Long("script-metadata") => options.metadata_scripts.push(metadata_script(parser)?),
            other => {
                return Err(format!("{}; see `fakecloud serve --help`", other.unexpected()).into());
            }
        }
    }
    Ok(Command::Serve(options))
}

fn parse_run(parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut agent, mut spec, mut state_dir, mut quiet, mut json) = (None, None, None, false, false);
    let (mut words, mut secrets, mut attributes) = (Vec::new(), Vec::new(), BTreeMap::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Print(help::RUN.into())),
            Long("agent") => agent = Some(parser.value()?.into()),
            Long("spec") => spec = Some(parser.value()?.into()),
            Long("attribute") => attributes.extend([attribute(parser)?]),
            Long("attribute-file") => attributes.extend([attribute_file(parser)?]),
            Long("secret") => secrets.push(pair(parser, "--secret projects/P/secrets/S=VALUE")?),
            Long("state-dir") => state_dir = Some(parser.value()?.into()),
            Long("quiet") => quiet = true,
            Long("json") => json = true,
            // Only what follows `--` gets here: the job's own words may look like options.
            Value(word) => words = docker_words(word, parser)?,
            other => {
                let hint = "options of `docker run` go after `--`; see `fakecloud run --help`";
                return Err(format!("{}; {hint}", other.unexpected()).into());
            }
        }
    }
    let job = match (spec, words.is_empty()) {
        (Some(path), true) => Job::Spec(path),
        (None, false) => Job::DockerCommand(words),
        (Some(_), false) => {
            return Err("give either --spec FILE or `-- docker run …`, not both".into());
        }
        (None, true) => return Err("no job: give `-- docker run IMAGE …` or --spec FILE".into()),
    };
    Ok(Command::Run(RunOptions { agent, job, attributes, secrets, state_dir, quiet, json }))
}

fn docker_words(first: OsString, parser: &mut lexopt::Parser) -> Result<Vec<String>, lexopt::Error> {
    if first != "docker" {
        let word = first.to_string_lossy();
        return Err(format!("unexpected word `{word}`: the job is written `-- docker run IMAGE …`").into());
    }
    std::iter::once(first).chain(parser.raw_args()?).map(ValueExt::string).collect()
}

fn pair(parser: &mut lexopt::Parser, form: &str) -> Result<(String, String), lexopt::Error> {
    let text = parser.value()?.string()?;
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("`{text}` has no `=`: write {form}").into()),
    }
}

fn attribute(parser: &mut lexopt::Parser) -> Result<(String, Vec<u8>), lexopt::Error> {
    let (key, value) = pair(parser, "--attribute KEY=VALUE")?;
    Ok((key, value.into()))
}

fn attribute_file(parser: &mut lexopt::Parser) -> Result<(String, Vec<u8>), lexopt::Error> {
    let (key, path) = pair(parser, "--attribute-file KEY=PATH")?;
    let value = std::fs::read(&path).map_err(|e| format!("failed to read {path}: {e}"))?;
    Ok((key, value))
}

/// `instance/attributes/:503*3`, or steps alone for every path.
fn metadata_script(parser: &mut lexopt::Parser) -> Result<(String, Script), lexopt::Error> {
    let text = parser.value()?.string()?;
    let (prefix, steps) = match text.split_once(':') {
        Some((prefix, steps)) if prefix.contains('/') => (prefix, steps),
        _ => ("", text.as_str()),
    };
    Ok((prefix.into(), steps.parse().map_err(|e| format!("{e}"))?))
}

/// `cloud-platform` for the URL that it stands for.
fn full_scope(scope: &str) -> String {
    if scope.contains("://") { scope.into() } else { format!("https://www.googleapis.com/auth/{scope}") }
}
