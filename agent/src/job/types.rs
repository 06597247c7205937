//! The types of a job: what both readers produce and what the runtime carries out.
//!
//! In: nothing. Out: plain values whose defaults are those of the `job-spec` contract. A value that came out of
//! [`super::parse_spec`] or [`super::parse_docker_command`] has been checked; the types alone do not check.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{units, variables::Variables, wildcard::Wildcard};

/// A job that was read, and what its author should know although it can run: whole sentences.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub job: Job,
    /// What was asked for and has no effect.
    pub ignored: Vec<String>,
    /// What was probably meant otherwise: where the job fails, this may be why.
    pub doubts: Vec<String>,
}

impl Parsed {
    /// All that its author should know.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.ignored.iter().chain(&self.doubts).map(String::as_str)
    }
}

/// What to run, how often to try, and where its result goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// `[A-Za-z0-9_.-]{1,63}`; `None` stands for the VM's instance id.
    pub id: Option<String>,
    pub work: Work,
    /// Given to the job as `JOB_TASK_INDEX`; less than `task_count`.
    pub task_index: u32,
    /// Given to the job as `JOB_TASK_COUNT`; at least 1.
    pub task_count: u32,
    /// How long the job may run; `None` is for ever. All durations here are whole milliseconds.
    pub timeout: Option<Duration>,
    /// From TERM to KILL.
    pub grace: Duration,
    /// Exit codes from 1 that are a success as 0 is.
    pub success_exit_codes: Vec<u8>,
    pub retry: Retry,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    pub logs: Logs,
    pub callback: Callback,
    pub metadata_server: MetadataServer,
    pub on_finish: OnFinish,
}

/// The one thing a job runs.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one value in a process: a box would buy nothing")]
pub enum Work {
    Container(Container),
    Process(Process),
}

/// A container as the Docker engine runs it; field names follow `docker run`.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the engine's own switches")]
pub struct Container {
    pub image: String,
    /// `None` keeps the image's; `[""]` clears it, as `docker run --entrypoint ""` does.
    pub entrypoint: Option<Vec<String>>,
    pub args: Vec<String>,
    pub env: Variables,
    /// Variable name to `projects/P/secrets/S/versions/V`.
    pub secret_env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub hostname: Option<String>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub gpus: Option<Gpus>,
    /// At least 0.01, in steps of 1e-9 (the engine's `NanoCpus`).
    pub cpus: Option<f64>,
    /// In bytes. Sizes here never exceed `i64::MAX`, the engine's own type.
    pub memory: Option<u64>,
    /// In bytes.
    pub shm_size: Option<u64>,
    /// A positive number, or -1 for no limit.
    pub pids_limit: Option<i64>,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub network: Option<String>,
    pub init: bool,
    pub read_only: bool,
    pub privileged: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub security_opt: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// `name:address`, as the engine's `ExtraHosts` wants them.
    pub extra_hosts: Vec<String>,
    pub pull: Pull,
    pub tty: bool,
    pub log_driver: String,
    /// With `json-file` always holds `max-size` and `max-file`: an unbounded log fills the disk.
    pub log_options: BTreeMap<String, String>,
}

/// A program of the VM itself, run without a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Never empty.
    pub command: Vec<String>,
    pub env: Variables,
    pub secret_env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// Absolute, in the container.
    pub target: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// `source` is an absolute path of the VM; with `create`, a directory is made there where nothing is, as `docker run -v`
    /// has it. Neither path then has a colon.
    Bind { source: String, create: bool },
    /// Without a name, a fresh anonymous volume.
    Volume { source: Option<String> },
    /// `size` in bytes; without one, the kernel's default of half the memory.
    Tmpfs { size: Option<u64> },
}

/// A device node of the VM given to the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub host: String,
    pub container: String,
    /// Some of `rwm`: read, write, make nodes.
    pub permissions: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    All,
    Count(u32),
    /// Indexes or UUIDs, as `nvidia-smi -L` shows them.
    Devices(Vec<String>),
}

/// A resource limit; -1 is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
}

/// When to pull the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    Always,
    #[default]
    Missing,
    Never,
}

/// When the job is tried again in the same VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The first attempt included: 1 never retries.
    pub max_attempts: u32,
    pub on: Vec<RetryOn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryOn {
    /// The name of a failing cause, as the report spells it.
    Cause(&'static str),
    /// `EXIT_CODE` with this one code, 1 to 255.
    ExitCode(u8),
}

impl Retry {
    /// Whether an attempt that ended so is one to try again, attempts left aside.
    pub fn covers(&self, cause: &str, exit_code: Option<i64>) -> bool {
        self.on.iter().any(|on| match on {
            RetryOn::Cause(name) => *name == cause,
            RetryOn::ExitCode(code) => cause == "EXIT_CODE" && exit_code == Some(i64::from(*code)),
        })
    }
}

/// An object fetched before the job starts: `from` is `gs://…`, `to` a path of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// With a wildcard, what lies before it, to a slash.
    pub from: String,
    pub wildcard: Option<Wildcard>,
    pub to: String,
}

