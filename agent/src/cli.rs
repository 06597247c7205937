//! The command line and the environment: words go in, a checked [`Command`] comes out.

use std::{env, ffi::OsString, path::PathBuf, time::Duration};

use lexopt::prelude::*;
use tracing_subscriber::filter::Targets;

use crate::{install::Install, job::parse_duration, logging::LogFormat};

pub const HELP: &str = "\
vmjob-agent: runs the job of this VM and reports how it ended

Usage: vmjob-agent [COMMAND] [OPTIONS]

Commands:
  run             run the job that the VM's metadata describes, and POST the report to its callback URL
                  (the default; started again after a crash or a reboot it carries on where it was)
  check [FILE]    read a job from FILE or stdin: a job-spec (JSON) or a `docker run …` line; print what
                  would run, or what is wrong with it
  install         copy this binary to where VMs keep it, write its systemd unit, start it at each boot
                  (also what the binary does when it is the target of `startup-script-url`)
  doctor          can this VM run a job and report it? A table of what was looked at, and for what is not
                  right what to do; changes nothing, and can be asked at any time
  status          print what the journal says about the job, as JSON

Metadata attributes read by `run`:
  callback-url    where the report is POSTed: a Cloud Workflows callback endpoint made for POST
  job-spec        the job as JSON, for example
                  {\"container\": {\"image\": \"busybox\", \"args\": [\"echo\", \"hi\"]}, \"timeout\": \"2h\"}
  docker-command  instead of job-spec: the command line as you tested it, for example
                  docker run --rm busybox echo hi
  job-cancel      set to `true` at any time: the job is stopped and reported as cancelled
  job-context     what the job is told beside, for example
                  {\"vm_attempt\": 2, \"previous_cause\": \"PREEMPTED\", \"item\": {\"lr\": \"0.1\"}}
  keep-on-failure how long the container of a job that failed stays after its report, for example 2h

Options:                                                                            [environment]
  --metadata-host HOST[:PORT]  the metadata server; default 169.254.169.254     [GCE_METADATA_HOST]
  --docker-host unix://PATH    the Docker engine; default /var/run/docker.sock        [DOCKER_HOST]
  --state-dir DIR              journal and report; default /var/lib/vmjob         [STATE_DIRECTORY]
  --callback-allow HOST        also send the token to HOST (repeatable)      [VMJOB_CALLBACK_ALLOW]
  --compute-endpoint URL       where `on_finish: delete` deletes the VM   [VMJOB_COMPUTE_ENDPOINT]
  --secretmanager-endpoint URL where `secret_env` is read           [VMJOB_SECRETMANAGER_ENDPOINT]
  --storage-endpoint URL       Cloud Storage, for inputs and outputs      [VMJOB_STORAGE_ENDPOINT]
  --log-format text|json       the agent's log, on stderr; default text          [VMJOB_LOG_FORMAT]
  --engine-patience DURATION   wait so long for Docker; default 2m          [VMJOB_ENGINE_PATIENCE]
  --pull-patience DURATION     let a pull stand still so long; default 2m   [VMJOB_PULL_PATIENCE]
  --metadata-patience DURATION wait so long for metadata; default 5m      [VMJOB_METADATA_PATIENCE]
  --gpu-patience DURATION      wait so long for NVIDIA's driver; default 5m   [VMJOB_GPU_PATIENCE]
  --storage-patience DURATION  wait so long for Cloud Storage; default 10m[VMJOB_STORAGE_PATIENCE]
  --now                        `install`: start the unit now; a running agent hands its job over
  --prefix DIR                 `install`: the binary goes to DIR/bin; default /usr, and on
                               Container-Optimized OS /var/lib/google/vmjob
  -h, --help                   this text
  -V, --version                the version
  VMJOB_BLOCK_MOUNTS names directories, with colons between, that `metadata_server: block` lets a job mount
  beside those below /mnt, /srv, /data and /scratch
  RUST_LOG sets what is logged: error, warn, info (the default), debug

Signals: SIGTERM, SIGINT stop the job and report it; SIGHUP leaves it running for the next `run`.

Exit status: 0 the report was delivered, whatever it says · 1 the agent failed, or `doctor` found what
keeps a job from being run or reported · 2 bad usage, or an invalid job in `check` · 69 no metadata
server · 75 the report could not be delivered
";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Run(Config),
    /// `None` stands for stdin. With what `metadata_server: block` allows to be mounted.
    Check(Option<PathBuf>, Vec<PathBuf>),
    Install(Install),
    Doctor(Config),
    /// Started by Google's script runner: to install and start itself, or to report why it cannot.
    StartupScript(Config),
    Status(Config),
    /// Not for people: what runs a job without a container, from the directory that says which.
    Shim(PathBuf),
    /// Not for people: becomes the job.
    ShimExec(PathBuf),
    /// Not for people: opens files for an agent, with these rights.
    Files(String),
    /// Not for people: sends a signal to a process, as this says.
    Signal(String),
    Help,
    Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub metadata_host: String,
    /// `unix://PATH`.
    pub docker_host: String,
    pub state_dir: PathBuf,
    /// Used where nothing can be written to `state_dir`.
    pub spare_dir: PathBuf,
    pub callback_allow: Vec<String>,
    /// The Compute Engine API's base URL, ending in a slash.
    pub compute_endpoint: String,
    /// The Secret Manager API's base URL, ending in a slash.
    pub secretmanager_endpoint: String,
    /// Where Cloud Storage is.
    pub storage_endpoint: String,
    /// How long to wait for a Docker daemon that does not answer.
    pub engine_patience: Duration,
    /// How long the pull of an image may stand still.
    pub pull_patience: Duration,
    /// How long to wait for a metadata server, or for Secret Manager, that does not answer.
    pub metadata_patience: Duration,
    /// How long to wait for the driver of GPUs that are there.
    pub gpu_patience: Duration,
    /// Below which the machine's `/dev`, `/etc`, `/sys` and `/var` are looked at: `/` but in tests.
    pub root: PathBuf,
    /// How long a transfer may stand still before it is given up.
    pub storage_patience: Duration,
    /// What `metadata_server: block` allows beside its own list, to be mounted into a container.
    pub block_mounts: Vec<PathBuf>,
    /// Why no new job can be run, if so: it is reported.
    pub cannot_run: Option<String>,
}

/// A checked command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Cli {
    pub command: Command,
    pub log_format: LogFormat,
    /// `RUST_LOG`.
    pub log_filter: Targets,
    /// What is wrong with settings in the environment, which are ignored: a unit that ends over one of them would report nothing.
    pub ignored: Vec<String>,
}

