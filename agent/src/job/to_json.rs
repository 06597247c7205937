//! A job written back as a job-spec.
//!
//! In: a [`Job`]. Out: JSON with every default spelled out, which [`super::parse_spec`] reads as the same job.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::container::PULLS;
use super::spec::{METADATA_SERVERS, ON_FINISHES};
use super::types::{Callback, CallbackAuth, Container, Device, Gpus, Job, Mount, MountKind, Process, RetryOn, Work};
use super::units::format_duration;

impl Job {
    /// The job as a valid job-spec, for the journal and for people. Fields that are not set are left out.
    pub fn to_json(&self) -> Value {
        let (name, work) = match &self.work {
            Work::Container(container) => ("container", container_json(container)),
            Work::Process(process) => ("process", process_json(process)),
        };
        let retry_on: Vec<String> = self.retry.on.iter().map(retry_on).collect();
        let mut job = json!({
            "id": self.id,
            "task_index": self.task_index,
            "task_count": self.task_count,
            "timeout": self.timeout.map(format_duration),
            "grace": format_duration(self.grace),
            "success_exit_codes": self.success_exit_codes,
            "retry": {"max_attempts": self.retry.max_attempts, "on": retry_on},
            "inputs": list(&self.inputs, |input| json!({"from": input.source(), "to": input.to})),
            "outputs": list(&self.outputs, |output| {
                json!({"from": output.source(), "to": output.to, "required": output.required})
            }),
            "logs": without_nulls(json!({
                "summary_bytes": self.logs.summary_bytes, "upload": self.logs.upload, "forward": self.logs.forward,
            })),
            "callback": callback(&self.callback),
            "metadata_server": name_of(&METADATA_SERVERS, &self.metadata_server),
            "on_finish": name_of(&ON_FINISHES, &self.on_finish),
        });
        job[name] = work;
        without_nulls(job)
    }
}

fn container_json(container: &Container) -> Value {
    // Taken apart, so that a new field cannot be forgotten here.
    let Container {
        image,
        entrypoint,
        args,
        env,
        secret_env,
        workdir,
        user,
        hostname,
        mounts,
        devices,
        gpus,
        cpus,
        memory,
        shm_size,
        pids_limit,
        ulimits,
        network,
        init,
        read_only,
        privileged,
        cap_add,
        cap_drop,
        security_opt,
        labels,
        extra_hosts,
        pull,
        tty,
        log_driver,
        log_options,
    } = container;
    let ulimits: Map<String, Value> =
        ulimits.iter().map(|(name, limit)| (name.clone(), json!({"soft": limit.soft, "hard": limit.hard}))).collect();
    let gpus = gpus.as_ref().map(|gpus| match gpus {
        Gpus::All => json!("all"),
        Gpus::Count(count) => json!(count),
        Gpus::Devices(devices) => json!(devices),
    });
    let mut object = without_nulls(json!({
        "image": image, "entrypoint": entrypoint, "args": args,
        "workdir": workdir, "user": user, "hostname": hostname,
        "devices": list(devices, device), "gpus": gpus,
        "cpus": cpus, "memory": memory, "shm_size": shm_size, "pids_limit": pids_limit, "ulimits": ulimits,
        "network": network, "init": init, "read_only": read_only, "privileged": privileged,
        "cap_add": cap_add, "cap_drop": cap_drop, "security_opt": security_opt, "labels": labels,
        "extra_hosts": extra_hosts, "pull": name_of(&PULLS, pull), "tty": tty,
        "log_driver": log_driver, "log_options": log_options,
    }));
    // Moved in: `json!` would copy what may be large.
    object["env"] = strings(env.iter());
    object["secret_env"] = strings(secret_env.iter());
    object["mounts"] = list(mounts, mount);
    object
}

fn process_json(process: &Process) -> Value {
    let Process { command, env, secret_env, workdir, user } = process;
    let mut object = without_nulls(json!({
        "command": command, "workdir": workdir, "user": user,
    }));
    object["env"] = strings(env.iter());
    object["secret_env"] = strings(secret_env.iter());
    object
}

fn mount(mount: &Mount) -> Value {
    let (kind, source, create, size) = match &mount.kind {
        MountKind::Bind { source, create } => ("bind", Some(source), create.then_some(true), None),
        MountKind::Volume { source } => ("volume", source.as_ref(), None, None),
        MountKind::Tmpfs { size } => ("tmpfs", None, None, *size),
    };
    without_nulls(json!({
        "type": kind, "source": source, "create": create, "target": mount.target, "read_only": mount.read_only,
        "size": size,
    }))
}

fn device(device: &Device) -> Value {
    format!("{}:{}:{}", device.host, device.container, device.permissions).into()
}

fn callback(callback: &Callback) -> Value {
    let (auth, audience) = match &callback.auth {
        CallbackAuth::AccessToken => ("access_token", None),
        CallbackAuth::IdToken { audience } => ("id_token", audience.as_ref()),
        CallbackAuth::None => ("none", None),
    };
    let give_up_after: Option<Duration> = callback.give_up_after;
    without_nulls(json!({"auth": auth, "audience": audience, "give_up_after": give_up_after.map(format_duration)}))
}

fn retry_on(on: &RetryOn) -> String {
    match on {
        RetryOn::Cause(name) => (*name).to_owned(),
        RetryOn::ExitCode(code) => format!("EXIT_CODE:{code}"),
    }
}

fn list<T>(items: &[T], to_json: impl Fn(&T) -> Value) -> Value {
    items.iter().map(to_json).collect()
}

/// Made as a whole: entry by entry, many would take long.
fn strings<'a>(map: impl Iterator<Item = (&'a String, &'a String)>) -> Value {
    map.map(|(key, value)| (key.clone(), value.as_str())).collect()
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> Value {
    names.iter().find(|(_, choice)| choice == value).map(|(name, _)| *name).into()
}

fn without_nulls(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !value.is_null());
    }
    object
}
