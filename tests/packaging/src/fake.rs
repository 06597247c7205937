//! Google's side, in the network of a machine.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Deserializer, Value};

use crate::{Machine, Scratch};

/// Where the agent of the machine finds the metadata server.
const SETTINGS: &str = "GCE_METADATA_HOST=127.0.0.1:8080\nVMJOB_CALLBACK_ALLOW=127.0.0.1\n";

/// A metadata server and a callback endpoint, of a VM with a job; gone when dropped.
#[derive(Debug)]
pub struct FakeCloud {
    child: Child,
    seen: PathBuf,
    _scratch: Scratch,
}

impl FakeCloud {
    /// What the agent's settings have to be for it.
    pub const SETTINGS: &str = SETTINGS;

    pub fn start(machine: &Machine, docker_command: &str) -> Self {
        let scratch = Scratch::new();
        let seen = scratch.join("seen");
        let mut command = machine.in_its_network(&e2e::fakecloud_binary());
        command.args(["serve", "--metadata-port", "8080", "--attribute"]);
        command.arg(format!("docker-command={docker_command}"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&seen).expect("a scratch directory is writable"))
            .spawn()
            .expect("fakecloud can be run");
        Self { child, seen, _scratch: scratch }
    }

    /// Waits for the report, and returns it.
    pub fn report(&self) -> Value {
        let begun = Instant::now();
        loop {
            let seen = fs::read_to_string(&self.seen).unwrap_or_default();
            // Between the lines for requests stands the payload of the callback, the only JSON.
            let payload = seen
                .split_once("\n{")
                .and_then(|(_, rest)| Deserializer::from_str(&format!("{{{rest}")).into_iter::<Value>().next()?.ok());
            if let Some(report) = payload {
                return report;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "no report comes: {seen}");
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for FakeCloud {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
