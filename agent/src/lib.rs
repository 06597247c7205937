//! vmjob-agent: runs the one job of a Compute Engine VM and reports to a Cloud Workflows callback how it ended.
//!
//! Data flows one way: [`metadata`] → [`job`] → [`runtime`] → [`logs`] → [`outcome`] → [`delivery`], with the [`journal`] below
//! all of them. [`mod@run`] is the one place that knows them all.

pub mod check;
pub mod checks;
pub mod claim;
pub mod cli;
pub mod clock;
pub mod crc;
pub mod delivery;
pub mod durable;
pub mod files;
pub mod gate;
pub mod http;
pub mod install;
pub mod job;
pub mod journal;
pub mod logging;
pub mod logs;
pub mod marker;
pub mod mask;
pub mod metadata;
pub mod on_finish;
pub mod outcome;
pub mod panics;
pub mod retry;
pub mod run;
pub mod runtime;
pub mod secrets;
pub mod service;
pub mod shim;
pub mod status;
pub mod stop;
pub mod storage;
pub mod threads;
pub mod waits;
