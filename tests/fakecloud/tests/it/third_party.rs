//! Google's own clients, fetched by `third-party.sh` into the workspace's `target/third-party`. Where one cannot be had its tests are skipped, loudly; with
//! `VMJOB_TESTS_STRICT=1` they fail instead.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fetched file, or `None` after saying that this test is skipped.
pub(crate) fn part(path: &str) -> Option<PathBuf> {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let file = DIR.get_or_init(fetch).join(path);
    if !file.is_file() {
        skip(&format!("{} cannot be had", file.display()));
        return None;
    }
    Some(file)
}

/// Says past the test harness, which hides the output of tests that pass, that a test is skipped.
pub(crate) fn skip(why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    assert!(std::env::var_os("VMJOB_TESTS_STRICT").is_none_or(|strict| strict != "1"), "{why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why} ({count} skipped so far)");
}

fn fetch() -> PathBuf {
    let dir = match std::env::var_os("VMJOB_THIRD_PARTY_DIR") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/third-party"),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("third-party.sh");
    let output = Command::new(script).arg(&dir).output().expect("third-party.sh starts");
    let _ = std::io::stderr().write_all(&output.stderr);
    dir
}
