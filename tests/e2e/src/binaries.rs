//! The binaries under test: those that ship.

use std::env;
use std::path::{Path, PathBuf};

/// The agent's static binary.
pub fn agent_binary() -> PathBuf {
    binary("VMJOB_AGENT", "vmjob-agent")
}

/// The static binary of fakecloud.
pub fn fakecloud_binary() -> PathBuf {
    binary("FAKECLOUD", "fakecloud")
}

fn binary(variable: &str, name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/x86_64-unknown-linux-musl/release").join(name);
    let path = env::var_os(variable).map_or(built, PathBuf::from);
    assert!(path.is_file(), "there is no {}: run `make build`, or set {variable}", path.display());
    path
}
