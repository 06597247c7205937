//! The VM tests' stage: a machine booted from its own init, in which Google's own script runner, or cloud-init, fetches
//! what starts the agent. In flow metadata and objects; out flow the reports that a workflow gets, and the console.
//!
//! Needs root and the Debian packages systemd-container, google-guest-agent, cloud-init and docker.io; a machine with a
//! kernel of its own qemu-system-x86 and what `qemu-root.sh` makes.

mod bucket;
mod certificate;
#[path = "../../e2e/src/contract.rs"]
mod contract;
mod kind;
mod machine;
mod namespaces;
mod packaging;
mod relay;
mod setup;

pub use bucket::{Bucket, Fetched};
pub use machine::Machine;
pub use packaging::{sha256, startup_script, startup_script_of, startup_script_with, unit, user_data};
pub use relay::Outside;
pub use setup::{Setup, job, process};
