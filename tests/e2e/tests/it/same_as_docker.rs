//! A `docker-command` makes the container that Docker's own command line makes of it: each line of a table goes through
//! `docker create` and through the agent, and what the engine then says of the two is compared field by field.

use std::collections::BTreeMap;

use e2e::{Fate, Gate, Vm, docker};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::cli::agent;

/// As a person types them; `IMAGE` is an image with defaults of its own.
const LINES: &str = include_str!("docker_lines.txt");
const IMAGE: &str = "vmjob/same-as-docker:test";
const DEFAULTS: [&str; 7] = [
    r#"CMD ["date"]"#,
    r#"ENTRYPOINT ["env"]"#,
    "ENV PATH=/bin:/usr/bin A=image",
    "WORKDIR /home",
    "USER job",
    "LABEL team=image",
    "VOLUME /of-the-image",
];
const VOLUME: &str = "vmjob-same";
/// More would only wait for the engine.
const AT_ONCE: usize = 8;

fn lines() -> Vec<String> {
    // A line that begins otherwise belongs to the one before.
    let lines = LINES.trim_end().strip_prefix("docker ").unwrap().split("\ndocker ");
    lines.map(|line| format!("docker {}", line.replace("IMAGE", IMAGE))).collect()
}

async fn make_image() {
    let container = docker::docker(&["create", docker::IMAGE, "true"]).await;
    let changes = DEFAULTS.iter().flat_map(|change| ["--change", change]);
    docker::docker(&["commit"].into_iter().chain(changes).chain([&*container, IMAGE]).collect::<Vec<_>>()).await;
    docker::remove(&container).await;
}

/// Lets Docker's command line create a container, after a shell has split the line.
async fn theirs(line: &str, name: &str) -> Result<(), String> {
    let line = line.replace(" --name x-1", "").replacen(" run ", &format!(" create --name {name} "), 1);
    let output = Command::new("sh").args(["-c", &line]).output().await.unwrap();
    let problem = || Err(format!("docker: {}", String::from_utf8_lossy(&output.stderr)));
    if output.status.success() { Ok(()) } else { problem() }
}

/// Lets the agent create a container, which it is kept from starting. Returns the container's name.
async fn ours(line: &str) -> Result<String, String> {
    let vm = Vm::with_docker().await.unwrap();
    vm.cloud.set_attribute("docker-command", line);
    let mut gate = Gate::open_but_for(vm.dir(), "/start", Fate::HoldBefore);
    let mut agent = vm.start_through(&gate);
    tokio::select! {
        _ = gate.stopped() => agent.kill9().await,
        _ = agent.wait() => return Err(format!("agent: {}", vm.logs())),
    }
    Ok(vm.container(1))
}

async fn both(line: &str) -> Result<[String; 2], String> {
    let ours = ours(line).await?;
    let theirs_name = format!("{ours}-docker");
    theirs(line, &theirs_name).await?;
    Ok([ours, theirs_name])
}

