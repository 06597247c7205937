//! What the contract has and this version does not carry out yet.
//!
//! In: a job that was read. Out: one error for each such field; the file shrinks as releases come.

use super::error::{JobError, Problem};
use super::spec::ATTRIBUTE;
use super::types::{Job, MetadataServer, Work};

impl Job {
    /// The fields that this version cannot honour; a job that has any must not start.
    pub fn unsupported(&self) -> Vec<JobError> {
        let (place, secrets) = match &self.work {
            Work::Container(container) => ("container.secret_env", &container.secret_env),
            Work::Process(process) => ("process.secret_env", &process.secret_env),
        };
        let used = [(!secrets.is_empty(), place), (self.metadata_server == MetadataServer::Block, "metadata_server")];
        let error = |place: &str| {
            let what = if place == "metadata_server" { "\"block\"" } else { "it" };
            Problem::new(format!("{what} is not supported by this version of vmjob-agent"))
                .fix("leave it out, or use a later version")
                .at(ATTRIBUTE, place)
        };
        used.into_iter().filter(|(used, _)| *used).map(|(_, place)| error(place)).collect()
    }
}
