//! Google's APIs, called with the VM's own token.

mod endpoint;

pub use self::endpoint::check as check_endpoint;
