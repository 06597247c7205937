//! Tests that cannot run on this machine: skipped in plain sight, or failed where none may be skipped.

use std::env;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Says, past the test harness, which hides the output of tests that pass, that a test is skipped. With
/// `VMJOB_TESTS_STRICT=1` or `CI=true` the test fails instead.
pub fn skip(why: &str) {
    let is = |name, value| env::var(name).is_ok_and(|found| found == value);
    assert!(!is("VMJOB_TESTS_STRICT", "1") && !is("CI", "true"), "{why}");
    skip_even_if_strict(why);
}

/// The same for what no run can be asked to have: the test never fails for want of it.
pub fn skip_even_if_strict(why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why} ({count} skipped so far)");
}
