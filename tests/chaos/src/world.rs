//! The world's side of a schedule: carries out one step.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use tokio::process::Command;

use crate::{
    agent::signal,
    docker::{containers, docker},
    engine,
    life::Life,
    log_file,
    schedule::{Damage, LogDamage, Phase, Told, What},
};

impl Life<'_> {
    /// Carries out one step; false if there was nothing it could be done to.
    pub(crate) async fn carry_out(&mut self, what: What) -> io::Result<bool> {
        match what {
            // A delivery that no disk takes note of is known to nobody but this process: the next would report anew.
            What::Kill { .. } if self.is_disk_full() && !self.cloud.accepted().is_empty() => return Ok(false),
            What::Kill { pause_ms, damage } => {
                self.kill().await?;
                self.harm(damage).await?;
                self.restart_in(pause_ms);
            }
            What::Reboot { pause_ms, orderly, damage } => {
                self.kill().await?;
                for name in containers(&self.prefix()).await? {
                    let how: &[&str] = if orderly { &["stop", "--time", "1", &name] } else { &["kill", &name] };
                    docker(how).await?;
                }
                self.harm(damage).await?;
                self.boots += 1;
                self.launch.boot_id = Some(format!("00000000-0000-4000-8000-{:012x}", self.boots));
                self.restart_in(pause_ms);
            }
            What::Hangup { pause_ms } => {
                self.tell(Signal::HUP, "HUP");
                self.restart_after_end_in(pause_ms);
            }
            What::Signal(Told::Term) => self.tell(Signal::TERM, "TERM"),
            What::Signal(Told::Int) => self.tell(Signal::INT, "INT"),
            What::Preempt => self.cloud.set("instance/preempted", "TRUE"),
            What::Cancel => self.cloud.set_attribute("job-cancel", "true"),
            What::CallbackDown => self.cloud.callback_down(true).await?,
            What::CallbackUp => self.cloud.callback_down(false).await?,
            What::EndExecution => self.cloud.end_execution(),
            What::RevokeTokens => self.cloud.revoke_tokens(),
            What::MetadataDown => self.cloud.metadata_down(true).await?,
            What::MetadataUp => self.cloud.metadata_down(false).await?,
            What::ContainerKill => return self.to_container(&["kill"]).await,
            What::ContainerRemove => return self.to_container(&["rm", "--force"]).await,
            What::DiskFull => fill(&self.launch.state_dir())?,
            What::DiskRoom => fs::remove_file(self.launch.state_dir().join(BALLAST))?,
            What::HarmLog(how) => return self.harm_log(how).await,
            What::ClockJump(off_s) => self.launch.set_clock(off_s)?,
            What::Engine(how) => {
                let log = self.launch.dir.join("dockerd.log");
                self.trouble.spawn(async move { engine::trouble(how, &log).await });
            }
            What::Silence(how) => {
                let containers = containers(&self.prefix()).await?;
                let Some(road) = &self.road else { return Ok(false) };
                let Some(end) = road.begin(how, &containers).await? else { return Ok(false) };
                self.trouble.spawn(end);
            }
        }
        Ok(true)
    }

    async fn harm(&mut self, damage: Option<Damage>) -> io::Result<()> {
        // Once all is done, the journal is the only witness of it: without, the job is a new one.
        let Some(damage) = damage.filter(|_| self.phase() != Some(Phase::Delivered)) else { return Ok(()) };
        match damage {
            Damage::Log(how) => self.harm_before_start = self.log_file().await?.map(|log| (log, how)),
            _ => harm(&self.launch.state_dir(), damage)?,
        }
        Ok(())
    }

    async fn harm_log(&mut self, how: LogDamage) -> io::Result<bool> {
        let Some(log) = self.log_file().await? else { return Ok(false) };
        self.harmed.push(log_file::harm(&log, &self.launch.state_dir(), how)?);
        Ok(true)
    }

    async fn log_file(&self) -> io::Result<Option<PathBuf>> {
        log_file::path_of(&format!("{}1", self.prefix())).await
    }

    fn is_disk_full(&self) -> bool {
        self.launch.state_dir().join(BALLAST).exists()
    }

    fn prefix(&self) -> String {
        format!("vmjob-{}-", self.plan.job.id)
    }

    fn tell(&mut self, what: Signal, name: &'static str) {
        if let Some(child) = &self.child {
            signal(child, what);
        }
        self.note_told(name);
    }

    async fn to_container(&self, command: &[&str]) -> io::Result<bool> {
        let mut done = false;
        for name in containers(&self.prefix()).await? {
            done |= docker(&[command, &[name.as_str()]].concat()).await?;
        }
        Ok(done)
    }
}

pub(crate) const BALLAST: &str = "ballast";

/// Puts a file system of its own on `dir`.
pub(crate) async fn mount(dir: &Path, kib: u64) -> io::Result<()> {
    let options = format!("size={kib}k,mode=700");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir)).await
}

/// Takes it away again, and leaves the directory empty.
pub(crate) async fn unmount(dir: &Path) -> io::Result<()> {
    run(Command::new("umount").arg("--lazy").arg(dir)).await
}

async fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status().await?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?} failed: {status}"))) }
}

/// Writes until the disk is full.
fn fill(dir: &Path) -> io::Result<()> {
    let mut ballast = File::create(dir.join(BALLAST))?;
    loop {
        match ballast.write_all(&[0; 1024]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn harm(state_dir: &Path, damage: Damage) -> io::Result<()> {
    let torn = |name: &str| match fs::metadata(state_dir.join(name)) {
        Ok(metadata) => File::options().write(true).open(state_dir.join(name))?.set_len(metadata.len() * 2 / 3),
        Err(_) => Ok(()),
    };
    let removed = |name: &str| match fs::remove_file(state_dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    match damage {
        Damage::JournalTorn => torn("journal.json"),
        Damage::JournalEmptied => File::create(state_dir.join("journal.json")).map(drop),
        Damage::JournalRemoved => removed("journal.json"),
        Damage::LogsTorn => torn("logs.json"),
        Damage::Log(_) => Ok(()),
        Damage::AllRemoved => ["journal.json", "report.json", "logs.json"].into_iter().try_for_each(removed),
    }
}
