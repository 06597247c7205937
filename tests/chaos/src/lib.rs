//! Lives of the agent under faults. A seed goes in; what broke comes out.
//!
//! A [`plan::Plan`] is drawn from a seed: a job and a schedule of faults. [`life`] lives it with the real binary, the real
//! engine and a fake of Google's side, and brings back [`evidence`], all of it seen from outside. [`model`] says what is true,
//! [`invariants`] hold the agent's report against it.

pub mod agent;
pub mod cli;
pub mod diary;
pub mod docker;
pub mod draw;
pub mod engine;
pub mod evidence;
pub mod invariants;
pub mod job;
mod kinds;
pub mod life;
pub mod log_file;
pub mod model;
pub mod plan;
pub mod runner;
pub mod schedule;
mod silence;
pub mod summary;
pub mod tell;
mod world;
