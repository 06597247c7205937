//! What time it is, in the three senses the agent needs: wall time for people, time since boot for
//! deadlines that must survive a restart of the agent and a jump of the wall clock, and which boot this is.

use std::{fs, io, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// What times since boot are whole multiples of, rounded down.
pub const TICK: Duration = Duration::from_millis(10);

/// The wall clock as RFC 3339 in UTC with milliseconds, the form of every time in the report.
pub fn now() -> String {
    rfc3339(Timestamp::now())
}

/// `timestamp` as RFC 3339 in UTC with milliseconds.
pub fn rfc3339(timestamp: Timestamp) -> String {
    format!("{timestamp:.3}")
}

/// Reads a time the engine wrote; `None` for what is no time and for Go's zero time, with which Docker
/// says "never".
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|at: &Timestamp| at.as_second() > 0)
}

/// A wall time as the record and the report have it: RFC 3339 in UTC, to a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(Timestamp);

impl WallTime {
    pub fn now() -> Self {
        Timestamp::now().into()
    }

    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl From<Timestamp> for WallTime {
    fn from(at: Timestamp) -> Self {
        // What a restarted agent reads is what this one goes on with.
        Self(Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| D::Error::custom("it is no time"))
    }
}

/// A time since boot as the record has it: in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SinceBoot(pub Duration);

impl SinceBoot {
    /// The longest that something in a VM can last: a century.
    const LONGEST: Duration = Duration::from_secs(3_200_000_000);

    pub fn now() -> io::Result<Self> {
        since_boot().map(Self)
    }
}

impl Serialize for SinceBoot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for SinceBoot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time = Duration::try_from_secs_f64(f64::deserialize(deserializer)?).ok();
        time.filter(|time| *time <= Self::LONGEST).map(Self).ok_or_else(|| D::Error::custom("it is no time since boot"))
    }
}

/// Identifies this boot: the kernel makes a new one each time it starts (`random(4)`).
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When process `pid` was started, as time since boot, in [`TICK`]s; `None` if there is none. The 22nd field of
/// `/proc/PID/stat`, in ticks that are a hundredth of a second for programs on every machine (`proc(5)`, `USER_HZ`).
pub fn process_start(pid: i64) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, with anything in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Time since boot, suspend included, in [`TICK`]s (`/proc/uptime`, `proc(5)`).
pub fn since_boot() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime holds no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_starts_between_boot_and_now() {
        let before = since_boot().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = process_start(child.id().into()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(before <= start + TICK && start <= since_boot().unwrap() + TICK, "{before:?} {start:?}");
        assert_eq!(process_start(child.id().into()), None);
    }
}