const COMMANDS: [&str; 5] = ["run", "check", "install", "doctor", "status"];
const OPTIONS: [&str; 17] = [
    "metadata-host",
    "docker-host",
    "state-dir",
    "callback-allow",
    "compute-endpoint",
    "secretmanager-endpoint",
    "storage-endpoint",
    "log-format",
    "engine-patience",
    "pull-patience",
    "metadata-patience",
    "gpu-patience",
    "storage-patience",
    "now",
    "prefix",
    "help",
    "version",
];

/// The name that Google's script runner gives to what it has fetched from `startup-script-url`. Source:
/// <https://github.com/GoogleCloudPlatform/guest-agent>, `google_metadata_script_runner`, `setupAndRunScript`.
const STARTUP_SCRIPT: &str = "startup-script-url";

impl Cli {
    /// Reads this process's arguments and environment.
    ///
    /// # Errors
    /// One sentence about what is wrong.
    pub fn from_env() -> Result<Self, String> {
        let args: Vec<_> = env::args_os().skip(1).collect();
        let is_startup_script =
            args.is_empty() && env::current_exe().is_ok_and(|exe| exe.file_name() == Some(STARTUP_SCRIPT.as_ref()));
        let mut cli = Self::parse(args, |name| env::var(name).ok().filter(|value| !value.is_empty()))?;
        if let Command::Run(config) = &cli.command
            && is_startup_script
        {
            cli.command = Command::StartupScript(config.clone());
        }
        Ok(cli)
    }

