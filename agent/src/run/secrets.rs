//! The job's secrets in a run: fetched before the container is made, kept in memory alone, and fetched again by a restarted agent,
//! which has to mask them in what is left of the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use super::{Run, known_secrets::Secrets, noted::named};
use crate::{
    cli::Config,
    google::{SecretError, SecretManager, SecretProblem},
    job::Job,
    journal::Phase,
    logs::LogSummary,
    mask::{MaskPlace, Masker, Masks},
    outcome::{Failure, Outcome},
    report::Upload,
    runtime::SecretEnv,
};

/// How long a restarted agent waits for what it needs to show the rest of the log.
const AGAIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long it does so when the job is to be stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

impl Run<'_> {
    /// Fetches the job's secrets, unless they are known, or there are none.
    pub(super) async fn fetch_secrets(&mut self, job: &Job) -> Result<(), Failure> {
        let patience = self.config.metadata_patience;
        self.fetch_secrets_for(job, patience).await?;
        // A restarted agent needs the very same versions.
        if job.secret_env().is_empty() { Ok(()) } else { self.save() }
    }

    async fn fetch_secrets_for(&mut self, job: &Job, patience: Duration) -> Result<(), SecretError> {
        let wanted = job.secret_env();
        if wanted.is_empty() || matches!(self.secrets, Secrets::Known { .. }) {
            return Ok(());
        }
        let versions = &self.record.attempt.secrets;
        let version_of = |name: &String| versions.get(name).unwrap_or(name).clone();
        let names: BTreeSet<String> = wanted.values().map(version_of).collect();
        let Config { secretmanager_endpoint, callback_allow, .. } = self.config;
        let (http, metadata) = (&self.http, &self.metadata);
        let manager = SecretManager::new(http, metadata, secretmanager_endpoint, callback_allow, &self.waits);
        let count = names.len();
        let _waiting = self.waits.begin(format!("the secrets {}", named(names.iter().map(String::as_str))));
        let secrets = manager.access(names, patience).await?;
        info!("fetched {count} of the job's secrets");
        let found = |name: &String| secrets.get(&version_of(name));
        check_size(secrets.iter().map(|(name, secret)| (name.as_str(), secret.value.reveal())))?;
        let values = wanted.iter().filter_map(|(variable, name)| Some((variable.clone(), found(name)?.value.clone())));
        let env: SecretEnv = values.collect();
        for (variable, _) in env.iter().filter(|(_, value)| !Masker::can_mask(value.reveal())) {
            warn!("the secret in {variable} is too short to be masked in the log");
        }
        let pinned: BTreeMap<_, _> =
            wanted.values().filter_map(|name| Some((name.clone(), found(name)?.version.clone()))).collect();
        let values: BTreeSet<String> = env.values().map(|value| value.reveal().to_owned()).collect();
        // Large ones take seconds.
        let masker = spawn_blocking(move || Masker::new(values.iter().map(String::as_str))).await;
        let masker = Arc::new(masker.unwrap_or_else(|error| resume_unwind(error.into_panic())));
        self.gate.hide_secrets(masker.clone());
        self.record.attempt.secrets = pinned;
        self.secrets = Secrets::Known { env, masker };
        Ok(())
    }

    /// For a job that an agent before this one has made: one that runs goes on without its secrets, but nothing more of its log is
    /// shown. One that was not started yet needs them, whatever an earlier try to fetch them came to.
    pub(super) async fn fetch_secrets_again(&mut self, job: &Job) {
        if self.record.attempt.withheld.is_some() && self.record.phase != Phase::Created {
            return;
        }
        let mut notices = self.notices.clone();
        let stopped = async {
            notices.stop().await;
            sleep(STOP_PATIENCE).await;
        };
        let fetched = tokio::select! {
            fetched = self.fetch_secrets_for(job, AGAIN_PATIENCE) => fetched,
            () = stopped => Err(SecretError {
                name: job.secret_env().values().next().cloned().unwrap_or_default(),
                problem: SecretProblem::Stopped,
                fix: None,
            }),
        };
        match fetched {
            Ok(()) => self.record.attempt.withheld = None,
            Err(error) => {
                warn!("{error}; nothing more of the job's log is shown, as its secrets cannot be masked");
                self.record.attempt.withheld = Some(self.gate.text(&error.to_string()));
                self.save_if_possible();
                self.secrets = Secrets::Lost(error);
            }
        }
    }

    /// The job's secrets; an error where they could not be fetched again. Without them no job is begun.
    pub(super) fn secret_env(&self, job: &Job) -> Result<SecretEnv, Failure> {
        match &self.secrets {
            Secrets::Known { env, .. } => Ok(env.clone()),
            Secrets::Unknown if job.secret_env().is_empty() => Ok(SecretEnv::new()),
            Secrets::Unknown => Err(Failure::Agent("the job's secrets were not fetched".into())),
            Secrets::Lost(error) => Err(error.clone().into()),
        }
    }

    /// What the log goes through, if the job has secrets.
    pub(super) fn masks(secrets: &Secrets, job: &Job, place: MaskPlace) -> Option<Masks> {
        match secrets {
            Secrets::Known { masker, .. } => Some(Masks::new(Some(masker.clone()), place)),
            _ if job.secret_env().is_empty() => None,
            _ => Some(Masks::new(None, place)),
        }
    }

    /// Where the secrets could not be masked, of outputs that are not all there no more is told than that: the job has named their files.
    pub(super) fn withhold_names(&self, uploads: &mut [Upload], outcome: &mut Outcome) {
        if self.record.attempt.withheld.is_none() {
            return;
        }
        let withheld = "withheld: the job's secrets in it could not be masked";
        let known = self.record.attempt.outcome.as_ref();
        outcome.evidence = known.map_or_else(Vec::new, |known| known.evidence.clone());
        if let Some(known) = known.filter(|known| known.message != outcome.message) {
            outcome.evidence.push(known.message.clone());
            outcome.message = format!("an output is not in its bucket; why is {withheld}");
        }
        uploads.iter_mut().filter_map(|upload| upload.error.as_mut()).for_each(|error| *error = withheld.into());
    }

    /// What may be told of a job that has ended: none of its own words where its secrets in them could not be masked.
    pub(super) fn unless_withheld(
        &self,
        outcome: &mut Outcome,
        logs: LogSummary,
        result: Option<serde_json::Value>,
    ) -> (LogSummary, Option<serde_json::Value>) {
        let Some(why) = &self.record.attempt.withheld else { return (logs, result) };
        let what = "the log's text and the result are withheld: the agent was restarted, and could not mask the secrets in them";
        outcome.evidence.push(format!("{what}: {why}"));
        (logs.withheld(), None)
    }
}

/// Whether as much can be masked, each value counted once.
fn check_size<'a>(secrets: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), SecretError> {
    let (mut values, mut bytes) = (BTreeSet::new(), 0);
    for (name, value) in secrets {
        bytes += if values.insert(value) { value.len() } else { 0 };
        if bytes > Masker::MAX_BYTES {
            return Err(SecretError {
                name: name.to_owned(),
                problem: SecretProblem::TooLarge { max_kib: Masker::MAX_BYTES / 1024 },
                fix: Some(
                    "keep in Secret Manager what is secret, such as a key, and the rest in a bucket (`inputs`)".into(),
                ),
            });
        }
    }
    Ok(())
}
