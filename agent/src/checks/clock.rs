//! Whether the VM's clock is right: certificates and tokens are good for a time only.

use std::time::Duration;

use jiff::Timestamp;

use super::Finding;
use crate::metadata::Metadata;

/// As much as Google's tokens are lenient with.
const TOLERANCE_S: i64 = 5 * 60;
const SUBJECT: &str = "clock";

/// Holds the clock against the metadata server's, which is the host's.
pub(super) async fn clock(metadata: &Metadata, deadline: Duration) -> Finding {
    match metadata.time(deadline).await {
        Ok(Some(right)) => compare(Timestamp::now(), right),
        Ok(None) => Finding::ok(SUBJECT, "not compared: the metadata server does not tell the time (no Date header)"),
        Err(error) => Finding::warn(SUBJECT, error.to_string(), "compare it with `date -u`"),
    }
}

fn compare(now: Timestamp, right: Timestamp) -> Finding {
    let ahead_s = now.as_second() - right.as_second();
    if ahead_s.abs() <= TOLERANCE_S {
        return Finding::ok(SUBJECT, format!("within {} s of the metadata server's", ahead_s.abs()));
    }
    let where_to = if ahead_s > 0 { "ahead of" } else { "behind" };
    Finding::warn(
        SUBJECT,
        format!("{} s {where_to} the metadata server's: certificates and tokens may be refused", ahead_s.abs()),
        "set it from `server metadata.google.internal` with chrony or systemd-timesyncd",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_are_forgiven_either_way() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        for second in [-300, 0, 300_i64] {
            assert!(compare(at(second), at(0)).is_ok(), "{second}");
        }
        assert!(compare(at(301), at(0)).text.starts_with("301 s ahead of"));
        assert!(compare(at(-7200), at(0)).text.starts_with("7200 s behind"));
    }
}