    fn parse(
        args: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut environment = Environment { lookup: environment, ignored: Vec::new() };
        let mut config = Config::from_environment(&mut environment);
        let mut log_format = environment.checked("VMJOB_LOG_FORMAT", "text", log_format_of);
        let log_filter = environment.checked("RUST_LOG", "info", |text| {
            text.parse::<Targets>().map_err(|error| format!("is no filter ({error}): use for example debug"))
        });
        let mut hosts = Vec::new();
        let mut install = Install::default();
        let mut has_settings = false;
        let mut command = None;
        let mut file = None;

        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
            has_settings |= matches!(arg, Long(name) if !["now", "prefix", "log-format"].contains(&name));
            match arg {
                Short('h') | Long("help") => {
                    command = Some("help".to_owned());
                    break;
                }
                Short('V') | Long("version") => {
                    command = Some("version".to_owned());
                    break;
                }
                Long("metadata-host") => config.metadata_host = text(&mut parser)?,
                Long("docker-host") => {
                    config.docker_host = valid("--docker-host", &text(&mut parser)?, docker_host)?;
                }
                Long("state-dir") => config.state_dir = text(&mut parser)?.into(),
                Long("callback-allow") => hosts.push(text(&mut parser)?),
                Long("compute-endpoint") => config.compute_endpoint = base_url(&text(&mut parser)?),
                Long("secretmanager-endpoint") => config.secretmanager_endpoint = base_url(&text(&mut parser)?),
                Long("storage-endpoint") => config.storage_endpoint = text(&mut parser)?,
                Long("log-format") => {
                    log_format = valid("--log-format", &text(&mut parser)?, log_format_of)?;
                }
                Long("engine-patience") => {
                    config.engine_patience = valid("--engine-patience", &text(&mut parser)?, duration)?;
                }
                Long("pull-patience") => {
                    config.pull_patience = valid("--pull-patience", &text(&mut parser)?, duration)?;
                }
                Long("metadata-patience") => {
                    config.metadata_patience = valid("--metadata-patience", &text(&mut parser)?, duration)?;
                }
                Long("gpu-patience") => config.gpu_patience = valid("--gpu-patience", &text(&mut parser)?, duration)?,
                Long("storage-patience") => {
                    config.storage_patience = valid("--storage-patience", &text(&mut parser)?, duration)?;
                }
                Long("now") => install.now = true,
                Long("prefix") => install.prefix = Some(valid("--prefix", &text(&mut parser)?, prefix)?),
                Value(word) if command.is_none() => command = Some(word.to_string_lossy().into_owned()),
                Value(word)
                    if matches!(command.as_deref(), Some("check" | "shim" | "shim-exec" | "files" | "signal"))
                        && file.is_none() =>
                {
                    file = Some(PathBuf::from(word));
                }
                Value(word) => return Err(format!("unexpected argument {:?}", word.to_string_lossy())),
                Short(letter) => return Err(format!("unknown option -{letter}")),
                Long(name) => return Err(unknown(&format!("option --{name}"), name, &OPTIONS, "--")),
            }
        }

        if !hosts.is_empty() {
            config.callback_allow = hosts;
        }
        if install != Install::default() && command.as_deref() != Some("install") {
            return Err("--now and --prefix belong to `install`".into());
        }
        if has_settings && command.as_deref() == Some("install") {
            return Err("`install` keeps no settings of `run`: write them to /etc/default/vmjob-agent, such as STATE_DIRECTORY=/data".into());
        }
        let command = match command.as_deref() {
            Some("install") => Command::Install(install),
            None | Some("run") => Command::Run(config),
            Some("check") => Command::Check(file.filter(|path| path.as_os_str() != "-"), config.block_mounts),
            Some("doctor") => Command::Doctor(config),
            Some("status") => Command::Status(config),
            Some("shim") => Command::Shim(file.ok_or("which directory?")?),
            Some("shim-exec") => Command::ShimExec(file.ok_or("which directory?")?),
            Some("files") => Command::Files(word(file, "whose?")?),
            Some("signal") => Command::Signal(word(file, "which?")?),
            Some("help") => Command::Help,
            Some("version") => Command::Version,
            Some(other) => return Err(unknown(&format!("command {other:?}"), other, &COMMANDS, "")),
        };
        Ok(Self { command, log_format, log_filter, ignored: environment.ignored })
    }
}

fn word(file: Option<PathBuf>, question: &str) -> Result<String, String> {
    file.and_then(|word| word.into_os_string().into_string().ok()).ok_or_else(|| question.to_owned())
}

/// The environment of this process, read with defaults.
struct Environment<F> {
    lookup: F,
    ignored: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn get(&self, name: &str, default: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| default.to_owned())
    }

    /// systemd gives a unit with several of them all, with colons between.
    fn directory(&self, name: &str, default: &str) -> PathBuf {
        self.get(name, default).split(':').next().unwrap_or_default().into()
    }

    /// What `check` makes of the variable; of the default if it finds it wrong.
    fn checked<T>(&mut self, name: &str, default: &str, check: impl Fn(&str) -> Result<T, String>) -> T {
        valid(name, &self.get(name, default), &check).unwrap_or_else(|problem| {
            self.ignored.push(format!("{problem}; {name} is ignored, {default} holds"));
            check(default).expect("the default is valid")
        })
    }
}

