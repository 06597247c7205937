//! What a workflow, or somebody who looks at the VM, sees of a job: the static binary against real Docker.

mod bad_jobs;
mod exits;
mod images;
mod stops;
