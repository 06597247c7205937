//! Promises about every input: no text makes a reader panic, and a job written out is the job that is read back.

use std::collections::BTreeSet;
use std::fmt::Debug;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::names::{CONTAINER_FIELDS, JOB_FIELDS};
use super::{parse_docker_command, parse_spec};

/// Values that mean something to at least one field, and some that mean nothing.
fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..70_000_u32).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0.0..500.0).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[0-9]{1,3}(\\.[0-9]{1,4})?(ms|s|m|h|k|g|)".prop_map(Value::from),
        prop::sample::select(vec![
            "all",
            "bind",
            "volume",
            "tmpfs",
            "always",
            "none",
            "id_token",
            "block",
            "/data",
            "/dev/a:/dev/b:r",
            "gs://b/x",
            "alpine",
            "a:1",
            "EXIT_CODE:3",
            "TIMEOUT",
            "projects/p/secrets/s/versions/1",
            "1:2",
            "",
        ])
        .prop_map(Value::from),
        Just(Value::Null),
    ]
}

fn name() -> impl Strategy<Value = String> {
    let own = [
        "type",
        "source",
        "target",
        "size",
        "from",
        "to",
        "on",
        "max_attempts",
        "auth",
        "audience",
        "soft",
        "hard",
        "nofile",
    ];
    let known: Vec<&str> = JOB_FIELDS.into_iter().chain(CONTAINER_FIELDS).chain(own).collect();
    prop_oneof![8 => prop::sample::select(known).prop_map(str::to_owned), 1 => "\\PC{0,4}"]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A field: its name, and its value where it is there.
type GoodField = (&'static str, BoxedStrategy<Option<Value>>);

fn given<T: Into<Value> + Debug + 'static>(
    name: &'static str,
    values: impl Strategy<Value = T> + 'static,
) -> GoodField {
    (name, values.prop_map(|value| Some(value.into())).boxed())
}

fn maybe<T: Into<Value> + Debug + 'static>(
    name: &'static str,
    values: impl Strategy<Value = T> + 'static,
) -> GoodField {
    (name, prop::option::of(values.prop_map(Into::into)).boxed())
}

fn one_of(name: &'static str, values: &[Value]) -> GoodField {
    maybe(name, prop::sample::select(values.to_vec()))
}

/// Objects with each of these fields there or not.
fn object(fields: Vec<GoodField>) -> impl Strategy<Value = Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values.prop_map(move |values| {
        let given = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Value::Object(given.collect())
    })
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("\\PC{1,9}", 1..3)
}

fn capabilities() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("(CAP_|cap_)?(KILL|sys_admin|BPF)", 1..3)
}

fn table(keys: &'static str) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(keys, "\\PC{0,9}", 0..3).prop_map(|map| json!(map))
}

fn secrets() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("S[A-Z]{0,2}", "projects/[a-z]/secrets/[a-z]{1,4}/versions/(latest|[1-9])", 0..3)
        .prop_map(|map| json!(map))
}

/// Good containers: every field with values of its own kind.
fn good_container() -> Vec<GoodField> {
    let mounts = [
        json!([{"type": "bind", "source": "/a", "target": "/b", "read_only": true}, {"type": "volume", "target": "/c"}]),
        json!([{"type": "volume", "source": "data", "target": "/c"}, {"type": "tmpfs", "target": "/d", "size": 77}]),
        json!([{"type": "bind", "source": "/a", "target": "/b", "create": true}, {"type": "tmpfs", "target": "/d"}]),
    ];
    vec![
        given("image", prop::sample::select(vec!["alpine", "gcr.io/p/i:1", "[::1]:5000/a/b"])),
        maybe("entrypoint", texts()),
        maybe("args", texts()),
        maybe("env", table("E[A-Z]{0,2}")),
        maybe("secret_env", secrets()),
        maybe("workdir", "/\\PC{0,9}"),
        maybe("user", "([a-z][a-z0-9]{0,3}|[1-9][0-9]{0,3})(:([a-z][a-z0-9]{0,3}|0))?"),
        maybe("hostname", "[a-z.]{1,64}"),
        one_of("mounts", &mounts),
        one_of("devices", &[json!(["/dev/a:r"]), json!(["/dev/a:/dev/b", "/dev/c"])]),
        one_of("gpus", &[json!("all"), json!(3), json!(["0", "GPU-1"])]),
        maybe("cpus", 0.01..4096.0),
        maybe("memory", 6_u64 << 20..1 << 40),
        maybe("shm_size", 1_u64..1 << 62),
        maybe("pids_limit", prop_oneof![Just(-1), 1..1 << 20]),
        one_of("ulimits", &[json!({"core": "1:-1", "nofile": 9}), json!({"nproc": {"soft": 1, "hard": 2}})]),
        maybe("network", "[ -~é]{1,9}"),
        maybe("init", any::<bool>()),
        maybe("read_only", any::<bool>()),
        maybe("privileged", any::<bool>()),
        maybe("cap_add", capabilities()),
        maybe("cap_drop", capabilities()),
        one_of("security_opt", &[json!(["no-new-privileges", "seccomp=unconfined"]), json!(["seccomp={}"])]),
        maybe("labels", table("L[A-Z]{0,2}")),
        one_of("extra_hosts", &[json!(["a=1.2.3.4", "b:::1"]), json!([])]),
        one_of("pull", &[json!("always"), json!("missing"), json!("never")]),
        maybe("tty", any::<bool>()),
        one_of("log_driver", &[json!("local"), json!("json-file")]),
        maybe("log_options", table("O[A-Z]{0,2}")),
    ]
}

