//! The Docker engine, as far as a job needs it: containers go in by their configuration, what became of them comes out.
//! Every call has a deadline, except the wait for the job.

mod config;
mod engine;
mod error;
mod events;
mod inspect;
mod pull;
mod usage;

pub use self::{
    config::{ContainerNames, RESULT_FILE, container_config},
    engine::Engine,
    error::EngineError,
    events::{Event, Events},
    inspect::{Found, Inspected, Status},
    pull::{pull, registry_wants_token},
    usage::{Meter, Usage},
};
