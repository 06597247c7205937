//! Taking the job on: the record that a run goes on with, from the journal, the metadata and the marker.

use std::time::Duration;

use tracing::{info, warn};

use super::error::{RunError, journal_failure};
use crate::{
    claim::{self, Assignment, Reading},
    cli::Config,
    clock,
    delivery::{self, End},
    journal::{Journal, Phase, Record},
    marker::{Marker, Sent},
    metadata::Metadata,
    outcome::Failure,
    panics::Panics,
    stop::Notices,
};

/// A job to run, or to go on with.
pub(super) struct TakenOn {
    pub(super) record: Record,
    pub(super) reading: Reading,
    pub(super) carried_on: bool,
    pub(super) marker: Marker,
}

impl TakenOn {
    /// A job on record: goes on with it, or settles it where its report has left.
    fn known(record: Record, sent: Sent, marker: Marker, panics: &Panics) -> Self {
        let reading = Reading::of(&record.source, &record.context, &panics.of(&record.claim));
        if is_reported(&record, sent) {
            return Self::settled(record, reading, sent, marker);
        }
        info!(job = record.job_id, phase = ?record.phase, "carrying on");
        Self { record, reading, carried_on: true, marker }
    }

    /// Its report has left the VM, `sent` tells how far it came, and the record does not hold it: nothing of the job is done again.
    fn settled(mut record: Record, reading: Reading, sent: Sent, marker: Marker) -> Self {
        record.phase = Phase::Delivered;
        record.finished = sent == Sent::Settled;
        record.delivery.end = Some(if sent == Sent::Settled {
            info!(job = record.job_id, "the report of this job is out already: the job is not run again");
            End::Delivered
        } else {
            let problem =
                "its record was lost while the report was being sent: the job is neither run nor reported again";
            warn!(job = record.job_id, "{problem}");
            End::GaveUp(problem.into())
        });
        Self { record, reading, carried_on: true, marker }
    }
}

/// Whether a report has left that `record` does not know of. A record with the report goes on sending the same bytes.
fn is_reported(record: &Record, sent: Sent) -> bool {
    record.phase != Phase::Delivered && (sent == Sent::Settled || sent == Sent::Begun && record.report.is_none())
}

/// The record to go on with: the journal's where it is about this job, else a new one. `None` if the agent was told to stop
/// while there was no job.
pub(super) async fn take_on(
    config: &Config,
    journal: &Journal,
    metadata: &Metadata,
    notices: &mut Notices,
    cannot_run: Option<String>,
    panics: &Panics,
) -> Result<Option<TakenOn>, RunError> {
    let boot_id = clock::boot_id()?;
    let marker_of = |claim: &str| Marker::new(&config.state_dir, claim);
    let sent_of =
        async |marker: &Marker, claim: &str| marker.sent().max(delivery::reported_elsewhere(metadata, claim).await);
    let is_mendable = |record: &Record| record.phase == Phase::Delivered && record.preflight.cannot_report;
    // A VM that could not report may have been mended while it was off: nothing of its job has run.
    let known = journal.load()?.filter(|record| !is_mendable(record) || record.attempt.boot_id == boot_id);
    // The same boot is the same VM and the same job: nobody needs to be asked.
    if let Some(record) = known.clone()
        && record.phase != Phase::Delivered
        && record.attempt.boot_id == boot_id
    {
        let marker = marker_of(&record.claim);
        let sent = marker.sent();
        return Ok(Some(TakenOn::known(record, sent, marker, panics)));
    }

    let delivered = known.as_ref().is_some_and(|record| record.phase == Phase::Delivered);
    let patience =
        if delivered { config.metadata_patience.min(Duration::from_secs(10)) } else { config.metadata_patience };
    let mut no_time = notices.clone();
    let assignment = tokio::select! {
        assignment = claim::read(metadata, patience, notices) => assignment,
        () = no_time.last_moment() => return Err(RunError::NoTime),
    };
    match (known, assignment) {
        (Some(record), Ok(Some(assignment))) if is_same(&record, &assignment) => {
            let marker = marker_of(&record.claim);
            let sent = sent_of(&marker, &record.claim).await;
            Ok(Some(TakenOn::known(record, sent, marker, panics)))
        }
        (known, Ok(Some(mut assignment))) => {
            let refusal = assignment.failure.take().or(cannot_run.map(Failure::Agent));
            let mut reading = assignment.read_job(&panics.of(&assignment.claim));
            let marker = marker_of(&assignment.claim);
            let sent = sent_of(&marker, &assignment.claim).await;
            let mut record = assignment.into_record(&boot_id, reading.job.as_deref());
            // What an earlier job could not have undone is this one's to undo.
            if let Some(Record { blocked: Some(blocked), claim, mut blocked_claims, .. }) = known {
                blocked_claims.push(claim);
                (record.blocked, record.blocked_claims) = (Some(blocked), blocked_claims);
            }
            if sent != Sent::No {
                return Ok(Some(TakenOn::settled(record, reading, sent, marker)));
            }
            info!(job = record.job_id, vm = record.vm.name, "took the job on");
            if record.callback_url.is_none() {
                warn!("there is no `callback-url`: the report goes to stdout and the journal only");
            }
            if refusal.is_some() {
                // Nothing of it can be run: should the agent die now, the metadata are read again.
                reading.refusal = refusal;
                return Ok(Some(TakenOn { record, reading, carried_on: false, marker }));
            }
            marker.prepare();
            let saved = journal.reserve().and_then(|()| journal.clear_logs()).and_then(|()| journal.save(&record));
            if let Err(source) = saved {
                reading.refusal = Some(journal_failure(config, source));
            }
            Ok(Some(TakenOn { record, reading, carried_on: false, marker }))
        }
        (_, Ok(None)) => {
            info!("told to stop while there was no job");
            Ok(None)
        }
        // Nothing is known of a new job, and the old one is done.
        (Some(record), Err(error)) if delivered => {
            warn!("{error}");
            let marker = marker_of(&record.claim);
            Ok(Some(TakenOn::known(record, Sent::No, marker, panics)))
        }
        (_, Err(error)) => Err(error.into()),
    }
}

/// A job that is under way on this VM stays the job, even if the attributes were changed meanwhile. A disk image made of a
/// VM at work carries its journal to other VMs: there it means nothing.
fn is_same(record: &Record, assignment: &Assignment) -> bool {
    if record.claim == assignment.claim {
        return true;
    }
    let under_way = record.phase != Phase::Delivered && record.vm.id == assignment.instance_id();
    if under_way {
        warn!("the job's attributes were changed; the job that is under way comes first");
    }
    under_way
}
