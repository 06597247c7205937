//! The pretended VM: its metadata and callback from `fakecloud`, a state directory, and the runs of the agent in it.

use std::cell::Cell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fakecloud::{Answer, Config, FakeCloud};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::behind::is_left;
use crate::{Agent, Gate, agent_binary, contract, docker, until};

/// The end of a script that goes on until [`Vm::let_go`], however slow the machine is.
pub const UNTIL_LET_GO: &str = "until [ -e /shared/go ]; do sleep 0.1; done";

/// A VM with its own name, state and cloud, so that tests can run side by side.
#[derive(Debug)]
pub struct Vm {
    pub cloud: FakeCloud,
    id: String,
    dir: PathBuf,
    kind: Kind,
    runs: Cell<u32>,
    /// The boot that this VM pretends to be in, if not the machine's own.
    boot: Cell<u32>,
}

/// What runs the VM's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Docker,
    Process,
    /// An engine that cannot be reached.
    Nothing,
}

impl Vm {
    /// A VM for each kind of job that can be run here: what is promised of a container holds of a process.
    pub async fn of_each_kind() -> Vec<Self> {
        let mut vms = Vec::from_iter(Self::with_docker().await);
        // Only root has control groups to give.
        if rustix::process::geteuid().is_root() {
            vms.push(Self::start_cloud(Config::default(), Kind::Process).await);
        }
        vms
    }

    /// A VM whose job runs on Docker; `None`, and the test is skipped, where there is none.
    pub async fn with_docker() -> Option<Self> {
        Self::with_docker_and(Config::default()).await
    }

    /// The same in another cloud.
    pub async fn with_docker_and(config: Config) -> Option<Self> {
        docker::is_there().await.then_some(())?;
        Some(Self::start_cloud(config, Kind::Docker).await)
    }

    /// A VM without an engine, for what never gets as far.
    pub async fn without_docker(config: Config) -> Self {
        Self::start_cloud(config, Kind::Nothing).await
    }

