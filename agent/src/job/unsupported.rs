//! What the contract has and this version does not carry out yet.
//!
//! In: a job that was read. Out: one error for each such field; the file shrinks as releases come.

use super::error::{JobError, Problem};
use super::spec::ATTRIBUTE;
use super::types::Job;

impl Job {
    /// The fields that this version cannot honour; a job that has any must not start.
    pub fn unsupported(&self) -> Vec<JobError> {
        let used = [
            (!self.inputs.is_empty(), "inputs"),
            (!self.outputs.is_empty(), "outputs"),
            (self.logs.upload.is_some(), "logs.upload"),
        ];
        let error = |place: &str| {
            Problem::new("it is not supported by this version of vmjob-agent")
                .fix("leave it out, or use a later version")
                .at(ATTRIBUTE, place)
        };
        used.into_iter().filter(|(used, _)| *used).map(|(_, place)| error(place)).collect()
    }
}
