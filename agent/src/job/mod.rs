//! The job: what to run, read from the VM's metadata and checked whole before anything starts.
//!
//! In: the bytes of the `job-spec` attribute (JSON) or of `docker-command` (a `docker run …` line).
//! Out: a [`Job`] with every default filled in, and warnings; or a [`JobError`] that names the place.
//! Nothing here touches a network, a file or a clock, and no command line is ever given to a shell.

mod blocking;
mod checks;
mod container;
mod context;
mod discreet;
mod docker_command;
mod docker_head;
mod docker_mounts;
mod docker_values;
mod doubts;
mod error;
mod flags;
mod image_ref;
mod json;
mod json_faults;
mod names;
mod odd_chars;
mod places;
mod reader;
mod settings;
mod spec;
mod template;
mod text;
mod to_json;
mod types;
mod units;
mod users;
mod variables;
mod wildcard;
mod words;

#[cfg(test)]
mod properties;

pub use blocking::{bind_place, is_allowed_source, not_blocked, refused_device, refused_source};
pub use checks::is_secret_version;
pub use context::{JobContext, parse_context};
pub use docker_command::parse_docker_command;
pub(crate) use doubts::of_context;
pub use error::JobError;
pub(crate) use json_faults::is_meant_as_spec;
pub use names::RESULT_DIR;
pub use places::{FileMount, OwnMount, Place, Root, relative};
pub use spec::parse_spec;
pub use types::{
    Callback, CallbackAuth, Container, Device, Gpus, Input, Job, Logs, MetadataServer, Mount, MountKind, OnFinish,
    Output, Parsed, Process, Pull, Retry, RetryOn, Ulimit, Work,
};
pub use units::parse_duration;
pub use variables::{Variables, item_variable};
pub use wildcard::Wildcard;
