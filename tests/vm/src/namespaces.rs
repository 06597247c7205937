//! The namespaces that a machine lives in, made by one of the scripts beside this crate. In flow commands to it, out flow
//! its answers.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use crate::kind::Kind;
use crate::{Setup, certificate};

/// They end with all that runs in them, and with their directory, when this is dropped.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) dir: PathBuf,
    kind: Kind,
    script: Child,
    /// The script ends when this does: also when the test is killed.
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Namespaces {
    /// Makes them, with the machine's disk; the calling thread moves into their network.
    pub(crate) async fn make(setup: &Setup, kind: Kind) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/tmp/vmjob-vm.{}.{count}", process::id()));
        for name in ["files", "machine", "shared"] {
            fs::create_dir_all(dir.join(name)).expect("/tmp is writable");
        }
        certificate::make(&dir);
        setup.write(&dir);
        let mut script =
            kind.script(&dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the script starts");
        let stdout = script.stdout.take().expect("stdout is piped");
        let answers = BufReader::new(ChildStdout::from_std(stdout).expect("a pipe can be waited for")).lines();
        let mut namespaces = Self { dir, kind, commands: script.stdin.take(), script, answers };
        assert_eq!(namespaces.answer().await, "ready");
        let network = File::open(format!("/proc/{}/ns/net", namespaces.pid())).expect("the machine's network");
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
        namespaces
    }

    pub(crate) fn command(&mut self, command: &str) {
        let commands = self.commands.as_mut().expect("it is open until the drop");
        writeln!(commands, "{command}").expect("the script reads");
    }

    pub(crate) async fn answer(&mut self) -> String {
        let line = timeout(self.kind.patience(), self.answers.next_line()).await.expect("an answer of the script");
        line.ok().flatten().expect("the script has ended: see its stderr")
    }

    /// Runs a command in the booted machine.
    pub(crate) async fn inside(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--target", &self.pid()]);
        command.arg(self.kind.script(&self.dir).get_program()).arg("--in").arg(&self.dir).args(arguments);
        let output = timeout(self.kind.patience(), command.kill_on_drop(true).output()).await;
        output.unwrap_or_else(|_| panic!("{arguments:?} does not end")).expect("nsenter is there")
    }

    /// Where a file of the machine can be looked at from outside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}/machine/root{path}", self.pid(), self.dir.display()))
    }

    pub(crate) fn console(&self) -> String {
        read(&self.dir.join("console"))
    }

    /// The process that holds them.
    fn pid(&self) -> String {
        read(&self.dir.join("pid")).trim().to_owned()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the console\n{}", self.console());
        }
        drop(self.commands.take());
        let end = Instant::now() + self.kind.patience();
        while !matches!(self.script.try_wait(), Ok(Some(_)) | Err(_)) && Instant::now() < end {
            sleep(Duration::from_millis(20));
        }
    }
}

pub(crate) fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
