//! Cloud Storage: objects into files and files into objects, by small REST calls, streamed in constant memory. Each call has a
//! deadline and is tried again by its status; a transfer that breaks goes on where it broke, and is checked by CRC32C.

mod body;
mod client;
mod compose;
mod download;
mod error;
mod location;
mod object;
mod pool;
mod upload;

pub use self::{
    client::{Storage, stall},
    compose::MAX_SOURCES,
    error::{Access, StorageError},
    location::{Location, relative_path},
    object::{Listing, Object},
    pool::Pool,
    upload::Traits,
};
