//! A Debian machine that was booted from its own init.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Ran, Root, run};

const BOOTED_WITHIN: Duration = Duration::from_mins(1);
const OFF_WITHIN: Duration = Duration::from_mins(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A running machine; when dropped it is gone as in a power cut.
#[derive(Debug)]
pub struct Machine {
    boot: Child,
    console: PathBuf,
    init: u32,
}

impl Machine {
    /// Boots a root and returns when its start-up has ended, however.
    pub fn boot(root: &Root) -> Self {
        let console = root.path().with_extension("console");
        let output = || Stdio::from(File::options().create(true).append(true).open(&console).expect("writable"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/boot.sh");
        let boot = Command::new(script)
            .arg(root.path())
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .spawn()
            .expect("the machine can be booted");
        let mut machine = Self { boot, console, init: 0 };
        let begun = Instant::now();
        while !machine.is_up() {
            assert!(begun.elapsed() < BOOTED_WITHIN, "it does not boot: {}", machine.console());
            sleep(LOOK_INTERVAL);
        }
        machine
    }

    fn is_up(&mut self) -> bool {
        // boot.sh forks unshare(1), that systemd-nspawn(1), and that the init.
        let Some(init) = only_child(self.boot.id()).and_then(only_child).and_then(only_child) else { return false };
        self.init = init;
        let state = self.run("systemctl is-system-running --wait");
        matches!(state.stdout.trim(), "running" | "degraded")
    }

    /// Runs a line of shell in it.
    pub fn run(&self, line: &str) -> Ran {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target"]).arg(self.init.to_string()).args(["bash", "-euo", "pipefail", "-c", line]);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        run(&command, Duration::from_mins(3))
    }

    /// Runs a line of shell in it that has to succeed, and returns its stdout.
    pub fn sh(&self, line: &str) -> String {
        let ran = self.run(line);
        let log = || self.run("journalctl --no-pager --lines=100 --unit=vmjob-agent --unit=docker").stdout;
        assert!(ran.succeeded(), "{line}: {ran:#?}\n{}", log());
        ran.stdout
    }

    /// Waits until a line of shell prints what is looked for.
    pub fn until(&self, line: &str, is_it: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let ran = self.run(line);
            if ran.succeeded() && is_it(ran.stdout.trim()) {
                return ran.stdout.trim().to_owned();
            }
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "{line}: {ran:#?}\n{}",
                self.sh("journalctl --no-pager -n 80")
            );
            sleep(LOOK_INTERVAL);
        }
    }

    /// A command in its network, but with the files of the outside.
    pub fn in_its_network(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--net").arg("--target").arg(self.init.to_string()).arg(program);
        command
    }

    /// Turns it off as an administrator does.
    pub fn power_off(mut self) {
        self.sh("systemctl poweroff");
        let begun = Instant::now();
        while self.boot.try_wait().expect("a child can be waited for").is_none() {
            assert!(begun.elapsed() < OFF_WITHIN, "it does not go off: {}", self.console());
            sleep(LOOK_INTERVAL);
        }
    }

    fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if matches!(self.boot.try_wait(), Ok(None)) {
            // It ends the machine and takes its control groups away.
            let _ = Command::new("kill").arg(self.boot.id().to_string()).status();
            let _ = self.boot.wait();
        }
        let _ = fs::remove_file(&self.console);
    }
}

fn only_child(parent: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?.split_whitespace().next()?.parse().ok()
}
