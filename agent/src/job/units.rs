//! Durations and sizes as people write them.
//!
//! In: `"1h30m"`, `"8g"`. Out: a [`Duration`] in whole milliseconds, a number of bytes.

use std::time::Duration;

use super::error::{Problem, quote};

/// Longer than any job: what is more is a slip of the pen, and sums of such durations never overflow.
const LONGEST: Duration = Duration::from_hours(366 * 24);

pub(super) const DURATION_EXAMPLE: &str = r#"write for example "90s", "1h30m", or seconds as a number"#;
pub(super) const SIZE_EXAMPLE: &str = r#"write for example "512m", "8g", or bytes as a number"#;

/// `"90s"`, `"1h30m"`, `"1.5h"`, `"250ms"`; units `ms`, `s`, `m`, `h`, `d`.
pub(super) fn read_duration(text: &str) -> Result<Duration, Problem> {
    let wrong = |problem: String| Problem::new(problem).fix(DURATION_EXAMPLE);
    let mut rest = text;
    let mut seconds = 0.0;
    if text.is_empty() {
        return Err(wrong("\"\" is not a duration".to_owned()));
    }
    while !rest.is_empty() {
        let (number, after) = split_at_first(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, after) = split_at_first(after, |c| c.is_ascii_digit() || c == '.');
        rest = after;
        let Ok(number) = number.parse::<f64>() else {
            return Err(wrong(format!("{} is not a duration", quote(text))));
        };
        seconds += number
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                "" => return Err(wrong(format!("the duration {} has no unit", quote(text)))),
                _ => {
                    return Err(wrong(format!("the duration {} has no unit s, m, h or d", quote(text))));
                }
            };
    }
    duration_from_seconds(seconds)
}

/// A duration such as `"90s"` or `"1h30m"`; units `ms`, `s`, `m`, `h`, `d`. `None` when it is none, or longer than 366 days.
pub fn parse_duration(text: &str) -> Option<Duration> {
    read_duration(text).ok()
}

/// Rounded to milliseconds, so that a duration written out and read again is the same.
pub(super) fn duration_from_seconds(seconds: f64) -> Result<Duration, Problem> {
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| {
        let what = if seconds < 0.0 { "a duration cannot be negative" } else { "the duration is too long" };
        Problem::new(what).fix(DURATION_EXAMPLE)
    })?;
    if duration > LONGEST {
        return Err(Problem::new("the duration is longer than 366 days").fix(DURATION_EXAMPLE));
    }
    // Below 2^35: the sum and the cast are exact.
    let nanos_over = duration.subsec_nanos() % 1_000_000;
    let down = duration.saturating_sub(Duration::from_nanos(u64::from(nanos_over)));
    Ok(if nanos_over < 500_000 { down } else { down + Duration::from_millis(1) })
}

/// The shortest form that [`read_duration`] reads back as the same.
pub(super) fn format_duration(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// As `docker run --memory`: powers of 1024, units `b k m g t`, any case, `kb` and `KiB` alike.
/// <https://github.com/docker/go-units/blob/master/size.go> (`RAMInBytes`)
pub(super) fn parse_size(text: &str) -> Result<u64, Problem> {
    let wrong = || Problem::new(format!("{} is not a size", quote(text))).fix(SIZE_EXAMPLE);
    let (number, unit) = split_at_first(text, |c| !c.is_ascii_digit() && c != '.');
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(1 << shift),
        Err(_) => match number.parse::<f64>() {
            Ok(fraction) => whole((fraction * f64::from(1_u32 << (shift / 2)).powi(2)).floor()),
            Err(_) => return Err(wrong()),
        },
    };
    bytes.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(|| {
        Problem::new(format!("the size {} is beyond what an engine can count", quote(text))).fix(SIZE_EXAMPLE)
    })
}

/// A float that is a whole number, as some JSON writers print them (`1e9`, `3.0`).
pub(super) fn whole(number: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it floats are no longer exact
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
}

fn split_at_first(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [
            ("90s", 90_000),
            ("0s", 0),
            ("15m", 900_000),
            ("36h", 129_600_000),
            ("2d", 172_800_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("1m0.25s", 60_250),
            ("250ms", 250),
            ("0.0006s", 1),
        ];
        for (text, milliseconds) in good {
            let duration = read_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(read_duration(&format_duration(duration)), Ok(duration));
        }
        let bad = [
            ("", r#""" is not a duration"#),
            ("90", r#"the duration "90" has no unit"#),
            ("h", r#""h" is not a duration"#),
            ("-5s", r#""-5s" is not a duration"#),
            ("1h 30m", r#"the duration "1h 30m" has no unit s, m, h or d"#),
            ("3 weeks", r#"the duration "3 weeks" has no unit s, m, h or d"#),
            ("1.2.3s", r#""1.2.3s" is not a duration"#),
            ("367d", "the duration is longer than 366 days"),
        ];
        for (text, error) in bad {
            assert_eq!(read_duration(text), Err(Problem::new(error).fix(DURATION_EXAMPLE)), "{text}");
        }
        assert!(read_duration(&format!("{}s", "9".repeat(400))).is_err());
        for seconds in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(duration_from_seconds(seconds).is_err());
        }
    }

    #[test]
    fn sizes() {
        let good = [
            ("512", 512),
            ("1b", 1),
            ("2k", 2048),
            ("512M", 512 << 20),
            ("8g", 8 << 30),
            ("8 GiB", 8 << 30),
            ("1TB", 1 << 40),
            ("1.5g", 3 << 29),
            ("0.5kb", 512),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "g", "-1g", "8 gigs", "1..5g", "8gg", "9999999999t", "8388608t"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
