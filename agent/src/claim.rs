//! Taking a job on: what the metadata says there is to do becomes a record, or is found to be the one on record already.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use tracing::{info, warn};

use crate::{
    clock,
    job::{
        Job, JobContext, JobError, Parsed, of_context, parse_context, parse_docker_command, parse_duration, parse_spec,
    },
    journal::{Attempt, Keep, Phase, Preflighted, Record, Source},
    metadata::{Metadata, MetadataError, Vm, Watched},
    outcome::Failure,
    panics::Panics,
    stop::Notices,
};

const KEEP_ON_FAILURE: &str = "keep-on-failure";

/// What the metadata says there is to do.
pub struct Assignment {
    /// Names this job on this VM with this callback: the same again is not a new job.
    pub claim: String,
    vm: Vm,
    callback_url: Option<String>,
    source: Source,
    context: JobContext,
    keep: Option<Keep>,
    /// Why there is no job that can be run, if so.
    pub failure: Option<Failure>,
}

/// Reads the assignment, waiting for one where there is none yet. `None` if the VM is to end before there is one.
pub async fn read(
    metadata: &Metadata,
    patience: Duration,
    notices: &mut Notices,
) -> Result<Option<Assignment>, MetadataError> {
    let vm = metadata.vm(patience).await?;
    let mut changes = metadata.watch("instance/attributes/", Watched::Directory);
    let mut told = false;
    loop {
        let attributes = read_attributes(metadata, patience).await?;
        if attributes.is_empty() {
            if !std::mem::replace(&mut told, true) {
                info!("no job yet: waiting for the attributes `callback-url` and `job-spec` or `docker-command`");
            }
            tokio::select! {
                // Where they cannot be read as a whole, they are read one by one at its pace.
                _ = changes.try_next() => continue,
                _ = notices.vm_end() => return Ok(None),
            }
        }

        let callback_url = attributes.callback_url();
        let (source, mut failure) = attributes.source();
        let context = attributes.context().unwrap_or_else(|error| {
            failure.get_or_insert(error.into());
            JobContext::default()
        });
        let Attributes { spec, command, context: context_text, .. } = &attributes;
        let mut parts = vec![
            Some(vm.id.as_bytes()),
            callback_url.as_deref().map(str::as_bytes),
            spec.as_deref(),
            command.as_deref(),
        ];
        // Where there is none, the claim is what it was before there could be one.
        parts.extend(context_text.as_deref().map(Some));
        return Ok(Some(Assignment {
            claim: claim(&parts),
            vm,
            callback_url,
            source,
            context,
            keep: attributes.keep(),
            failure,
        }));
    }
}

/// What the VM's attributes say, as they are.
pub struct Attributes {
    callback_url: Option<Bytes>,
    spec: Option<Bytes>,
    command: Option<Bytes>,
    context: Option<Bytes>,
    keep: Option<Bytes>,
}

pub async fn read_attributes(metadata: &Metadata, patience: Duration) -> Result<Attributes, MetadataError> {
    let attribute = async |key| metadata.get(&format!("instance/attributes/{key}"), patience).await;
    let callback_url = attribute("callback-url").await?;
    let (spec, command, context, keep) = tokio::try_join!(
        attribute("job-spec"),
        attribute("docker-command"),
        attribute("job-context"),
        attribute(KEEP_ON_FAILURE)
    )?;
    Ok(Attributes { callback_url, spec, command, context, keep })
}

impl Attributes {
    pub fn is_empty(&self) -> bool {
        self.callback_url.is_none() && self.spec.is_none() && self.command.is_none()
    }

    pub fn callback_url(&self) -> Option<String> {
        self.callback_url.as_ref().map(|url| String::from_utf8_lossy(url).trim_matches(is_around).to_owned())
    }

    /// What the workflow says of the job beside it.
    pub fn context(&self) -> Result<JobContext, JobError> {
        self.context.as_deref().map_or_else(|| Ok(JobContext::default()), parse_context)
    }

    /// How long what a failed job leaves behind stays. A time that is not understood fails no job.
    pub fn keep(&self) -> Option<Keep> {
        let text = str::from_utf8(self.keep.as_ref()?).unwrap_or_default().trim_matches(is_around);
        let time = parse_duration(text).or_else(|| text.parse().ok().map(Duration::from_secs));
        if time.is_none() {
            warn!("{KEEP_ON_FAILURE} is no duration, and nothing is kept: write for example 2h");
        }
        time.filter(|time| !time.is_zero()).map(Keep::new)
    }

