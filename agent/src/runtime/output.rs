//! What a container writes, as the engine passes it on.

use std::pin::Pin;

use bollard::{container::LogOutput, errors::Error};
use futures_util::Stream;

/// What bollard gives for attach and for logs.
pub type OutputStream = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// What is wanted of a container's output that is read from its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// Also what is still to come.
    pub follow: bool,
    /// Each entry behind its time and a space.
    pub with_times: bool,
}