fn good_process() -> Vec<GoodField> {
    vec![
        given("command", texts()),
        maybe("env", table("E[A-Z]{0,2}")),
        maybe("secret_env", secrets()),
        maybe("workdir", "/\\PC{0,9}"),
        maybe("user", "[a-z][a-z0-9]{0,3}|[1-9][0-9]{0,3}"),
    ]
}

/// Good jobs but for what they run.
fn good_settings() -> Vec<GoodField> {
    let callbacks = [
        json!({"auth": "id_token", "audience": "x"}),
        json!({"auth": "none", "give_up_after": 1.5}),
        json!({"auth": "access_token", "give_up_after": "24h"}),
    ];
    vec![
        maybe("$schema", "\\PC{0,9}"),
        maybe("id", "[A-Za-z0-9_.-]{1,63}"),
        maybe("task_index", 0..7),
        given("task_count", 7..99),
        maybe("timeout", 0.001..3e7),
        maybe("grace", 0.0..3e7),
        maybe("success_exit_codes", prop::collection::vec(1..=255_u8, 0..3)),
        one_of(
            "retry",
            &[json!({"max_attempts": 7, "on": ["TIMEOUT", "EXIT_CODE:255"]}), json!({"on": ["EXIT_CODE"]})],
        ),
        one_of("inputs", &[json!([{"from": "gs://b/in.csv", "to": "/data/in.csv"}]), json!([])]),
        one_of(
            "outputs",
            &[json!([{"from": "/o", "to": "gs://b/o/", "required": false}]), json!([{"from": "/o", "to": "gs://b/"}])],
        ),
        one_of("logs", &[json!({"summary_bytes": 1024, "forward": false}), json!({"upload": "gs://b/logs/"})]),
        one_of("callback", &callbacks),
        one_of("metadata_server", &[json!("allow"), json!("block")]),
        one_of("on_finish", &[json!("none"), json!("poweroff"), json!("delete")]),
    ]
}

fn good_job() -> impl Strategy<Value = Value> {
    let work = prop_oneof![
        3 => object(vec![("container", object(good_container()).prop_map(Some).boxed())]),
        1 => object(vec![("process", object(good_process()).prop_map(Some).boxed())]),
        1 => object(vec![given("docker_command", "docker run (-e A=[a-z] )?(--cpus 2 )?alpine( '[a-z ]{1,9}')?")]),
    ];
    (work, object(good_settings())).prop_map(|(mut job, settings)| {
        for (name, value) in settings.as_object().unwrap() {
            job[name] = value.clone();
        }
        job
    })
}

#[test]
fn good_jobs_have_every_field() {
    let names = |fields: Vec<GoodField>| fields.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
    assert_eq!(names(good_container()), BTreeSet::from(CONTAINER_FIELDS));
    let job = names(good_settings()).into_iter().chain(["container", "process", "docker_command"]);
    assert_eq!(job.collect::<BTreeSet<_>>(), BTreeSet::from(JOB_FIELDS));
}

/// Pieces of command lines, good and bad.
fn line() -> impl Strategy<Value = String> {
    let pieces = vec![
        " ",
        " ",
        " ",
        "\\\n",
        "\n",
        "'",
        "\"",
        "\\",
        "$A",
        "|",
        "=",
        ":",
        ",",
        "-",
        "--",
        "/x",
        "a",
        "é",
        "1",
        "-e A=1",
        "-it",
        "-v /a:/b:ro",
        "--mount type=bind,src=/a,dst=/b",
        "--tmpfs /x:size=1m",
        "--gpus '\"device=0,1\"'",
        "-m 1g",
        "--cpus",
        "--ulimit nofile=1:2",
        "--restart no",
        "--rm=false",
        "--log-opt a=b",
        "--entrypoint ''",
        "alpine",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..12)
        .prop_map(|pieces| format!("docker run {}", pieces.join("")))
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (parse_spec(&bytes), parse_docker_command(&bytes));
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "\\PC{0,60}") {
        let _ = (parse_spec(text.as_bytes()), parse_docker_command(format!("docker run {text}").as_bytes()));
    }

    #[test]
    fn no_json_makes_the_reader_panic(value in value(), name in name()) {
        let text = json!({"container": {"image": "a"}, name: value.clone()}).to_string();
        for text in [text, value.to_string()] {
            if let Ok(parsed) = parse_spec(text.as_bytes()) {
                prop_assert_eq!(parse_spec(parsed.job.to_json().to_string().as_bytes()), Ok(parsed));
            }
        }
    }

    #[test]
    fn a_job_written_out_is_the_job_that_is_read_back(mut spec in good_job()) {
        // Not every job can be kept from the metadata server.
        if spec["metadata_server"] == "block" && parse_spec(spec.to_string().as_bytes()).is_err() {
            spec["metadata_server"] = "allow".into();
        }
        let parsed = parse_spec(spec.to_string().as_bytes());
        prop_assert!(parsed.is_ok(), "{:?}", parsed);
        let again = parsed.as_ref().map(|parsed| parse_spec(parsed.job.to_json().to_string().as_bytes()));
        prop_assert_eq!(again, Ok(parsed.clone()));
    }

    #[test]
    fn a_command_line_that_is_read_is_a_job_spec_too(line in line()) {
        if let Ok(parsed) = parse_docker_command(line.as_bytes()) {
            let job = parse_spec(parsed.job.to_json().to_string().as_bytes()).map(|parsed| parsed.job);
            prop_assert_eq!(job, Ok(parsed.job));
        }
    }
}
