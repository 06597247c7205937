//! `vmjob-agent check`: reads a job and says what would run, or what is wrong with it.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    gate::printable,
    job::{MetadataServer, is_meant_as_spec, parse_docker_command, parse_spec},
};

/// More than the largest job; what is longer is refused by the reader with its own words.
const MAX_INPUT_BYTES: u64 = 1 << 20;

/// Reads a job from `file`, or from stdin, and returns what it resolves to as JSON; the warnings go to stderr.
///
/// # Errors
/// What is wrong, a line a problem.
pub fn check(file: Option<&Path>, block_mounts: &[PathBuf]) -> Result<String, String> {
    let mut text = Vec::new();
    let read = match file {
        Some(path) => File::open(path).and_then(|file| file.take(MAX_INPUT_BYTES).read_to_end(&mut text)),
        None => io::stdin().take(MAX_INPUT_BYTES).read_to_end(&mut text),
    };
    let name = file.map_or("stdin".into(), |path| path.display().to_string());
    read.map_err(|error| format!("failed to read {name}: {error}"))?;
    // Each attribute's own reader says what is wrong with what is neither.
    let start = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
    let is_spec = start.trim_ascii().is_empty() || str::from_utf8(start).is_ok_and(is_meant_as_spec);
    let parsed = if is_spec { parse_spec(&text) } else { parse_docker_command(&text) };
    let parsed = parsed.map_err(|error| error.to_string())?;
    parsed.job.check_block_mounts(block_mounts).map_err(|error| error.to_string())?;
    if parsed.job.metadata_server == MetadataServer::Block {
        eprintln!(
            "warning: metadata_server \"block\" was looked at by names alone: where links lead, which volumes there are, what a \
             device is and the groups of a user are looked at in the VM, before each start"
        );
    }
    for warning in parsed.warnings() {
        eprintln!("warning: {}", printable(warning, ""));
    }
    Ok(format!("{:#}", parsed.job.to_json()))
}
