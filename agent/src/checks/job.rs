//! What this VM is to run, as its metadata have it now: read as the agent reads it.

use std::{path::PathBuf, time::Duration};

use super::Finding;
use crate::{
    claim::{self, read_attributes},
    delivery::CALLBACK_URL,
    google::check_endpoint,
    job::{CallbackAuth, Job},
    metadata::{Metadata, MetadataError},
    outcome::Outcome,
};

/// The job, where there is one that can be run, and where its report goes; besides, what is to be said of both.
#[derive(Default)]
pub(super) struct Assigned {
    pub(super) job: Option<Job>,
    pub(super) callback_url: Option<String>,
    pub(super) findings: Vec<Finding>,
}

impl Assigned {
    pub(super) async fn read(
        metadata: &Metadata,
        deadline: Duration,
        block_mounts: &[PathBuf],
    ) -> Result<Self, MetadataError> {
        let subject = "job";
        let attributes = read_attributes(metadata, deadline).await?;
        if attributes.is_empty() {
            let fix = "set the attributes `callback-url` and `job-spec` or `docker-command`; the agent waits for them";
            let findings = vec![Finding::warn(subject, "there is none yet", fix)];
            return Ok(Self { findings, ..Self::default() });
        }
        let callback_url = attributes.callback_url();
        let (source, failure) = attributes.source();
        let parsed = failure.map_or_else(|| Ok(attributes.context()?), Err).and_then(|context| {
            let parsed = claim::parse(&source, &context)?;
            parsed.job.check_block_mounts(block_mounts)?;
            Ok(parsed)
        });
        let (job, findings) = match parsed {
            Ok(parsed) => {
                let name = parsed.job.image().unwrap_or("a program of the VM");
                let valid = Finding::ok(subject, format!("it can be run: {name}"));
                let doubts = parsed
                    .doubts
                    .iter()
                    .map(|text| Finding::warn(subject, text.as_str(), "`vmjob-agent check` shows what would run"));
                let findings = std::iter::once(valid).chain(doubts).collect();
                (Some(parsed.job), findings)
            }
            Err(failure) => {
                let Outcome { message, fix, .. } = Outcome::from(&failure);
                let fix = fix.unwrap_or_else(|| "try it with `vmjob-agent check`".into());
                (None, vec![Finding::fail(subject, message, fix)])
            }
        };
        Ok(Self { job, callback_url, findings })
    }

    /// How the callback wants to be authorized; as usual where there is no telling.
    pub(super) fn auth(&self) -> CallbackAuth {
        self.job.as_ref().map_or(CallbackAuth::AccessToken, |job| job.callback.auth.clone())
    }

    /// The URL, or what is wrong with it.
    pub(super) fn endpoint(&self, allowed_hosts: &[String]) -> Result<hyper::Uri, Finding> {
        let subject = "callback URL";
        let Some(url) = &self.callback_url else {
            let fix = "set the attribute `callback-url`, or read the report from the console or the guest attributes";
            return Err(Finding::warn(subject, "there is none: nothing will be sent", fix));
        };
        let fix = "it is what `events.create_callback_endpoint` returns";
        check_endpoint(CALLBACK_URL, url, &self.auth(), allowed_hosts)
            .map_err(|error| Finding::fail(subject, error.to_string(), fix))
    }
}
