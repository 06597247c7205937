//! `vmjob-agent doctor`: all checks at the same time, and what they found as a table.

use std::{fmt::Write, time::Duration};

use hyper::StatusCode;

use super::{
    Finding, Grade, callback,
    clock::clock,
    disk,
    docker::{docker, gpus},
    job::Assigned,
    unit::unit,
};
use crate::{
    cli::Config,
    http::Http,
    job::{Container, Job, Work},
    metadata::{Metadata, MetadataError, Vm},
    threads::block_on,
};

/// For each check: what is asked is near, or does not answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// What was found.
struct Diagnosis {
    findings: Vec<Finding>,
    has_metadata: bool,
}

/// Looks at everything, in a few seconds at the most, and changes nothing. Returns the table and the exit status.
pub fn doctor(config: &Config) -> (String, u8) {
    match block_on(examine(config)) {
        Ok(diagnosis) => (diagnosis.table(), diagnosis.exit_code()),
        Err(error) => (format!("failed to begin: {error}"), 1),
    }
}

async fn examine(config: &Config) -> Diagnosis {
    let unit = async {
        tokio::task::spawn_blocking(unit)
            .await
            .unwrap_or_else(|error| Finding::warn("systemd unit", error.to_string(), "ask again"))
    };
    let unit = Finding::within(DEADLINE, "systemd unit", unit);
    let (vm, unit, (mut engine, info)) = tokio::join!(vm(config), unit, docker(&config.docker_host, DEADLINE));
    let Side { mut findings, has_metadata, job } = vm;
    match job.map(|job| job.work) {
        // A program of the VM's own runs without it.
        Some(Work::Process(_)) => {
            for found in engine.iter_mut().filter(|found| found.grade == Grade::Fail) {
                found.grade = Grade::Warn;
            }
        }
        Some(Work::Container(Container { gpus: Some(wanted), .. })) => {
            engine.extend(info.map(|info| gpus(&config.root, &wanted, &info)));
        }
        _ => {}
    }
    findings.push(disk::state_dir(&config.state_dir));
    findings.push(unit);
    findings.extend(engine);
    Diagnosis { findings, has_metadata }
}

/// What the metadata server has to do with.
struct Side {
    findings: Vec<Finding>,
    has_metadata: bool,
    job: Option<Job>,
}

async fn vm(config: &Config) -> Side {
    let http = Http::default();
    let metadata = Metadata::new(http.clone(), &config.metadata_host);
    let (subject, server) = ("metadata server", &config.metadata_host);
    let late = || format!("{server} does not answer within {} s", DEADLINE.as_secs());
    let identity = tokio::time::timeout(DEADLINE, metadata.vm(DEADLINE)).await;
    let vm = match identity.map_err(|_| late()).and_then(|vm| vm.map_err(|error| error.to_string())) {
        Ok(vm) => vm,
        Err(problem) => {
            let fix = "this is no Compute Engine VM, or something keeps it from 169.254.169.254 port 80";
            let findings = vec![Finding::fail(subject, problem, fix)];
            return Side { findings, has_metadata: false, job: None };
        }
    };
    let Vm { name, zone, project, .. } = &vm;
    let mut findings = vec![Finding::ok(subject, format!("{server}: VM {name} in {zone}, project {project}"))];

    let assigned = tokio::time::timeout(DEADLINE, Assigned::read(&metadata, DEADLINE, &config.block_mounts)).await;
    let assigned = assigned.map_err(|_| late()).and_then(|read| read.map_err(|error| error.to_string()));
    let assigned = assigned.unwrap_or_else(|problem| Assigned {
        findings: vec![Finding::fail("job", problem, "ask again")],
        ..Assigned::default()
    });
    let (auth, endpoint) = (assigned.auth(), assigned.endpoint(&config.callback_allow));
    let host = async {
        match endpoint {
            Ok(url) => callback::host(&http, &url, DEADLINE).await,
            Err(found) => found,
        }
    };
    let account = callback::account(&metadata, &vm, &auth, DEADLINE);
    let (account, host, clock, guest) = tokio::join!(
        Finding::within(DEADLINE, "service account", account),
        host,
        Finding::within(DEADLINE, "clock", clock(&metadata, DEADLINE)),
        guest_attributes(&metadata, &vm)
    );
    findings.extend(assigned.findings);
    findings.extend([account, host, clock, guest]);
    Side { findings, has_metadata: true, job: assigned.job }
}

/// Off is the default, and the server then says so to whoever asks.
async fn guest_attributes(metadata: &Metadata, vm: &Vm) -> Finding {
    let subject = "guest attributes";
    match metadata.get_once("instance/guest-attributes/", DEADLINE).await {
        Ok(_) => Finding::ok(subject, "on: state and report go there too"),
        Err(MetadataError::Refused { status: StatusCode::FORBIDDEN, .. }) => Finding::warn(
            subject,
            "off: the report has no second way out but the console",
            format!(
                "`gcloud compute instances add-metadata {} --project={} --zone={} --metadata=enable-guest-attributes=TRUE`",
                vm.name, vm.project, vm.zone
            ),
        ),
        Err(error) => Finding::warn(subject, error.to_string(), "ask again"),
    }
}

impl Diagnosis {
    /// 0 if a job can be run and reported, 69 if there is no metadata server, 1 if something else is in the way.
    fn exit_code(&self) -> u8 {
        match self.findings.iter().any(|found| found.grade == Grade::Fail) {
            _ if !self.has_metadata => 69,
            failed => failed.into(),
        }
    }

    /// A line a finding, in columns; below one that is not right, what to do.
    fn table(&self) -> String {
        let width = self.findings.iter().map(|found| found.subject.len()).max().unwrap_or_default();
        let mut table = String::new();
        for Finding { subject, grade, text, fix } in &self.findings {
            let grade = match grade {
                Grade::Ok => "ok",
                Grade::Warn => "warn",
                Grade::Fail => "FAIL",
            };
            // Writing to a string cannot fail. An error's text may have lines.
            let _ = writeln!(table, "{subject:width$}  {grade:4}  {}", text.replace('\n', " "));
            if !fix.is_empty() {
                let _ = writeln!(table, "{:width$}        -> {fix}", "");
            }
        }
        table.truncate(table.trim_end().len());
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_columns_and_says_what_to_do() {
        let findings =
            vec![Finding::ok("job", "it can be run"), Finding::fail("memory limits", "none\nat all", "boot another")];
        let table = Diagnosis { findings, has_metadata: true }.table();
        let lines = [
            "job            ok    it can be run",
            "memory limits  FAIL  none at all",
            "                     -> boot another",
        ];
        assert_eq!(table, lines.join("\n"));
    }
}
