//! Can this VM run a job and report it? Each check looks at one thing, changes nothing, and has a deadline; what comes out is
//! a [`Finding`]. [`Preflight`] makes those on which the report depends, before a job is run, and `vmjob-agent doctor` all.

mod callback;
mod clock;
mod disk;
mod docker;
mod doctor;
mod finding;
mod job;
mod preflight;
mod unit;

pub use self::{
    doctor::doctor,
    finding::{Finding, Grade},
    preflight::Preflight,
};
