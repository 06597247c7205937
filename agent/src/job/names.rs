//! Names that more than one reader of a job knows.

/// The attribute with a job as JSON.
pub(super) const JOB_SPEC: &str = "job-spec";

/// The attribute with a job as a `docker run …` line.
pub(super) const DOCKER_COMMAND: &str = "docker-command";

/// The attribute with what a workflow says of the job beside it.
pub(super) const JOB_CONTEXT: &str = "job-context";

/// Where a container finds the directory of its result file.
pub const RESULT_DIR: &str = "/run/vmjob";

/// Set for every job by the agent itself.
pub(super) const OWN_VARIABLES: [&str; 7] = [
    "JOB_ID",
    "JOB_ATTEMPT",
    "JOB_VM_ATTEMPT",
    "JOB_PREVIOUS_CAUSE",
    "JOB_TASK_INDEX",
    "JOB_TASK_COUNT",
    "JOB_RESULT_FILE",
];

/// The fields of a job.
pub(super) const JOB_FIELDS: [&str; 17] = [
    "$schema",
    "id",
    "container",
    "process",
    "docker_command",
    "task_index",
    "task_count",
    "timeout",
    "grace",
    "success_exit_codes",
    "retry",
    "inputs",
    "outputs",
    "logs",
    "callback",
    "metadata_server",
    "on_finish",
];

/// The fields of a job's `container`.
pub(super) const CONTAINER_FIELDS: [&str; 29] = [
    "image",
    "entrypoint",
    "args",
    "env",
    "secret_env",
    "workdir",
    "user",
    "hostname",
    "mounts",
    "devices",
    "gpus",
    "cpus",
    "memory",
    "shm_size",
    "pids_limit",
    "ulimits",
    "network",
    "init",
    "read_only",
    "privileged",
    "cap_add",
    "cap_drop",
    "security_opt",
    "labels",
    "extra_hosts",
    "pull",
    "tty",
    "log_driver",
    "log_options",
];
