//! What runs jobs: the Docker engine, or a shim of our own. A job goes in, what became of it comes out. Every call has a deadline,
//! except the wait for the job.

mod actors;
mod config;
mod docker;
mod engine;
mod error;
mod events;
pub mod gpus;
mod init;
mod inspect;
mod metadata_block;
mod process;
mod pull;
mod read_ahead;
mod usage;

pub use self::{
    actors::{Actors, Settings},
    config::{ContainerNames, Dirs, RESULT_FILE},
    docker::{Daemon, DockerEngine},
    engine::{Engine, SecretEnv},
    error::EngineError,
    events::{Event, Events},
    init::Init,
    inspect::{ContainerFacts, EngineInfo, Found, Image, Inspected, Status},
    metadata_block::Blocked,
    process::Processes,
    pull::{pull, registry_wants_token},
    usage::{Meter, Usage},
};