#[tokio::test]
async fn a_command_line_makes_the_container_that_docker_makes() {
    if !docker::is_there().await {
        return;
    }
    make_image().await;
    let lines = lines();
    let (mut pairs, mut differences) = (Vec::new(), Vec::new());
    for lines in lines.chunks(AT_ONCE) {
        for (line, pair) in lines.iter().zip(join_all(lines.iter().map(|line| both(line))).await) {
            match pair {
                Ok(pair) => pairs.push((line, pair)),
                Err(problem) => differences.push(format!("{line}\n  {problem}")),
            }
        }
    }
    let on_all = async |command: &[&str]| {
        let names = pairs.iter().flat_map(|(_, names)| names.iter().map(String::as_str));
        docker::docker(&command.iter().copied().chain(names).collect::<Vec<_>>()).await
    };
    let found: Vec<Value> = serde_json::from_str(&on_all(&["inspect"]).await).unwrap();
    on_all(&["rm", "--force", "--volumes"]).await;
    docker::docker(&["volume", "rm", VOLUME]).await;
    // Where a line was refused one of its two is still there.
    docker::docker(&["rmi", "--force", IMAGE]).await;

    for ((line, _), pair) in pairs.iter().zip(found.chunks(2)) {
        let (ours, theirs) = (essence(&pair[0]), essence(&pair[1]));
        for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
            let [our, their] = [&ours, &theirs].map(|fields| fields.get(key).unwrap_or(&Value::Null));
            if our != their {
                differences.push(format!("{line}\n  {key}: {our} instead of {their}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(pairs.len() >= 60, "{} lines", pairs.len());
}

/// Every flag that Docker's own help lists is known, in both its names: carried out, ignored with a word, or refused with advice.
#[tokio::test]
async fn every_flag_of_docker_run_is_known() {
    let help = String::from_utf8(docker::run(&["run", "--help"]).await.stdout).unwrap();
    // `  -e, --env list     Set environment variables`
    let flags = help.lines().map(str::trim_start).filter(|line| line.starts_with('-') && line.contains("  "));
    let mut seen = 0;
    for flag in flags {
        let (names, _) = flag.split_once("  ").unwrap();
        let (short, long) = names.split_once(", ").map_or((None, names), |(short, long)| (Some(short), long));
        let (long, takes_value) = long.split_once(' ').map_or((long, false), |(long, _)| (long, true));
        for name in short.into_iter().chain([long]) {
            let output = agent(&["check"], &format!("docker run {name} x")).await;
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(!error.contains("unknown flag"), "{error}");
            // With a value, nothing is left to be the image.
            let is_refused = error.contains(&format!("{name}: this flag has no counterpart in a job; "));
            assert!(is_refused || takes_value != output.status.success(), "{flag}: {error}");
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} flags in {help}");
}

/// What a container is, less what is ours by intent:
///
/// | field | why it differs |
/// |---|---|
/// | `HostConfig.AutoRemove` | the agent removes the container itself, once its end is on record |
/// | `Config.AttachStdin`, `OpenStdin`, `StdinOnce` | a job has no standard input |
/// | `Config.StopTimeout` | it is the agent that stops the job, with `grace` |
/// | labels `vmjob.*`, variables `JOB_*`, the bind to `/run/vmjob` | how the job and its container know each other |
/// | `max-size` and `max-file` of a json-file log | a log without bounds fills the disk |
/// | a capability of GPUs that is asked for twice | it means nothing to an engine |
/// | the order of variables, limits and capabilities, and how the latter are spelled | it means nothing to an engine |
fn essence(container: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for section in ["Config", "HostConfig"] {
        for (name, value) in container[section].as_object().unwrap() {
            fields.insert(format!("{section}.{name}"), value.clone());
        }
    }
    for name in
        ["HostConfig.AutoRemove", "Config.AttachStdin", "Config.OpenStdin", "Config.StdinOnce", "Config.StopTimeout"]
    {
        fields.remove(name);
    }
    if container["Id"].as_str().unwrap().starts_with(container["Config"]["Hostname"].as_str().unwrap()) {
        fields.insert("Config.Hostname".into(), Value::Null);
    }
    let mounts = mounts(&mut fields);
    fields.insert("mounts".into(), mounts);
    let env = list(fields.remove("Config.Env")).into_iter().map(|variable| {
        let (name, value) = variable.as_str().unwrap().split_once('=').unwrap();
        (name.to_owned(), Value::from(value))
    });
    fields.insert("Config.Env".into(), env.filter(|(name, _)| !name.starts_with("JOB_")).collect::<Map<_, _>>().into());
    let labels = object(fields.remove("Config.Labels")).into_iter().filter(|(name, _)| !name.starts_with("vmjob."));
    fields.insert("Config.Labels".into(), labels.collect::<Map<_, _>>().into());
    let mut ulimits = list(fields.remove("HostConfig.Ulimits"));
    ulimits.sort_by_key(|limit| limit["Name"].to_string());
    fields.insert("HostConfig.Ulimits".into(), ulimits.into());
    for name in ["HostConfig.CapAdd", "HostConfig.CapDrop"] {
        let capabilities = list(fields.remove(name)).into_iter().map(|name| name.as_str().unwrap().to_uppercase());
        let mut capabilities: Vec<_> = capabilities.map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
        capabilities.sort();
        fields.insert(name.into(), capabilities.into());
    }
    let mut requests = list(fields.remove("HostConfig.DeviceRequests"));
    for alternative in requests.iter_mut().flat_map(|request| request["Capabilities"].as_array_mut().unwrap()) {
        alternative.as_array_mut().unwrap().dedup();
    }
    fields.insert("HostConfig.DeviceRequests".into(), requests.into());
    let log = fields.get_mut("HostConfig.LogConfig").unwrap();
    if log["Type"] == "json-file" {
        for (option, default) in [("max-size", "50m"), ("max-file", "5")] {
            log["Config"].as_object_mut().unwrap().entry(option).or_insert_with(|| default.into());
        }
    }
    // For the engine these are all the same.
    fields.retain(|_, value| ![json!(null), json!(""), json!(0), json!(false), json!([]), json!({})].contains(value));
    fields
}

/// The mounts in one form, whichever of the four fields they stand in. `create`: whether a missing directory is made.
fn mounts(fields: &mut BTreeMap<String, Value>) -> Value {
    let mut mounts = Vec::new();
    for bind in list(fields.remove("HostConfig.Binds")) {
        let parts: Vec<&str> = bind.as_str().unwrap().split(':').collect();
        if parts[1] == "/run/vmjob" {
            continue;
        }
        let (kind, create) = if parts[0].starts_with('/') { ("bind", true) } else { ("volume", false) };
        let read_only = parts.get(2).is_some_and(|mode| mode.split(',').any(|mode| mode == "ro"));
        mounts.push(
            json!({"type": kind, "source": parts[0], "target": parts[1], "read_only": read_only, "create": create}),
        );
    }
    for mount in list(fields.remove("HostConfig.Mounts")) {
        let options =
            mount["TmpfsOptions"]["SizeBytes"].as_u64().map(|bytes| format!("size={bytes}")).unwrap_or_default();
        mounts.push(json!({
            "type": mount["Type"], "source": mount["Source"].as_str().unwrap_or_default(), "target": mount["Target"],
            "read_only": mount["ReadOnly"].as_bool().unwrap_or(false), "create": false, "options": options,
            "rest": [mount["BindOptions"], mount["VolumeOptions"], mount["Consistency"]],
        }));
    }
    for (target, options) in object(fields.remove("HostConfig.Tmpfs")) {
        // In the order of the engine; these are on in any case.
        let options = options
            .as_str()
            .unwrap()
            .split(',')
            .filter(|option| !["", "noexec", "nosuid", "nodev", "rw"].contains(option));
        let (read_only, options): (Vec<_>, Vec<_>) = options.partition(|option| *option == "ro");
        let options = options.join(",").replace("size=1m", "size=1048576").replace("size=65536k", "size=67108864");
        mounts.push(json!({"type": "tmpfs", "source": "", "target": target, "read_only": !read_only.is_empty(), "create": false, "options": options}));
    }
    for (target, _) in object(fields.remove("Config.Volumes")) {
        // The engine makes none where something else is mounted.
        if !mounts.iter().any(|mount| mount["target"] == target) {
            mounts.push(json!({"type": "volume", "source": "", "target": target, "read_only": false, "create": false}));
        }
    }
    for mount in &mut mounts {
        mount
            .as_object_mut()
            .unwrap()
            .retain(|_, value| ![json!(null), json!(""), json!([null, null, null])].contains(value));
    }
    mounts.sort_by_key(|mount| mount["target"].to_string());
    mounts.into()
}

fn list(value: Option<Value>) -> Vec<Value> {
    value.and_then(|value| value.as_array().cloned()).unwrap_or_default()
}

fn object(value: Option<Value>) -> Map<String, Value> {
    value.and_then(|value| value.as_object().cloned()).unwrap_or_default()
}
