//! How long the job ran, where clocks may jump.

use std::time::Duration;

use jiff::Timestamp;

/// What the engine's times may be off by before its clock must have jumped between them.
const JUMP: Duration = Duration::from_secs(10);

/// How long the job ran, from the times that the engine noted, unless its clock jumped between them: `at_most`, by a clock that
/// does not jump, is the time since the start.
pub(super) fn run_time(noted: Option<(Timestamp, Timestamp)>, at_most: Option<Duration>) -> Option<Duration> {
    let Some((started, finished)) = noted else { return at_most };
    // Of a container that ends at once, the engine may note the end before the start.
    let is_early = started > finished && started < finished + JUMP;
    let by_engine = if is_early { Ok(Duration::ZERO) } else { finished.duration_since(started).try_into() };
    match (by_engine, at_most) {
        (Ok(by_engine), at_most) if at_most.is_none_or(|at_most| by_engine <= at_most + JUMP) => Some(by_engine),
        (_, at_most) => at_most,
    }
}

/// Seconds to the millisecond, as the report gives them.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_clock_does_not_change_how_long_the_job_ran() {
        let (started, secs) = (Timestamp::from_second(1_700_000_000).unwrap(), Duration::from_secs);
        let noted = |run_s: i64| Some((started, Timestamp::from_second(1_700_000_000 + run_s).unwrap()));
        let cases = [
            (noted(60), Some(secs(61)), Some(secs(60))),
            // The agent came back when the job was long over.
            (noted(60), Some(secs(3600)), Some(secs(60))),
            (noted(-1), Some(secs(2)), Some(secs(0))),
            (noted(3660), Some(secs(61)), Some(secs(61))),
            (noted(-3540), Some(secs(61)), Some(secs(61))),
            (noted(60), None, Some(secs(60))),
            (None, Some(secs(61)), Some(secs(61))),
            (None, None, None),
        ];
        for (noted, at_most, run) in cases {
            assert_eq!(run_time(noted, at_most), run, "{noted:?} {at_most:?}");
        }
    }
}
