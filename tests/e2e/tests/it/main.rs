//! What a workflow, or somebody who looks at the VM, sees of a job: the static binary against real Docker.

mod bad_jobs;
mod binary;
mod channels;
mod cli;
mod delivery;
mod docker_command;
mod engine;
mod engine_calls;
mod exits;
mod fakecloud_run;
mod google_registry;
mod images;
mod log_drivers;
mod metadata;
mod on_finish;
mod processes;
mod reboots;
mod restarts;
mod same_as_docker;
mod service;
mod stops;
