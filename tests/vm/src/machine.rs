//! A machine, and the cloud that it is in.

use std::path::{Path, PathBuf};
use std::process::Output;

use e2e::{skip, until};
use fakecloud::{Config, FakeCloud};
use serde_json::Value;

use crate::namespaces::{DEADLINE, Namespaces, read};
use crate::{Bucket, Setup, contract};

const PARTS: [&str; 4] =
    ["/usr/bin/systemd-nspawn", "/usr/bin/google_metadata_script_runner", "/usr/sbin/dockerd", "/usr/bin/cloud-init"];

/// A machine in its own namespaces. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Machine {
    pub cloud: FakeCloud,
    pub bucket: Bucket,
    namespaces: Namespaces,
    reports: usize,
    /// Where on the console the latest boot begins.
    booted_at: usize,
}

impl Machine {
    /// A machine that is off, and its cloud; `None`, and the test is skipped, where there can be none.
    ///
    /// The calling thread moves into the machine's network, and so does all that it starts from now on. Tests are on
    /// threads of their own.
    pub async fn new(setup: Setup) -> Option<Self> {
        let missing = PARTS.iter().find(|part| !Path::new(part).exists());
        if !rustix::process::geteuid().is_root() || missing.is_some() {
            let why = missing.map_or_else(|| "only root can".into(), |part| format!("there is no {part}"));
            skip(&format!("no machine is booted: {why}"));
            return None;
        }
        let namespaces = Namespaces::make(&setup).await;
        let metadata_addr = "169.254.169.254:80".parse().expect("an address");
        let cloud = FakeCloud::start(Config { metadata_addr, ..setup.config }).await.expect("the ports are free there");
        let bucket = Bucket::open(&namespaces.dir).await.expect("the port is free there");
        Some(Self { cloud, bucket, namespaces, reports: 0, booted_at: 0 })
    }

    /// Switches it on.
    pub fn boot(&mut self) {
        self.booted_at = self.console().len();
        self.namespaces.command("boot");
    }

    /// Takes its power away, and waits until it is off.
    pub async fn cut(&mut self) {
        self.namespaces.command("cut");
        self.off().await;
    }

    /// Waits until it is off.
    pub async fn off(&mut self) {
        assert_eq!(self.namespaces.answer().await, "off");
    }

    /// Runs a shell command line in it while it is off, and returns its exit status.
    pub async fn run(&mut self, command: &str) -> i32 {
        self.namespaces.command(&format!("run {command}"));
        let answer = self.namespaces.answer().await;
        answer.strip_prefix("ended ").and_then(|status| status.parse().ok()).expect("an exit status")
    }

    /// Runs a command in the booted machine.
    pub async fn inside(&self, arguments: &[&str]) -> Output {
        self.namespaces.inside(arguments).await
    }

    /// The next report that the workflow gets, after checking what holds for all.
    pub async fn report(&mut self) -> Value {
        let request = self.cloud.next_accepted(DEADLINE).await.expect("a report");
        self.reports += 1;
        assert_eq!(self.cloud.accepted().len(), self.reports, "reports that were accepted");
        let header = request.header("authorization");
        let token = header.and_then(|value| value.strip_prefix("Bearer ")).expect("a token");
        assert!(!self.console().contains(token), "the token stands on the console");
        contract::check(&request.body)
    }

    /// What it has said: the journal with its monotonic times, as a serial console shows it, and what `run` printed.
    pub fn console(&self) -> String {
        self.namespaces.console()
    }

    /// The file in which [`Self::console`] is.
    pub fn console_file(&self) -> PathBuf {
        self.namespaces.dir.join("console")
    }

    /// Waits until its console has shown `text` in this boot.
    pub async fn until_said(&self, text: &str) {
        let is_said = || self.console().get(self.booted_at..).is_some_and(|console| console.contains(text));
        until(&format!("{text:?} on the console"), async || is_said().then_some(())).await;
    }

    /// Waits until the job has begun for the first time.
    pub async fn until_started(&self) {
        until("the job to begin", async || (self.starts() > 0).then_some(())).await;
    }

    /// How often the job has begun.
    pub fn starts(&self) -> usize {
        self.shared("starts").lines().count()
    }

    /// What has been written to the machine's `/shared/NAME`; empty if nothing has.
    pub fn shared(&self, name: &str) -> String {
        read(&self.namespaces.dir.join("shared").join(name))
    }

    /// The id of the instance, and of a job that has none of its own.
    pub fn id(&self) -> String {
        Config::default().instance_id.to_string()
    }

    /// Where a file of the machine can be looked at from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        self.namespaces.path(path)
    }
}
