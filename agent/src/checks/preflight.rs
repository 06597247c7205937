//! Before the image is pulled: will the agent be able to report? Nothing that is found here keeps a job from being run, but
//! that its report could never get out.

use std::{path::PathBuf, time::Duration};

use hyper::Uri;

use super::{Finding, Grade, callback, clock::clock, disk};
use crate::{
    http::Http,
    job::CallbackAuth,
    journal::Preflighted,
    metadata::{Metadata, Vm},
    outcome::Failure,
};

/// For all checks: what they ask is near, or does not answer.
const DEADLINE: Duration = Duration::from_secs(4);

/// What is looked at. Owned: the checks run beside the start of the job.
pub struct Preflight {
    pub http: Http,
    pub metadata: Metadata,
    pub vm: Vm,
    /// `None` where no report is to be sent.
    pub callback: Option<(Uri, CallbackAuth)>,
    pub state_dir: PathBuf,
}

impl Preflight {
    /// Makes the checks at the same time; an error where no report could ever be delivered.
    pub async fn run(self) -> (Preflighted, Result<(), Failure>) {
        let Self { http, metadata, vm, callback, state_dir } = self;
        let account = async {
            let (_, auth) = callback.as_ref()?;
            let look = callback::account(&metadata, &vm, auth, DEADLINE);
            Some(Finding::within(DEADLINE, "service account", look).await)
        };
        let host = async {
            let (url, _) = callback.as_ref()?;
            Some(callback::host(&http, url, DEADLINE).await)
        };
        let clock = Finding::within(DEADLINE, "clock", clock(&metadata, DEADLINE));
        let (account, host, clock) = tokio::join!(account, host, clock);
        let obstacle = account.as_ref().filter(|account| account.grade == Grade::Fail);
        let failure =
            obstacle.map(|found| Failure::CannotReport { problem: found.text.clone(), fix: found.fix.clone() });
        let found = [account, host, Some(clock), Some(disk::state_dir(&state_dir))];
        let found = found.into_iter().flatten().filter(|finding| !finding.is_ok());
        let warnings = if failure.is_some() { Vec::new() } else { found.map(|finding| finding.to_string()).collect() };
        (Preflighted { is_done: true, warnings, cannot_report: failure.is_some() }, failure.map_or(Ok(()), Err))
    }
}
