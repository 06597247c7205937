//! A machine, and the cloud that it is in.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use e2e::{skip, until_within};
use fakecloud::{Config, FakeCloud};
use serde_json::Value;

use crate::bucket::WORKFLOWS;
use crate::kind::Kind;
use crate::namespaces::{Namespaces, read};
use crate::{Bucket, Setup, contract};

/// A machine in its own namespaces. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Machine {
    pub cloud: FakeCloud,
    pub bucket: Bucket,
    kind: Kind,
    namespaces: Namespaces,
    reports: usize,
    /// Where on the console the latest boot begins, or what is awaited since.
    looks_from: usize,
}

impl Machine {
    /// A machine that is off, and its cloud; `None`, and the test is skipped, where there can be none.
    ///
    /// The calling thread moves into the machine's network, and so does all that it starts from now on. Tests are on
    /// threads of their own.
    pub async fn new(setup: Setup) -> Option<Self> {
        Self::make(setup, Kind::Nspawn).await
    }

    /// The same with a kernel of its own. Its loopback is its own, too: Workflows is asked over TLS, as Google's is.
    pub async fn with_kernel(setup: Setup) -> Option<Self> {
        let machine = Self::make(setup, Kind::Qemu).await?;
        let path = machine.cloud.callback_url().splitn(4, '/').last().unwrap_or_default().to_owned();
        machine.cloud.set_attribute("callback-url", format!("https://{WORKFLOWS}/{path}"));
        Some(machine)
    }

    async fn make(setup: Setup, kind: Kind) -> Option<Self> {
        let missing = kind.parts().into_iter().find(|part| !part.exists());
        if !rustix::process::geteuid().is_root() || missing.is_some() {
            let why = missing.map_or_else(|| "only root can".into(), |part| format!("there is no {}", part.display()));
            skip(&format!("no machine is booted: {why}"));
            return None;
        }
        let namespaces = Namespaces::make(&setup, kind).await;
        let metadata_addr = "0.0.0.0:80".parse().expect("an address");
        let cloud = FakeCloud::start(Config { metadata_addr, ..setup.config }).await.expect("the ports are free there");
        let bucket = Bucket::open(&namespaces.dir, cloud.callback_addr()).await.expect("the port is free there");
        Some(Self { cloud, bucket, kind, namespaces, reports: 0, looks_from: 0 })
    }

    /// Switches it on.
    pub fn boot(&mut self) {
        self.look_from_here();
        self.namespaces.command("boot");
    }

    /// Takes its power away, and waits until it is off.
    pub async fn cut(&mut self) {
        self.namespaces.command("cut");
        self.off().await;
    }

    /// Pushes its power button, as Google's side does to stop a VM.
    pub fn press_power_button(&mut self) {
        self.namespaces.command("press");
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
        let request = self.cloud.next_accepted(self.kind.patience()).await.expect("a report");
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

    /// What its console has shown up to now counts no more.
    pub fn look_from_here(&mut self) {
        self.looks_from = self.console().len();
    }

    /// Waits until its console has shown `text` in this boot, and since [`look_from_here`](Self::look_from_here).
    pub async fn until_said(&self, text: &str) {
        let is_said = || self.console().get(self.looks_from..).is_some_and(|console| console.contains(text));
        let what = format!("{text:?} on the console");
        until_within(self.kind.patience(), &what, async || is_said().then_some(())).await;
    }

    /// Waits until the job has begun for the first time.
    pub async fn until_started(&self) {
        self.until_started_times(1).await;
    }

    /// Waits until jobs have begun so often.
    pub async fn until_started_times(&self, times: usize) {
        let is_it = async || (self.starts() >= times).then_some(());
        until_within(self.kind.patience(), "the job to begin", is_it).await;
    }

    /// How often the job has begun.
    pub fn starts(&self) -> usize {
        self.shared("starts").lines().count()
    }

    /// What has been written to the machine's `/shared/NAME`; empty if nothing has.
    pub fn shared(&self, name: &str) -> String {
        read(&self.namespaces.dir.join("shared").join(name))
    }

    /// Makes an empty file in the machine's `/shared`.
    pub fn touch(&self, name: &str) {
        fs::write(self.namespaces.dir.join("shared").join(name), "").expect("/tmp is writable");
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
