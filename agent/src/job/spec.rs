//! The `job-spec` attribute: one JSON document.
//!
//! In: its bytes. Out: a [`Job`] with every default filled in, and warnings; or the first thing that is wrong with it.

use std::time::Duration;

use super::checks;
use super::container::{read_container, read_process};
use super::docker_command::{self, Line};
use super::error::{JobError, Problem};
use super::json::Json;
use super::names::{JOB_FIELDS, JOB_SPEC};
use super::reader::{Field, Fields};
use super::types::{Job, MetadataServer, OnFinish, Parsed, Work};
use super::{doubts, json, json_faults, settings, text};

pub(super) const METADATA_SERVERS: [(&str, MetadataServer); 2] =
    [("allow", MetadataServer::Allow), ("block", MetadataServer::Block)];
pub(super) const ON_FINISHES: [(&str, OnFinish); 3] =
    [("none", OnFinish::None), ("poweroff", OnFinish::Poweroff), ("delete", OnFinish::Delete)];

const DOCKER_LINE: &str = "docker_command";
/// What a job runs: one of these.
const WORKS: [&str; 3] = ["container", "process", DOCKER_LINE];
const EXAMPLE: &str = r#"{"container": {"image": "alpine", "args": ["echo", "hello"]}}"#;

/// Reads a job-spec. `text` is the value of the attribute as it came.
pub fn parse_spec(text: &[u8]) -> Result<Parsed, JobError> {
    let whole = |problem: Problem| problem.at(JOB_SPEC, "");
    let text = text::decode(text, EXAMPLE).map_err(whole)?;
    if json_faults::is_command_line(text) {
        return Err(whole(Problem::new("this is a command line, not JSON").fix("give it as docker-command")));
    }
    let value = json::parse(text).map_err(|problem| whole(problem.fix_if_none("a job-spec is one JSON document")))?;
    if let Some(problem) = wrapped(&value) {
        return Err(whole(problem));
    }
    read_job(&Field::root(JOB_SPEC, &value))
}

/// A document that holds a job as its only part.
fn wrapped(value: &Json) -> Option<Problem> {
    match value {
        Json::String(text) if text.trim_start().starts_with(['{', '[']) => Some(
            Problem::new("this is a string that holds JSON: it was encoded twice")
                .fix("give the document itself; in a workflow, leave one json.encode_to_string out"),
        ),
        Json::String(text) if text.trim_start().starts_with("docker ") => {
            Some(Problem::new("this is a command line in quotes").fix("give it as docker-command, without the quotes"))
        }
        Json::List(items) if matches!(items[..], [Json::Object(_)]) => Some(
            Problem::new("this is a list with one object, and a job is an object").fix("leave the [ and the ] out"),
        ),
        _ => None,
    }
}

