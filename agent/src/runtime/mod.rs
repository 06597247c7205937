//! What runs jobs: the Docker engine, or a shim of our own. A job goes in, what became of it comes out. Every call has a deadline,
//! except the wait for the job.

mod actors;
mod ask_again;
mod block_check;
mod config;
mod docker;
mod engine;
mod error;
mod escalation;
mod events;
mod freezer;
pub mod gpus;
mod init;
mod inspect;
mod main_process;
mod metadata_block;
mod output;
mod process;
mod pull;
mod questions;
mod read_ahead;
mod sieve;
mod usage;

pub use self::{
    actors::Actors,
    block_check::{BlockRules, check_block},
    config::{ContainerNames, Dirs, JobIdentity, RESULT_FILE, SecretEnv, job_env},
    docker::{Daemon, DockerEngine},
    engine::Engine,
    error::{EngineError, says_disk_full},
    events::{Event, Events},
    init::Init,
    inspect::{ContainerFacts, EngineInfo, Exit, Found, Image, Inspected, Settings, Status},
    main_process::MainProcess,
    metadata_block::Blocked,
    output::{OutputStream, Replay},
    process::Processes,
    pull::{PullError, pull, registry_wants_token},
    usage::{Meter, Usage},
};