    async fn start_cloud(config: Config, kind: Kind) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        // As real ones do, it exceeds a signed number.
        let instance_id = (1 << 63) | (u64::from(since.subsec_nanos()) << 20) | u64::from(count);
        let dir = PathBuf::from(format!("/tmp/vmjob-e2e.{}.{instance_id:x}", process::id()));
        fs::create_dir_all(dir.join("shared")).expect("/tmp is writable");
        let cloud = FakeCloud::start(Config { instance_id, ..config }).await.expect("the fake cloud starts");
        Self { cloud, id: instance_id.to_string(), dir, kind, runs: Cell::new(0), boot: Cell::new(0) }
    }

    /// The id of the instance, and of a job that has none of its own.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the job's container.
    pub fn container(&self, attempt: u32) -> String {
        format!("vmjob-{}-{attempt}", self.id)
    }

    /// A directory for the test.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn spare_dir(&self) -> PathBuf {
        self.dir.join("spare")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A job that runs `script` in a shell, with [`Vm::shared`] as `/shared`; `changes` are merged over it.
    pub fn job(&self, script: &str, changes: Value) -> Value {
        let shared = self.dir.join("shared");
        let mut job = if self.kind == Kind::Process {
            let script = script.replace("/shared", &shared.to_string_lossy());
            json!({"process": {"command": ["sh", "-c", script]}, "grace": "1s"})
        } else {
            json!({
                "container": {
                    "image": docker::IMAGE,
                    "args": ["sh", "-c", script],
                    "network": "none",
                    "mounts": [{"type": "bind", "source": shared, "target": "/shared"}],
                },
                "grace": "1s",
            })
        };
        merge(&mut job, changes);
        job
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn set_job(&self, script: &str, changes: Value) {
        self.cloud.set_attribute("job-spec", self.job(script, changes).to_string());
    }

    /// The job's path `/shared/NAME`, as the job-spec wants it.
    pub fn shared_path(&self, name: &str) -> String {
        match self.kind {
            Kind::Process => self.dir.join("shared").join(name).to_string_lossy().into_owned(),
            _ => format!("/shared/{name}"),
        }
    }

    /// What the job has written to `/shared/NAME`; empty if it has not.
    pub fn shared(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join("shared").join(name)).unwrap_or_default()
    }

    /// How often the job has begun, if it writes a line to `/shared/starts` each time.
    pub fn starts(&self) -> usize {
        self.shared("starts").lines().count()
    }

    /// Lets a job end that goes on [`UNTIL_LET_GO`].
    pub fn let_go(&self) {
        fs::write(self.dir.join("shared/go"), "").expect("/tmp is writable");
    }

    /// Waits until the job has begun: see [`Vm::starts`].
    pub async fn until_started(&self) {
        self.until_shared("starts").await;
    }

    /// Waits until the job has begun, and the agent has written that down.
    pub async fn until_running(&self) {
        self.until_started().await;
        self.until_phase("RUNNING").await;
    }

    /// Waits until the job has written something to `/shared/NAME`.
    pub async fn until_shared(&self, name: &str) {
        until(&format!("the job to write /shared/{name}"), async || (!self.shared(name).is_empty()).then_some(()))
            .await;
    }

    /// `vmjob-agent run` against this VM.
    pub fn command(&self) -> Command {
        let mut command = match self.boot.get() {
            0 => Command::new(agent_binary()),
            boot => self.in_boot(boot),
        };
        command
            .args(["run", "--metadata-host", &self.cloud.metadata_host(), "--callback-allow", "127.0.0.1"])
            .args(["--storage-endpoint", &self.cloud.storage_endpoint(), "--storage-patience", "20s"])
            .arg("--state-dir")
            .arg(self.state_dir())
            .args(["--secretmanager-endpoint", &self.cloud.secretmanager_endpoint()])
            .env("RUNTIME_DIRECTORY", self.spare_dir())
            .env("VMJOB_BLOCK_MOUNTS", self.dir.join("shared"));
        if self.kind != Kind::Docker {
            command.args(["--docker-host", "unix:///no/such/docker.sock", "--engine-patience", "100ms"]);
        }
        command
    }

    /// A `PATH` on which a program of this name is a shell script.
    pub fn path_with(&self, name: &str, script: &str) -> String {
        let dir = self.dir.join("bin");
        fs::create_dir_all(&dir).expect("/tmp is writable");
        // By another program: while one of this process's threads forks, a file that it has open for writing cannot be run.
        let write = ["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod +x \"$1\"", "sh"];
        let written = std::process::Command::new("sh").args(write).arg(dir.join(name)).arg(script).status();
        assert!(written.is_ok_and(|status| status.success()), "/tmp is writable");
        format!("{}:{}", dir.display(), env::var("PATH").unwrap_or_default())
    }

    /// From now on the agent finds itself in another boot.
    pub fn reboot(&self) {
        self.boot.set(self.boot.get() + 1);
    }

    /// The agent in a mount namespace of its own, in which the kernel's boot id is another.
    fn in_boot(&self, boot: u32) -> Command {
        let file = self.dir.join(format!("boot-{boot}"));
        fs::write(&file, format!("00000000-0000-4000-8000-{boot:012}\n")).expect("/tmp is writable");
        let script = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(file).arg(agent_binary());
        command
    }

    pub fn start(&self) -> Agent {
        self.spawn(self.command())
    }

    /// Starts an agent whose way to the engine leads through a gate.
    pub fn start_through(&self, gate: &Gate) -> Agent {
        let mut command = self.command();
        command.args(["--docker-host", &gate.host()]);
        self.spawn(command)
    }

    pub fn spawn(&self, command: Command) -> Agent {
        let run = self.runs.get() + 1;
        self.runs.set(run);
        Agent::start(command, self.dir.join(format!("stdout-{run}")), self.dir.join(format!("stderr-{run}")))
    }

    /// Runs the agent to its end and returns the report that the workflow got.
    pub async fn run(&self) -> Value {
        self.finish(self.start()).await
    }

    /// Runs a job to its end: see [`Vm::job`] and [`Vm::run`].
    pub async fn run_job(&self, script: &str, changes: Value) -> Value {
        self.set_job(script, changes);
        self.run().await
    }

    /// Waits for the end of an agent that is to deliver, and returns the report that the workflow got.
    pub async fn finish(&self, mut agent: Agent) -> Value {
        let status = agent.wait().await;
        assert_eq!(status, 0, "{}", agent.log());
        self.report().await
    }

    /// The one report that the workflow got, after checking what holds at the end of every job.
    pub async fn report(&self) -> Value {
        let accepted = self.cloud.accepted();
        assert_eq!(accepted.len(), 1, "callbacks that were accepted");
        let (taken, written) = (&accepted[0], self.written_report());
        let report = contract::check(&taken.body);
        assert_eq!(taken.header("content-type"), Some("application/json"));

        let mut sent = self.cloud.callback_requests();
        // Of a connection that was reset the fake has not read the body.
        sent.retain(|request| request.answer != Answer::Reset || request.accepted);
        let is_shrunk = taken.body != written.as_bytes();
        if is_shrunk {
            assert_eq!(report, without_log_texts(&written), "a shrunk report lacks the log texts and nothing else");
        }
        let is_right = |body: &[u8]| body == written.as_bytes() || (is_shrunk && body == taken.body);
        assert!(sent.iter().all(|request| is_right(&request.body)), "every try sends the same bytes");

        assert_eq!(self.phase(), "DELIVERED");
        self.check_remains().await;
        report
    }

    /// The report on stdout, from the one line that is its own; the same in each run that printed it.
    pub fn written_report(&self) -> String {
        let outputs: Vec<String> = (1..=self.runs.get()).map(|run| self.read(&format!("stdout-{run}"))).collect();
        let whole_lines =
            outputs.iter().flat_map(|output| output.split_inclusive('\n').filter(|line| line.ends_with('\n')));
        let mut reports: Vec<&str> = whole_lines.filter_map(|line| line.strip_prefix("vmjob-report ")).collect();
        reports.dedup();
        assert_eq!(reports.len(), 1, "reports on stdout: {reports:#?}");
        reports[0].trim_end().to_owned()
    }

    /// Asserts that nothing is left that should not be: no container, and no token anywhere.
    pub async fn check_remains(&self) {
        let left = match self.kind {
            Kind::Docker => docker::containers(&format!("vmjob-{}-", self.id)).await,
            Kind::Process => {
                (1..=3).map(|attempt| self.container(attempt)).filter(|name| is_left(self, name)).collect()
            }
            Kind::Nothing => Vec::new(),
        };
        assert!(left.is_empty(), "{left:?} were left behind");
        let tokens: Vec<String> = self.tokens();
        for path in files(&self.dir) {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            assert!(!tokens.iter().any(|token| text.contains(token)), "a token stands in {}", path.display());
        }
    }

    /// The tokens that the agent has sent.
    pub fn tokens(&self) -> Vec<String> {
        let requests = [self.cloud.callback_requests(), self.cloud.secret_requests()].concat();
        let bearers = requests.iter().filter_map(|request| request.header("authorization")?.strip_prefix("Bearer "));
        bearers.map(str::to_owned).collect()
    }

    /// The agent's journal; null while there is none.
    pub fn journal(&self) -> Value {
        let text = fs::read(self.journal_file()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub fn journal_file(&self) -> PathBuf {
        // Written where the state directory cannot be.
        let spare = self.spare_dir().join("journal.json");
        if spare.exists() { spare } else { self.state_dir().join("journal.json") }
    }

    /// The persisted phase; empty while there is none.
    pub fn phase(&self) -> String {
        self.journal()["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a phase that does not pass by itself.
    pub async fn until_phase(&self, phase: &str) {
        until(&format!("the phase {phase}"), async || (self.phase() == phase).then_some(())).await;
    }

    /// Waits for text in the log of any run so far.
    pub async fn until_logged(&self, text: &str) {
        until(&format!("{text:?} in the log"), async || self.logs().contains(text).then_some(())).await;
    }

    /// When the agent first logged a line with this text, by its own clock.
    pub fn logged_at(&self, text: &str) -> Timestamp {
        let logs = self.logs();
        let line = logs.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in\n{logs}"));
        line.split(' ').next().and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("no time in {line}"))
    }

    /// The agent's own log, all runs.
    pub fn logs(&self) -> String {
        (1..=self.runs.get()).map(|run| self.read(&format!("stderr-{run}"))).collect()
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}--- the journal\n{:#}", self.logs(), self.journal());
            if self.kind == Kind::Docker {
                docker::remove_all(&format!("vmjob-{}-", self.id));
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Puts `changes` over `value`, objects field by field.
pub fn merge(value: &mut Value, changes: Value) {
    match (value, changes) {
        (Value::Object(value), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(value.entry(key).or_insert(Value::Null), change);
            }
        }
        (value, changes) => *value = changes,
    }
}

fn without_log_texts(report: &str) -> Value {
    let mut report: Value = serde_json::from_str(report).expect("the report is JSON");
    let texts = json!({"head": "", "tail": "", "errors": []});
    merge(&mut report, Value::Object(Map::from_iter([("logs".to_owned(), texts)])));
    report
}

/// All files below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let of = |path: PathBuf| if path.is_dir() { files(&path) } else { Vec::from_iter(path.is_file().then_some(path)) };
    paths.flat_map(of).collect()
}