fn read_job(field: &Field) -> Result<Parsed, JobError> {
    if !matches!(field.value(), Json::Object(_)) {
        return Err(field.expected(&format!("an object such as {EXAMPLE}")));
    }
    // "$schema" is for editors, whatever it holds.
    let fields = field.object(&JOB_FIELDS)?;
    let (work, line) = work(&fields)?;
    let mut job = Job::new(work);
    job.id = fields.read("id", |f| f.checked(checks::job_id))?;
    (job.task_index, job.task_count) = task(&fields)?;
    job.timeout = fields.read("timeout", |f| match f.duration()? {
        timeout if timeout.is_zero() => {
            Err(f.error(Problem::new("a job cannot end in no time").fix("leave it out for no limit")))
        }
        timeout => Ok(timeout),
    })?;
    fields.set(&mut job.grace, "grace", Field::duration)?;
    if let Some(stop_timeout) = line.grace {
        if let Some(field) = fields.get("grace") {
            let problem = Problem::new("the docker_command has a --stop-timeout, which says the same");
            return Err(field.error(problem.fix("leave one of the two out")));
        }
        job.grace = stop_timeout;
    }
    fields.set(&mut job.success_exit_codes, "success_exit_codes", |f| {
        let items = f.items("a list of exit codes such as [3]")?;
        items.map(|item| item.whole(1..=255)).collect()
    })?;
    fields.set(&mut job.retry, "retry", settings::retry)?;
    fields.set(&mut job.inputs, "inputs", |f| {
        let items = f.items(r#"a list such as [{"from": "gs://bucket/in.csv", "to": "/data/in.csv"}]"#)?;
        items.map(|item| settings::input(&item)).collect()
    })?;
    fields.set(&mut job.outputs, "outputs", |f| {
        let items = f.items(r#"a list such as [{"from": "/data/out", "to": "gs://bucket/out/"}]"#)?;
        items.map(|item| settings::output(&item)).collect()
    })?;
    fields.set(&mut job.logs, "logs", settings::logs)?;
    fields.set(&mut job.callback, "callback", settings::callback)?;
    fields.set(&mut job.metadata_server, "metadata_server", |f| f.choice(&METADATA_SERVERS))?;
    fields.set(&mut job.on_finish, "on_finish", |f| f.choice(&ON_FINISHES))?;
    job.check_block().map_err(|error| if line.is_given { error.of_flag() } else { error })?;
    job.check_places()?;
    let LineNotes { ignored, mut doubts, .. } = line;
    doubts.extend(doubts::of(&job));
    Ok(Parsed { job, ignored, doubts })
}

/// What a `docker_command` says beside its container.
#[derive(Default)]
struct LineNotes {
    is_given: bool,
    grace: Option<Duration>,
    ignored: Vec<String>,
    doubts: Vec<String>,
}

fn work(fields: &Fields) -> Result<(Work, LineNotes), JobError> {
    let given: Vec<&str> = WORKS.into_iter().filter(|name| fields.get(name).is_some()).collect();
    if let [first, second, ..] = given[..] {
        let problem = format!("{first} and {second} are both given, and a job has one of {}", WORKS.join(", "));
        return Err(fields.error(Problem::new(problem).fix("leave the other out")));
    }
    if let Some(container) = fields.read("container", read_container)? {
        return Ok((Work::Container(container), LineNotes::default()));
    }
    if let Some(process) = fields.read("process", read_process)? {
        return Ok((Work::Process(process), LineNotes::default()));
    }
    if let Some(Line { container, grace, ignored, doubts }) = fields.read(DOCKER_LINE, docker_line)? {
        return Ok((Work::Container(container), LineNotes { is_given: true, grace, ignored, doubts }));
    }
    Err(fields.error(Problem::new("there is no container to run").fix(format!("write for example {EXAMPLE}"))))
}

fn docker_line(field: &Field) -> Result<Line, JobError> {
    let text = field.string()?;
    docker_command::read_line(&text).map_err(|error| error.inside(JOB_SPEC, DOCKER_LINE))
}

fn task(fields: &Fields) -> Result<(u32, u32), JobError> {
    let most = i64::from(u32::MAX);
    let count: u32 = fields.read("task_count", |f| f.whole(1..=most))?.unwrap_or(1);
    let index = fields.read("task_index", |f| {
        let index: u32 = f.whole(0..=most)?;
        if index < count {
            return Ok(index);
        }
        Err(f.error(
            Problem::new(format!("{index} is not below the task_count of {count}")).fix("the first task has index 0"),
        ))
    })?;
    Ok((index.unwrap_or(0), count))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::{
        CallbackAuth, Container, Device, Gpus, Mount, MountKind, Pull, RetryOn, Ulimit, parse_docker_command,
    };

    /// Everything that a container job can say.
    fn full() -> serde_json::Value {
        serde_json::from_str(include_str!("testdata/full.json")).unwrap()
    }

    fn parse(value: &serde_json::Value) -> Result<Parsed, JobError> {
        parse_spec(value.to_string().as_bytes())
    }

    fn container(parsed: Parsed) -> Container {
        match parsed.job.work {
            Work::Container(container) => container,
            Work::Process(_) => panic!("not a container"),
        }
    }

    #[test]
    fn every_field_is_read_and_written_back() {
        let parsed = parse(&full()).unwrap();
        assert_eq!(parsed.warnings().next(), None);
        assert_eq!(parse(&parsed.job.to_json()).unwrap(), parsed);
        let job = parsed.job.clone();
        assert_eq!((job.task_index, job.task_count, job.id.as_deref()), (1, 2, Some("train-42")));
        assert_eq!((job.timeout, job.grace), (Some(Duration::from_hours(36)), Duration::from_millis(500)));
        assert_eq!(job.success_exit_codes, [3, 75]);
        assert_eq!(job.retry.on[2], RetryOn::ExitCode(74));
        assert!(job.retry.covers("VM_REBOOTED", None) && job.retry.covers("EXIT_CODE", Some(74)));
        assert!(!job.retry.covers("EXIT_CODE", Some(1)) && !job.retry.covers("SIGNAL", Some(74)));
        assert_eq!(job.callback.auth, CallbackAuth::IdToken { audience: None });
        assert_eq!(job.on_finish, OnFinish::Delete);
        let container = container(parsed);
        assert_eq!(container.args, ["train.py", ""]);
        assert_eq!((container.memory, container.cpus), (Some(8 << 30), Some(4.0)));
        assert_eq!(container.ulimits["core"], Ulimit { soft: 0, hard: -1 });
        assert_eq!(container.gpus, Some(Gpus::Devices(vec!["0".to_owned(), "1".to_owned()])));
        let path = "/dev/fuse".to_owned();
        assert_eq!(container.devices, [Device { host: path.clone(), container: path, permissions: "rwm".to_owned() }]);
        let kind = MountKind::Tmpfs { size: Some(1 << 30) };
        assert_eq!(container.mounts[2], Mount { kind, target: "/t".to_owned(), read_only: false });
        assert_eq!((container.pull, container.log_options.len()), (Pull::Always, 1));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let parsed = parse(&json!({"container": {"image": "alpine", "env": null}})).unwrap();
        assert_eq!(parsed.job, Job::new(Work::Container(Container::new("alpine"))));
        let options = json!({"container": {"image": "alpine", "log_options": {"max-file": "2"}}});
        let options = container(parse(&options).unwrap()).log_options;
        assert_eq!(
            options.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
            ["max-file=2", "max-size=50m"]
        );
        let process = parse(&json!({"process": {"command": ["/x"]}})).unwrap();
        assert_eq!(parse(&process.job.to_json()).unwrap(), process);
    }

    #[test]
    fn errors_name_the_place_what_was_found_and_what_to_write() {
        for case in include_str!("testdata/spec_errors.txt").trim_end().split("\n\n") {
            let (change, error) = case.split_once('\n').expect("a case has two lines");
            let (path, value) = change.split_once(" = ").expect("path = value");
            let mut spec = full();
            let mut place = &mut spec;
            for name in path.split('.') {
                place = &mut place[name];
            }
            *place = serde_json::from_str(value).unwrap();
            assert_eq!(parse(&spec).unwrap_err().to_string(), error, "{change}");
        }
    }

    #[test]
    fn a_docker_command_beside_other_fields_is_its_container() {
        let line = "docker run --stop-timeout 5 --rm -e A=1 \\\n  -m 1g alpine ls *.py";
        let spec = json!({
            "$schema": "https://example.com/job.json", "docker_command": line, "id": "a", "timeout": "1h",
            "outputs": [{"from": "/out/", "to": "gs://b/out/"}], "on_finish": "delete",
        });
        let (parsed, alone) = (parse(&spec).unwrap(), parse_docker_command(line.as_bytes()).unwrap());
        assert_eq!((&parsed.job.work, &parsed.ignored), (&alone.job.work, &alone.ignored));
        assert_eq!(parsed.job.grace, Duration::from_secs(5));
        assert_eq!((parsed.job.timeout, parsed.job.on_finish), (Some(Duration::from_hours(1)), OnFinish::Delete));
        assert!(parsed.doubts.concat().contains("*.py"), "{:?}", parsed.doubts);
        assert_eq!(parse(&parsed.job.to_json()).unwrap().job, parsed.job);
    }

    #[test]
    fn errors_of_a_docker_command_name_the_place_in_the_line() {
        let cases = [
            (json!({"docker_command": ["docker", "run"]}), "docker_command: expected a string, found a list"),
            (json!({"docker_command": ""}), "docker_command: there is no command; write for example docker run alpine"),
            (json!({"docker_command": "docker run -m 8gigs a"}), "docker_command: -m: \"8gigs\" is not a size"),
            (
                json!({"docker_command": "docker run \\\n -e A=$B alpine"}),
                "docker_command: line 2, column 7: \"$…\" is not",
            ),
            (json!({"docker_command": "docker run --detach-keys x a"}), "docker_command: --detach-keys"),
            (json!({"docker_command": "docker run Alpine"}), "docker_command: \"Alpine\" is not an image reference"),
            (
                json!({"docker_command": "docker run --stop-timeout 5 a", "grace": "9s"}),
                "grace: the docker_command has a --stop-timeout, which says the same; leave one of the two out",
            ),
            (
                json!({"docker_command": "docker run --cap-add NET_ADMIN a", "metadata_server": "block"}),
                "docker_command: --cap-add: a container with NET_ADMIN cannot be kept",
            ),
        ];
        for (spec, error) in cases {
            let found = parse(&spec).unwrap_err().to_string();
            assert!(found.starts_with(&format!("job-spec: {error}")), "{found}");
        }
    }

    #[test]
    fn texts_that_are_no_job_say_why() {
        let cases = [
            (
                "",
                r#"the text is empty; write for example {"container": {"image": "alpine", "args": ["echo", "hello"]}}"#,
            ),
            (
                "[]",
                r#"expected an object such as {"container": {"image": "alpine", "args": ["echo", "hello"]}}, found a list"#,
            ),
            ("docker run alpine", "this is a command line, not JSON; give it as docker-command"),
            ("spec:\n  x", "line 1, column 1: this is YAML, not JSON; write it as JSON, for example with yq -o=json"),
            (
                r#""{\"id\": 1}""#,
                "this is a string that holds JSON: it was encoded twice; give the document itself; in a workflow, leave one json.encode_to_string out",
            ),
            (r#""docker run a""#, "this is a command line in quotes; give it as docker-command, without the quotes"),
            (r#"[{"id": "a"}]"#, "this is a list with one object, and a job is an object; leave the [ and the ] out"),
            (
                r#"{"id": "a", "id": "b"}"#,
                r#"line 1, column 16: the key "id" is given twice; leave one of the two out"#,
            ),
        ];
        for (text, error) in cases {
            assert_eq!(parse_spec(text.as_bytes()).unwrap_err().to_string(), format!("job-spec: {error}"));
        }
    }

    #[test]
    fn doubts_are_told() {
        let spec = json!({
            "container": {"image": "a", "args": ["python train.py"], "env": {"JOB_ID": "x"}},
            "retry": {"max_attempts": 2.0, "on": ["EXIT_CODE:137"]}
        });
        assert_eq!(
            parse(&spec).unwrap().doubts,
            [
                "the only argument \"python train.py\" has a space in it and stays one word: if it is a command line, give each word on its own",
                "the value given for JOB_ID is not used: vmjob sets it itself",
                "retry.on names EXIT_CODE:137, but a job that ends with 137 has the cause SIGNAL or OOM_KILLED: name that",
            ]
        );
        let words = [
            (json!({"container": {"image": "a", "entrypoint": ["sh", "-c"], "args": ["python train.py"]}}), ""),
            (json!({"container": {"image": "a", "entrypoint": ["bash", "-lc"], "args": ["python train.py"]}}), ""),
            (json!({"container": {"image": "a", "entrypoint": ["/bin/sh"], "args": ["x", "a b"]}}), ""),
            (
                json!({"container": {"image": "a", "entrypoint": ["/bin/sh"], "args": ["python train.py"]}}),
                "the only argument \"python train.py\" has",
            ),
            (json!({"container": {"image": "a", "entrypoint": ["run.sh --x"]}}), "the entrypoint \"run.sh …\" has"),
            (json!({"process": {"command": ["run.sh --x"]}}), "the command \"run.sh …\" has a space in it"),
            (json!({"process": {"command": ["run.sh", "a b"]}}), ""),
        ];
        for (spec, doubt) in words {
            let doubts = parse(&spec).unwrap().doubts;
            assert!(doubts.concat().starts_with(doubt) && doubts.is_empty() == doubt.is_empty(), "{spec}: {doubts:?}");
        }
    }
}
