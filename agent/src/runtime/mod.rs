//! What runs jobs: the Docker engine, or a shim of our own. A job goes in, what became of it comes out. Every call has a deadline,
//! except the wait for the job.

mod actors;
mod block_check;
mod config;
mod docker;
mod engine;
mod error;
mod events;
pub mod gpus;
mod init;
mod inspect;
mod main_process;
mod metadata_block;
mod process;
mod pull;
mod read_ahead;
mod sieve;
mod usage;

pub use self::{
    actors::{Actors, Settings},
    block_check::{BlockRules, check_block},
    config::{ContainerNames, Dirs, RESULT_FILE},
    docker::{Daemon, DockerEngine},
    engine::{Engine, SecretEnv},
    error::{EngineError, says_disk_full},
    events::{Event, Events},
    init::Init,
    inspect::{ContainerFacts, EngineInfo, Found, Image, Inspected, Status},
    main_process::MainProcess,
    metadata_block::Blocked,
    process::Processes,
    pull::{pull, registry_wants_token},
    usage::{Meter, Usage},
};
