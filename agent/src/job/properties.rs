//! Promises about every input: no text makes a reader panic, and a job written out is the job that is read back.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{container, parse_docker_command, parse_spec, spec};

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
    let known: Vec<&str> = spec::FIELDS.into_iter().chain(container::FIELDS).chain(own).collect();
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

type Maybe = prop::option::OptionStrategy<BoxedStrategy<Value>>;

fn maybe<T: Into<Value> + 'static>(values: impl Strategy<Value = T> + 'static) -> Maybe {
    prop::option::of(values.prop_map(Into::into).boxed())
}

fn one_of(values: Value) -> Maybe {
    match values {
        Value::Array(values) => maybe(prop::sample::select(values)),
        value => maybe(Just(value)),
    }
}

/// Good containers: each field there or not, each with a value of its own kind.
fn good_container() -> impl Strategy<Value = Value> {
    let texts = || maybe(prop::collection::vec("\\PC{1,9}", 1..3));
    let table = || maybe(prop::collection::btree_map("[A-Z]{1,3}", "\\PC{0,9}", 0..3).prop_map(|map| json!(map)));
    let mounts = json!([
        [{"type": "bind", "source": "/a", "target": "/b", "read_only": true}, {"type": "volume", "target": "/c"}],
        [{"type": "volume", "source": "data", "target": "/c"}, {"type": "tmpfs", "target": "/d", "size": 77}],
    ]);
    let devices = json!([["/dev/a:r"], ["/dev/a:/dev/b", "/dev/c"]]);
    (
        (texts(), texts(), table(), table(), one_of(mounts), one_of(devices)),
        (one_of(json!(["all", 3, ["0", "GPU-1"]])), maybe(0.01..4096.0)),
        (maybe(6_u64 << 20..1 << 40), maybe(1_u64..1 << 62), maybe(1..1 << 20)),
        (one_of(json!([{"core": "1:-1", "nofile": 9}])), maybe("[ -~é]{1,9}"), maybe(any::<bool>()), texts()),
        (
            one_of(json!([["a=1", "b:::1"]])),
            one_of(json!(["always", "never"])),
            one_of(json!(["local", "json-file"])),
            table(),
        ),
    )
        .prop_map(|(a, b, c, d, e)| {
            object([
                ("image", Some(json!("gcr.io/p/i:1"))),
                ("entrypoint", a.0),
                ("args", a.1),
                ("env", a.2),
                ("labels", a.3),
                ("mounts", a.4),
                ("devices", a.5),
                ("gpus", b.0),
                ("cpus", b.1),
                ("memory", c.0),
                ("shm_size", c.1),
                ("pids_limit", c.2),
                ("ulimits", d.0),
                ("network", d.1),
                ("init", d.2.clone()),
                ("tty", d.2),
                ("cap_add", d.3),
                ("extra_hosts", e.0),
                ("pull", e.1),
                ("log_driver", e.2),
                ("log_options", e.3),
            ])
        })
}

fn good_job() -> impl Strategy<Value = Value> {
    let callbacks = json!([{"auth": "id_token", "audience": "x"}, {"auth": "none", "give_up_after": 1.5}]);
    let retries = json!([{"max_attempts": 7, "on": ["TIMEOUT", "EXIT_CODE:255"]}, {"on": ["EXIT_CODE"]}]);
    let rest = (one_of(callbacks), one_of(retries), one_of(json!(["poweroff", "delete"])));
    (good_container(), maybe(0.001..3e7), maybe(0.0..3e7), rest).prop_map(|(container, timeout, grace, rest)| {
        object([
            ("container", Some(container)),
            ("timeout", timeout),
            ("grace", grace),
            ("callback", rest.0),
            ("retry", rest.1),
            ("on_finish", rest.2),
        ])
    })
}

fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
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
    fn a_job_written_out_is_the_job_that_is_read_back(spec in good_job()) {
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
