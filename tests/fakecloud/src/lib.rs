//! Google's side of vmjob on loopback, for tests and laptops.
//!
//! Three HTTP servers that behave as the real ones do, quirks included: the Compute Engine *metadata server*, a Cloud
//! Workflows *callback endpoint*, and *Cloud Storage*. In flow requests of the software under test and, through the [`FakeCloud`] handle,
//! changes to the world (attributes, tokens, permissions) and scripted faults; out flow answers and a record of every
//! request.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! use fakecloud::{Config, FakeCloud};
//!
//! let cloud = FakeCloud::start(Config::default()).await?;
//! cloud.set_attribute("docker-command", "docker run --rm alpine true");
//! cloud.script_callback("503,reset-after,pass".parse().unwrap());
//! println!("GCE_METADATA_HOST={}", cloud.metadata_host());
//! # Ok(()) }
//! ```
//!
//! The servers are tasks of the runtime that called [`FakeCloud::start`]: on a current-thread runtime, as that of
//! `#[tokio::test]`, a blocking call stops them too. They end when the handle is dropped.

mod buckets;
mod callback;
mod cloud;
mod config;
mod connection;
mod google;
mod http;
mod listener;
mod metadata;
mod record;
mod recorded;
mod script;
mod shared;
mod state;
mod tokens;

pub use cloud::FakeCloud;
pub use config::{Config, ServiceAccount};
pub use google::storage::Object;
pub use recorded::{Answer, Event, Recorded, Site};
pub use script::{Action, Script, ScriptError, Step};
