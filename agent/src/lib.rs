//! vmjob-agent: runs the one job of a Compute Engine VM and reports to a Cloud Workflows callback how it ended.
//!
//! Modules, from the top. Each imports only from lines below its own, which the test in `order.rs` holds:
//!
//! ```text
//! run
//! checks, check
//! report, claim, cli, status
//! journal
//! outcome, panics
//! logs, delivery, on_finish
//! runtime, stop, marker
//! google
//! shim, install, logging, metadata
//! files, http
//! gate, service, job
//! clock, console, crc, durable, machine, mask, retry, threads, waits
//! plain_file
//! ```

pub mod check;
pub mod checks;
pub mod claim;
pub mod cli;
pub mod clock;
pub mod console;
pub mod crc;
pub mod delivery;
pub mod durable;
pub mod files;
pub mod gate;
pub mod google;
pub mod http;
pub mod install;
pub mod job;
pub mod journal;
pub mod logging;
pub mod logs;
pub mod machine;
pub mod marker;
pub mod mask;
pub mod metadata;
pub mod on_finish;
#[cfg(test)]
mod order;
pub mod outcome;
pub mod panics;
pub mod plain_file;
pub mod report;
pub mod retry;
pub mod run;
pub mod runtime;
pub mod service;
pub mod shim;
pub mod status;
pub mod stop;
pub mod threads;
pub mod waits;
