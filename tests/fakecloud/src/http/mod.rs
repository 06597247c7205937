//! As much HTTP/1.1 as a server needs that must also be able to break it on purpose: requests in, replies out.

mod reply;
mod request;
mod wire;

pub(crate) use reply::Reply;
pub(crate) use request::{Request, percent_decode};
pub(crate) use wire::Wire;

/// Bytes of a body that are kept, unless it is an object's; longer bodies are read to their end and counted.
pub(crate) const MAX_BODY_BYTES: usize = 2 << 20;