impl Config {
    /// What holds unless an option says otherwise.
    fn from_environment(environment: &mut Environment<impl Fn(&str) -> Option<String>>) -> Self {
        let hosts = environment.get("VMJOB_CALLBACK_ALLOW", "");
        Self {
            metadata_host: environment.get("GCE_METADATA_HOST", "169.254.169.254"),
            // Another kind of host fails the job that needs it, and is reported.
            docker_host: environment.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
            state_dir: environment.directory("STATE_DIRECTORY", "/var/lib/vmjob"),
            spare_dir: environment.directory("RUNTIME_DIRECTORY", "/run/vmjob"),
            callback_allow: hosts
                .split(',')
                .map(|host| host.trim().to_owned())
                .filter(|host| !host.is_empty())
                .collect(),
            compute_endpoint: base_url(
                &environment.get("VMJOB_COMPUTE_ENDPOINT", "https://compute.googleapis.com/compute/v1/"),
            ),
            secretmanager_endpoint: base_url(
                &environment.get("VMJOB_SECRETMANAGER_ENDPOINT", "https://secretmanager.googleapis.com/v1/"),
            ),
            storage_endpoint: environment.get("VMJOB_STORAGE_ENDPOINT", "https://storage.googleapis.com"),
            engine_patience: environment.checked("VMJOB_ENGINE_PATIENCE", "2m", duration),
            pull_patience: environment.checked("VMJOB_PULL_PATIENCE", "2m", duration),
            metadata_patience: environment.checked("VMJOB_METADATA_PATIENCE", "5m", duration),
            gpu_patience: environment.checked("VMJOB_GPU_PATIENCE", "5m", duration),
            storage_patience: environment.checked("VMJOB_STORAGE_PATIENCE", "10m", duration),
            root: environment.get("VMJOB_ROOT", "/").into(),
            block_mounts: block_mounts(environment),
            cannot_run: None,
        }
    }
}

/// The absolute paths of `VMJOB_BLOCK_MOUNTS`; others would mean another directory than was thought.
fn block_mounts(environment: &mut Environment<impl Fn(&str) -> Option<String>>) -> Vec<PathBuf> {
    let text = environment.get("VMJOB_BLOCK_MOUNTS", "");
    let (good, bad): (Vec<PathBuf>, Vec<PathBuf>) = text
        .split(':')
        .map(str::trim)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .partition(|path| path.is_absolute());
    let problems =
        bad.iter().map(|path| format!("VMJOB_BLOCK_MOUNTS {} is no absolute path and is ignored", path.display()));
    environment.ignored.extend(problems);
    good
}

/// What `check` makes of `text`, the value of `what`.
fn valid<T>(what: &str, text: &str, check: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
    check(text).map_err(|problem| format!("{what} {text:?} {problem}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "is no duration: write for example 90s or 5m".into())
}

/// It becomes part of a line of the unit, where other characters would have to be quoted.
fn prefix(text: &str) -> Result<PathBuf, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-@:,=".contains(&byte);
    if text.starts_with('/') && text.bytes().all(is_plain) {
        return Ok(text.into());
    }
    Err("is no path for a unit: write an absolute one, of letters, digits and /._+-@:,= only".into())
}

fn docker_host(text: &str) -> Result<String, String> {
    match text.strip_prefix("unix://") {
        Some(_) => Ok(text.to_owned()),
        None => Err("is not supported: only unix://PATH is".into()),
    }
}

fn log_format_of(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is not known: use text or json".into()),
    }
}

fn base_url(url: &str) -> String {
    format!("{}/", url.trim_end_matches('/'))
}

/// The value of the option that was just read.
fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value.into_string().map_err(|value| format!("{} is not UTF-8", value.display()))
}

fn unknown(what: &str, word: &str, known: &[&str], prefix: &str) -> String {
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(word, candidate);
    match known.iter().min_by_key(distance).filter(|nearest| distance(nearest) <= 2) {
        Some(nearest) => format!("unknown {what}; did you mean {prefix}{nearest}?"),
        None => format!("unknown {what}"),
    }
}

#[cfg(test)]
mod tests;
