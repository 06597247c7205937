//! What a client of the two servers sees, and what a user of the binary sees.

mod callback;
mod cli_run;
mod cli_serve;
mod faults;
mod google_auth;
mod guest_attributes;
mod metadata;
mod raw;
mod script_runner;
mod third_party;
mod tokens;
mod wait_for_change;
