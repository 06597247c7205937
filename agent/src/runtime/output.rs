//! What a container writes, as the engine passes it on.

use std::pin::Pin;

use bollard::{container::LogOutput, errors::Error};
use futures_util::Stream;

/// What bollard gives for attach and for logs.
pub type OutputStream = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;
