//! The end-to-end tests' stage: a pretended VM, in which the agent's static binary runs jobs on real Docker against
//! `fakecloud`. In flow jobs, faults and signals; out flows the report, checked against the contract.
//!
//! `VMJOB_AGENT` and `FAKECLOUD` name the binaries under test; without them they are those of `make build`.
//! Run it as `tests/with-docker cargo test -p e2e`.

mod agent;
mod behind;
mod binaries;
mod contract;
pub mod docker;
mod expect;
mod fuse;
mod gate;
mod registry;
mod road;
mod skip;
mod vm;
mod wait;

pub use agent::Agent;
pub use binaries::{agent_binary, fakecloud_binary};
pub use expect::expect;
pub use fuse::Hang;
pub use gate::{Fate, Gate};
pub use registry::{Registry, StoppedRegistry, free_port};
pub use road::{Bump, Road};
pub use skip::{skip, skip_even_if_strict};
pub use vm::{Kind, UNTIL_LET_GO, Vm, files, merge};
pub use wait::{DEADLINE, until, until_within};
