//! What a workflow, or somebody who looks at the VM, sees of a job: the static binary against real Docker.

mod bad_jobs;
mod binary;
mod channels;
mod cli;
mod container_fields;
mod delivery;
mod docker_command;
mod doctor;
mod engine;
mod engine_calls;
mod exits;
mod fakecloud_run;
mod google_registry;
mod gpus;
mod images;
mod log_drivers;
mod metadata;
mod metadata_block;
mod on_finish;
mod preflight;
mod processes;
mod reboots;
mod restarts;
mod secrets;
mod service;
mod stops;
