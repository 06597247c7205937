//! What the shim waits for.

use std::{io, os::unix::net::UnixStream};

pub(super) enum Event {
    /// A client's signal, by name; the answer goes back on the stream.
    Signal(String, UnixStream),
    /// The service manager wants the shim to end.
    Told,
    /// The two streams of output have ended.
    Drained,
    Exited(io::Result<()>),
}
