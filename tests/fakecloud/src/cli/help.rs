//! The texts of `--help`.

pub(crate) const MAIN: &str = "\
fakecloud: Google's side of vmjob on this machine, for trying a job and for tests

Usage:
  fakecloud run [OPTIONS] -- docker run IMAGE [ARGS]   run a job here and now, as a VM would
  fakecloud run [OPTIONS] --spec FILE                  the same for a job-spec
  fakecloud serve [OPTIONS]                            only the servers, until Ctrl-C

`fakecloud run --help` and `fakecloud serve --help` tell the options. `--version` tells the version.

Start here:
  fakecloud run -- docker run --rm alpine sh -c 'echo hello; exit 3'
";

pub(crate) const RUN: &str = "\
fakecloud run: run a job on this machine exactly as vmjob-agent would run it in a VM

Usage:
  fakecloud run [OPTIONS] -- docker run IMAGE [ARGS]
  fakecloud run [OPTIONS] --spec FILE

The words after `--` become the attribute `docker-command`; FILE becomes `job-spec`. The agent is
started against a metadata server and a callback endpoint on loopback. Its log is shown while the job
runs, then the report that the workflow would have got. Ctrl-C stops the job as a VM's shutdown would.

Options:
  --agent PATH       the agent (default: vmjob-agent beside this program, then in PATH)
  --spec FILE        a job-spec, as JSON
  --attribute KEY=VALUE
                     another attribute of the VM, as job-context or keep-on-failure (repeatable)
  --attribute-file KEY=PATH
                     the same, its value from a file
  --secret NAME=VALUE
                     a secret for `secret_env`; NAME is projects/P/secrets/S (repeatable)
  --state-dir DIR    keep the agent's state there (default: a new directory, removed afterwards)
  --quiet            show only the report
  --json             the report as JSON on stdout, everything else on stderr
  -h, --help         this text

Exit status: the job's own where it has one, 1 where it ended otherwise (the report says how),
70 when the agent ended without a report, 2 for a bad command line.

Your Docker daemon is used: DOCKER_HOST counts. Tokens are fake, so pull private images beforehand.

Examples:
  fakecloud run -- docker run --rm -m 512m python:3 python -c 'print(1/0)'
  fakecloud run --json --quiet --spec job.json | jq .cause
  fakecloud run --spec job.json --attribute-file job-context=context.json
";

pub(crate) const SERVE: &str = "\
fakecloud serve: a metadata server and a callback endpoint on loopback, until Ctrl-C

Usage:
  fakecloud serve [OPTIONS]

Prints the two addresses, then a line for each request and the payload of each callback.

Options:
  --bind IP                 address of both servers (default: 127.0.0.1)
  --metadata-port PORT      (default: any free port)
  --callback-port PORT      (default: any free port)
  --attribute KEY=VALUE     a custom metadata attribute of the instance; repeatable
  --attribute-file KEY=PATH the same, its value from a file
  --set PATH=VALUE          any other value, as in instance/preempted=TRUE; repeatable
  --control                 go on setting values: one PATH=VALUE a line on stdin
  --no-service-account      a VM without a service account
  --scopes SCOPE,SCOPE      the VM's OAuth scopes (default: cloud-platform)
  --script-callback STEPS   what to do with the next callbacks
  --script-metadata [PREFIX:]STEPS
                            the same for metadata requests, as in instance/attributes/:503*3
  -h, --help                this text

STEPS are separated by commas; when they are used up, the server behaves normally.
  503               answer that status; 503*3 three times; 429+retry-after=2 with a header
  hang              never answer                hang-after   take the request, never answer
  reset             reset the connection        reset-after  take the request, then reset
  truncate          cut the answer short        garbage      answer something that is not HTTP
  pass              behave normally; pass+delay=2s slowly

Examples:
  fakecloud serve --attribute docker-command='docker run alpine true' --metadata-port 8080
  GCE_METADATA_HOST=127.0.0.1:8080 vmjob-agent run --callback-allow 127.0.0.1
";
