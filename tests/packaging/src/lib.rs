//! The stage for tests of packages, images and releases: the scripts under `packaging/`, and Debian machines to try their
//! products on. In flows what `make dist` built; out flow exit codes, files and reports.
//!
//! Run it as `make test-packaging`.

mod debian;
mod fake;
mod machine;
mod page;
mod registry;
mod scratch;
mod shell;

pub use debian::{Root, deb};
pub use fake::FakeCloud;
pub use machine::Machine;
pub use page::Page;
pub use registry::Registry;
pub use scratch::Scratch;
pub use shell::{Ran, run, sh, succeed};

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The working tree.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the working tree is there")
}

/// What `make setup` fetched for tests; skips the test where it is not there.
pub fn third_party(name: &str) -> Option<PathBuf> {
    let path = repository().join("target/third-party").join(name);
    if !path.exists() {
        e2e::skip(&format!("there is no {}: make test-packaging fetches it", path.display()));
        return None;
    }
    Some(path)
}

/// A file of the release under test; skips the test where there is no release.
pub fn dist(name: &str) -> Option<PathBuf> {
    let path = repository().join("dist").join(name);
    if !path.exists() {
        e2e::skip(&format!("there is no {}: make dist", path.display()));
        return None;
    }
    Some(path)
}

/// Whether a program is on this machine; skips the test where it is not.
pub fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    if !found {
        e2e::skip(&format!("there is no {program}: make test-packaging installs it"));
    }
    found
}

/// SHA-256, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
