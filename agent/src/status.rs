//! `vmjob-agent status`: what the journal says of the job.

use std::path::Path;

use serde_json::json;

use crate::journal;

/// The record in `state_dir` as JSON; its `phase` is null where there is no job on record. Takes no lock, so it can be asked
/// while the agent runs.
///
/// # Errors
/// Why the record cannot be read.
pub fn status(state_dir: &Path) -> Result<String, String> {
    match journal::read(state_dir) {
        Ok(Some(Ok(record))) => Ok(format!("{:#}", json!(record))),
        Ok(Some(Err(error))) => Err(format!("the journal in {} is unreadable: {error}", state_dir.display())),
        Ok(None) => Ok(format!("{:#}", json!({ "phase": null }))),
        Err(error) => Err(error.to_string()),
    }
}