/// A file or directory kept after the job: `from` is a path of the job, `to` is `gs://…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// With a wildcard, the directory that it is for, to a slash.
    pub from: String,
    pub wildcard: Option<Wildcard>,
    pub to: String,
    /// Whether the job has failed without it; true unless said otherwise.
    pub required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// How much of the logs the report carries.
    pub summary_bytes: u32,
    /// `gs://…/` where the whole logs go.
    pub upload: Option<String>,
    /// Whether the job's output is repeated on the agent's own.
    pub forward: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Callback {
    pub auth: CallbackAuth,
    /// `None` stands for the rule of the contract: the larger of 1 h and a tenth of the run time, 24 h at most.
    pub give_up_after: Option<Duration>,
}

/// How the agent proves itself to the callback endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CallbackAuth {
    #[default]
    AccessToken,
    /// Without an audience, the callback URL is the audience.
    IdToken {
        audience: Option<String>,
    },
    None,
}

/// Whether the job may reach the metadata server, and with it the VM's service-account token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetadataServer {
    #[default]
    Allow,
    Block,
}

/// What the VM does with itself once the report is out or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFinish {
    #[default]
    None,
    Poweroff,
    Delete,
}

impl Input {
    /// `from` with its wildcard.
    pub fn source(&self) -> String {
        with_wildcard(&self.from, self.wildcard.as_ref())
    }
}

impl Output {
    /// `from` with its wildcard.
    pub fn source(&self) -> String {
        with_wildcard(&self.from, self.wildcard.as_ref())
    }
}

fn with_wildcard(from: &str, wildcard: Option<&Wildcard>) -> String {
    format!("{from}{}", wildcard.map(Wildcard::text).unwrap_or_default())
}

impl Job {
    /// The image of its container, if it has one.
    pub fn image(&self) -> Option<&str> {
        match &self.work {
            Work::Container(container) => Some(&container.image),
            Work::Process(_) => None,
        }
    }

    /// Its variables but for the secrets.
    pub fn env(&self) -> &Variables {
        match &self.work {
            Work::Container(container) => &container.env,
            Work::Process(process) => &process.env,
        }
    }

    /// Which of its variables are secrets, and which.
    pub fn secret_env(&self) -> &BTreeMap<String, String> {
        match &self.work {
            Work::Container(container) => &container.secret_env,
            Work::Process(process) => &process.secret_env,
        }
    }

    /// This work with every other setting at its default.
    pub fn new(work: Work) -> Self {
        Self {
            id: None,
            work,
            task_index: 0,
            task_count: 1,
            timeout: None,
            grace: Duration::from_secs(30),
            success_exit_codes: Vec::new(),
            retry: Retry { max_attempts: 1, on: Vec::new() },
            inputs: Vec::new(),
            outputs: Vec::new(),
            logs: Logs::default(),
            callback: Callback::default(),
            metadata_server: MetadataServer::default(),
            on_finish: OnFinish::default(),
        }
    }
}

impl Default for Logs {
    fn default() -> Self {
        Self { summary_bytes: 16_384, upload: None, forward: true }
    }
}

impl Container {
    /// This image with every other setting at its default.
    pub fn new(image: impl Into<String>) -> Self {
        let mut container = Self {
            image: image.into(),
            entrypoint: None,
            args: Vec::new(),
            env: Variables::default(),
            secret_env: BTreeMap::new(),
            workdir: None,
            user: None,
            hostname: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            gpus: None,
            cpus: None,
            memory: None,
            shm_size: None,
            pids_limit: None,
            ulimits: BTreeMap::new(),
            network: None,
            init: false,
            read_only: false,
            privileged: false,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            security_opt: Vec::new(),
            labels: BTreeMap::new(),
            extra_hosts: Vec::new(),
            pull: Pull::default(),
            tty: false,
            log_driver: "json-file".to_owned(),
            log_options: BTreeMap::new(),
        };
        container.bound_the_log();
        container
    }

    /// The bytes of the buffer of a log that drops what has no room in it (`mode=non-blocking`); `None` where the job waits.
    pub fn dropping_log_buffer(&self) -> Option<u64> {
        const DEFAULT_BYTES: u64 = 1_000_000;
        let option = |name: &str| self.log_options.get(name).map(String::as_str);
        let bytes = option("max-buffer-size").and_then(|size| units::parse_size(size).ok());
        (option("mode") == Some("non-blocking")).then_some(bytes.unwrap_or(DEFAULT_BYTES))
    }

    /// Gives a `json-file` log the size limits that the job did not choose itself.
    pub(super) fn bound_the_log(&mut self) {
        if self.log_driver == "json-file" {
            for (option, value) in [("max-size", "50m"), ("max-file", "5")] {
                self.log_options.entry(option.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
    }
}
