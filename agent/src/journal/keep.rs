//! How long what a failed job leaves behind stays (`keep-on-failure`).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    pub for_s: f64,
    /// Known once the report is out, or given up.
    #[serde(default)]
    pub until: Option<Until>,
}

/// An end on two clocks: the one since boot is not set by anybody, the other goes on over a reboot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Until {
    pub at: String,
    pub boot_id: String,
    pub since_boot_s: f64,
}

impl Keep {
    pub fn new(time: Duration) -> Self {
        Self { for_s: time.as_secs_f64(), until: None }
    }

    /// Begins now, in this boot.
    pub fn begin(&mut self, boot_id: &str) {
        let (time, since_boot) = (self.time(), clock::since_boot().unwrap_or_default());
        self.until = Some(Until {
            at: clock::rfc3339(Timestamp::now().saturating_add(time).unwrap_or(Timestamp::MAX)),
            boot_id: boot_id.to_owned(),
            since_boot_s: (since_boot + time).as_secs_f64(),
        });
    }

    /// What is left of the time; nothing where it did not begin.
    pub fn left(&self, boot_id: &str) -> Duration {
        let Some(until) = &self.until else { return Duration::ZERO };
        let left = if until.boot_id == boot_id {
            until.since_boot_s - clock::since_boot().unwrap_or_default().as_secs_f64()
        } else {
            clock::parse(&until.at).map_or(0.0, |at| (at - Timestamp::now()).as_secs_f64())
        };
        Duration::try_from_secs_f64(left).unwrap_or_default().min(self.time())
    }

    /// Never longer than a duration of a job can be.
    fn time(&self) -> Duration {
        const LONGEST: Duration = Duration::from_hours(366 * 24);
        Duration::try_from_secs_f64(self.for_s).unwrap_or_default().min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_time_is_kept_to_in_each_boot() {
        let mut keep = Keep::new(Duration::from_mins(1));
        assert_eq!(keep.left("a"), Duration::ZERO);
        keep.begin("a");
        for boot in ["a", "b"] {
            let left = keep.left(boot).as_secs_f64();
            assert!((59.0..=60.0).contains(&left), "{left} s are left in boot {boot}");
        }
        // The one clock is not believed in another boot, and the other not in the same.
        let Until { at, .. } = keep.until.as_mut().unwrap();
        *at = "2001-01-01T00:00:00Z".into();
        assert_eq!(keep.left("b"), Duration::ZERO);
        assert!(keep.left("a") > Duration::from_secs(58));
        let Until { at, since_boot_s, .. } = keep.until.as_mut().unwrap();
        (*at, *since_boot_s) = ("2999-01-01T00:00:00Z".into(), 0.0);
        assert_eq!((keep.left("a"), keep.left("b")), (Duration::ZERO, Duration::from_mins(1)));
    }

    #[test]
    fn a_damaged_time_ends_nothing() {
        for for_s in [f64::NAN, -1.0, 1e300, f64::INFINITY] {
            let mut keep = Keep { for_s, until: None };
            keep.begin("a");
            assert!(keep.left("a") <= Duration::from_hours(366 * 24), "{for_s}");
            keep.until = Some(Until { at: "x".into(), boot_id: "a".into(), since_boot_s: f64::NAN });
            assert_eq!((keep.left("a"), keep.left("b")), (Duration::ZERO, Duration::ZERO));
        }
    }
}
