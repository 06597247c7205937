//! Google's APIs, called with the VM's own token: [`Client`] makes the calls, a module below says what each API takes and
//! answers.

mod client;
mod compute;
mod endpoint;
mod error;
mod patience;
mod secret_manager;
pub mod storage;

pub use self::{
    client::{Client, Limits},
    compute::Compute,
    endpoint::{EndpointError, check as check_endpoint},
    error::CallError,
    patience::Patience,
    secret_manager::{Secret, SecretError, SecretManager, SecretProblem, SecretValue},
};
