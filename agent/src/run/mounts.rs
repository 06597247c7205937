//! Sources of mounts that are not there: the engine makes an empty directory of each, which is rarely what was meant.

use std::path::Path;

use tracing::warn;

use super::Run;
use crate::job::{Job, MountKind, Work};

impl Run<'_> {
    /// Notes which sources are missing, before the engine makes them. Where the job's outputs come from, nothing need be.
    pub(super) fn note_missing_sources(&mut self, job: &Job) {
        let Work::Container(container) = &job.work else { return };
        let is_missing = |source: &&String| {
            Path::new(source).symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        let missing = container.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Bind { source, create: true } => {
                let is_for_outputs =
                    job.outputs.iter().any(|output| Path::new(&output.from).starts_with(&mount.target));
                Some(source).filter(|_| !is_for_outputs).filter(is_missing)
            }
            _ => None,
        });
        self.record.attempt.missing_sources = missing.cloned().collect();
    }

    /// Tells of those that the engine has made: one whose files are not the agent's may have found them.
    pub(super) fn tell_made_sources(&mut self) {
        for source in std::mem::take(&mut self.record.attempt.missing_sources) {
            if Path::new(&source).is_dir() {
                let fact = format!("there was nothing at {source} on the VM; the engine made an empty directory there");
                warn!("{}", fact.escape_debug());
                self.note(&fact);
            }
        }
    }
}