    /// The job's text, or why there is none.
    pub fn source(&self) -> (Source, Option<Failure>) {
        let text = |bytes: &[u8]| str::from_utf8(bytes).map(str::to_owned).ok();
        match (&self.spec, &self.command) {
            (Some(_), Some(_)) => (Source::Unreadable, Some(Failure::TwoJobs)),
            (None, None) => (Source::Unreadable, Some(Failure::NoJob)),
            (Some(spec), None) => match text(spec) {
                Some(text) => (Source::JobSpec(text), None),
                None => (Source::Unreadable, parse_spec(spec).err().map(Failure::Spec)),
            },
            (None, Some(command)) => match text(command) {
                Some(text) => (Source::DockerCommand(text), None),
                None => (Source::Unreadable, parse_docker_command(command).err().map(Failure::Spec)),
            },
        }
    }
}

/// What files have around a value: a line's end, and on Windows a byte order mark.
fn is_around(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{feff}' | '\0')
}

/// A digest of the parts and of where one ends and the next begins.
fn claim(parts: &[Option<&[u8]>]) -> String {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.unwrap_or_default());
    }
    let digest = digest(&SHA256, &text);
    digest.as_ref()[..16].iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

impl Assignment {
    pub fn instance_id(&self) -> &str {
        &self.vm.id
    }

    pub fn read_job(&self, panics: &Panics) -> Reading {
        Reading::of(&self.source, &self.context, panics)
    }

    /// The record with which the job begins. Without `job` it says nothing that only the job's text does.
    pub fn into_record(self, boot_id: &str, job: Option<&Job>) -> Record {
        let job_id = job.and_then(|job| job.id.clone()).unwrap_or_else(|| self.vm.id.clone());
        Record {
            version: Record::VERSION,
            claim: self.claim,
            phase: Phase::Claimed,
            job_id,
            task_index: job.map_or(0, |job| job.task_index),
            task_count: job.map_or(1, |job| job.task_count),
            source: self.source,
            context: self.context,
            callback_url: self.callback_url,
            vm: self.vm,
            agent_started_at: clock::now(),
            preflight: Preflighted::default(),
            attempt: Attempt { number: 1, boot_id: boot_id.to_owned(), ..Attempt::default() },
            earlier_attempts: Vec::new(),
            report: None,
            delivery: crate::delivery::Progress::default(),
            keep: self.keep,
            finished: false,
            blocked: None,
            blocked_claims: Vec::new(),
        }
    }
}

/// The job of a run, read from its text once.
pub struct Reading {
    /// `None` where the text is none of a job's, or may not be read.
    pub job: Option<Arc<Job>>,
    /// What the job asks for in vain, and what it probably means otherwise.
    pub ignored: Vec<String>,
    pub doubts: Vec<String>,
    /// Why the job is not to be run, if so.
    pub refusal: Option<Failure>,
}

impl Reading {
    /// Reads `source`, unless reading is what may have panicked.
    pub fn of(source: &Source, context: &JobContext, panics: &Panics) -> Self {
        let parsed = if panics.may_read_job() {
            parse(source, context)
        } else {
            Err(Failure::Panicked { count: panics.count(), latest: panics.latest() })
        };
        match parsed {
            Ok(Parsed { job, ignored, doubts }) => Self { job: Some(Arc::new(job)), ignored, doubts, refusal: None },
            Err(refusal) => Self { job: None, ignored: Vec::new(), doubts: Vec::new(), refusal: Some(refusal) },
        }
    }

    /// The job, to be run; an error says, once, why it is not to be.
    pub fn to_run(&mut self) -> Result<Arc<Job>, Failure> {
        match (self.refusal.take(), &self.job) {
            (None, Some(job)) => Ok(Arc::clone(job)),
            (refusal, _) => Err(refusal.unwrap_or_else(|| Failure::Agent("the job's text was not kept".into()))),
        }
    }
}

/// The job of a record. Unreadable sources never get here as jobs: they were reported when they were read.
pub fn parse(source: &Source, context: &JobContext) -> Result<Parsed, Failure> {
    let mut parsed = match source {
        Source::JobSpec(text) => parse_spec(text.as_bytes())?,
        Source::DockerCommand(text) => parse_docker_command(text.as_bytes())?,
        Source::Unreadable => return Err(Failure::Agent("the job's text was not kept".into())),
    };
    parsed.doubts.extend(of_context(&parsed.job, context));
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_names_one_job() {
        let part = |text: &'static str| Some(text.as_bytes());
        let claims = [
            claim(&[part("1"), part("u"), part("j"), None]),
            claim(&[part("2"), part("u"), part("j"), None]),
            claim(&[part("1"), part("uj"), part(""), None]),
            claim(&[part("1"), part("u"), None, part("j")]),
            claim(&[part("1"), None, part("j"), None]),
        ];
        for (index, one) in claims.iter().enumerate() {
            assert!(claims[index + 1..].iter().all(|other| other != one));
            assert_eq!(one.len(), 32);
        }
    }
}
