//! Google's APIs, a file each, as the agent's `google` has their clients.

pub(crate) mod compute;
pub(crate) mod secret_manager;
pub(crate) mod storage;
