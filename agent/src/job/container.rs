//! The `container` and `process` sections of a job-spec.
//!
//! In: their JSON. Out: a [`Container`] or a [`Process`], every value checked.

use std::collections::BTreeMap;

use super::error::{JobError, Problem};
use super::json::Json;
use super::names::CONTAINER_FIELDS;
use super::reader::{Field, Fields};
use super::types::{Container, Gpus, Mount, MountKind, Process, Pull, Ulimit};
use super::variables::Variables;
use super::{checks, image_ref, users};

pub(super) const PULLS: [(&str, Pull); 3] =
    [("always", Pull::Always), ("missing", Pull::Missing), ("never", Pull::Never)];

pub(super) fn read_container(field: &Field) -> Result<Container, JobError> {
    let fields = field.object(&CONTAINER_FIELDS)?;
    let mut c = Container::new(fields.need("image", r#""alpine:3.20""#, |f| f.checked(image_ref::check))?);
    c.entrypoint = fields.read("entrypoint", entrypoint)?;
    fields.set(&mut c.args, "args", Field::strings)?;
    (c.env, c.secret_env) = environment(&fields)?;
    c.workdir = fields.read("workdir", |f| f.checked(checks::absolute_path))?;
    c.user = fields.read("user", |f| f.checked(users::user))?;
    c.hostname = fields.read("hostname", |f| f.checked(checks::hostname))?;
    fields.set(&mut c.mounts, "mounts", mounts)?;
    fields.set(&mut c.devices, "devices", |f| {
        let items = f.items(r#"a list of devices such as ["/dev/fuse"]"#)?;
        items.map(|item| item.checked(checks::device)).collect()
    })?;
    c.gpus = fields.read("gpus", gpus)?;
    c.cpus = fields.read("cpus", |f| checks::cpus(f.number()?).map_err(|problem| f.error(problem)))?;
    c.memory = fields.read("memory", |f| checks::memory(f.size()?).map_err(|problem| f.error(problem)))?;
    c.shm_size = fields.read("shm_size", |f| checks::shm_size(f.size()?).map_err(|problem| f.error(problem)))?;
    c.pids_limit = fields.read("pids_limit", pids_limit)?;
    fields.set(&mut c.ulimits, "ulimits", ulimits)?;
    c.network = fields.read("network", |f| f.checked(checks::non_empty))?;
    fields.set(&mut c.init, "init", Field::flag)?;
    fields.set(&mut c.read_only, "read_only", Field::flag)?;
    fields.set(&mut c.privileged, "privileged", Field::flag)?;
    fields.set(&mut c.cap_add, "cap_add", capabilities)?;
    fields.set(&mut c.cap_drop, "cap_drop", capabilities)?;
    fields.set(&mut c.security_opt, "security_opt", |f| {
        let items = f.items(r#"a list such as ["no-new-privileges"]"#)?;
        items.map(|item| item.checked(checks::security_opt)).collect()
    })?;
    fields.set(&mut c.labels, "labels", |f| f.string_map(key_not_empty))?;
    fields.set(&mut c.extra_hosts, "extra_hosts", |f| {
        let items = f.items(r#"a list of hosts such as ["db:10.0.0.7"]"#)?;
        items.map(|item| item.checked(checks::extra_host)).collect()
    })?;
    fields.set(&mut c.pull, "pull", |f| f.choice(&PULLS))?;
    fields.set(&mut c.tty, "tty", Field::flag)?;
    if let Some(driver) = fields.read("log_driver", |f| f.checked(checks::non_empty))? {
        c.log_driver = driver;
        c.log_options.clear();
    }
    fields.set(&mut c.log_options, "log_options", |f| f.string_map(key_not_empty))?;
    c.bound_the_log();
    Ok(c)
}

pub(super) fn read_process(field: &Field) -> Result<Process, JobError> {
    let fields = field.object(&["command", "env", "secret_env", "workdir", "user"])?;
    let command = fields.need("command", r#"["/opt/job/run.sh"]"#, |f| {
        let words = f.strings()?;
        if words.first().is_none_or(String::is_empty) {
            return Err(
                f.error(Problem::new("must begin with a program").fix(r#"write for example ["/opt/job/run.sh"]"#))
            );
        }
        Ok(words)
    })?;
    let (env, secret_env) = environment(&fields)?;
    Ok(Process {
        command,
        env,
        secret_env,
        workdir: fields.read("workdir", |f| f.checked(checks::absolute_path))?,
        user: fields.read("user", |f| f.checked(users::process_user))?,
    })
}

fn capabilities(field: &Field) -> Result<Vec<String>, JobError> {
    let items = field.items(r#"a list such as ["SYS_PTRACE"]"#)?;
    items.map(|item| item.checked(checks::capability)).collect()
}

fn key_not_empty(key: &str) -> Result<(), Problem> {
    if key.is_empty() { Err(Problem::new("a key must not be empty")) } else { Ok(()) }
}

fn entrypoint(field: &Field) -> Result<Vec<String>, JobError> {
    let words = field.strings()?;
    if words.is_empty() {
        let problem = Problem::new("an empty list could mean two things");
        return Err(
            field.error(problem.fix(r#"leave it out to keep the image's entrypoint, or write [""] to clear it"#))
        );
    }
    Ok(words)
}

fn environment(fields: &Fields) -> Result<(Variables, BTreeMap<String, String>), JobError> {
    let env: Variables = fields.read("env", |f| f.string_map(checks::variable_name))?.unwrap_or_default();
    let secret_env = fields
        .read("secret_env", |f| {
            let mut secrets = BTreeMap::new();
            // What stands where a name belongs may be the secret itself: it is not shown.
            let unnamed = |f: &Field| {
                let problem = Problem::new("expected the name of a secret version");
                f.error(problem.fix(r#"write for example {"KEY": "projects/p/secrets/s/versions/latest"}"#))
            };
            if let Json::String(_) = f.value() {
                return Err(unnamed(f));
            }
            for (name, entry) in f.entries("an object")? {
                checks::variable_name(name).map_err(|problem| f.error(problem))?;
                let secret = match entry.value() {
                    Json::String(text) if checks::is_secret_version(text) => text.to_string(),
                    _ => return Err(unnamed(&entry)),
                };
                secrets.insert(name.to_owned(), secret);
                if env.contains(name) {
                    return Err(
                        f.error(Problem::new(format!("{name} is also in env")).fix("give it in one of the two"))
                    );
                }
            }
            Ok(secrets)
        })?
        .unwrap_or_default();
    Ok((env, secret_env))
}

fn mounts(field: &Field) -> Result<Vec<Mount>, JobError> {
    let items = field.items(r#"a list such as [{"type": "bind", "source": "/mnt/disks/data", "target": "/data"}]"#)?;
    let mounts: Vec<Mount> = items.map(|item| mount(&item)).collect::<Result<_, _>>()?;
    let mut targets: Vec<_> = mounts.iter().enumerate().map(|(at, mount)| (checks::bare(&mount.target), at)).collect();
    targets.sort_unstable();
    match targets.array_windows().find(|[(target, _), (next, _)]| target == next) {
        Some([_, (_, at)]) => Err(field.item_error(*at, "target", checks::taken_target(&mounts[*at].target))),
        None => Ok(mounts),
    }
}

fn mount(field: &Field) -> Result<Mount, JobError> {
    let fields = field.object(&["type", "source", "create", "target", "read_only", "size"])?;
    let kind = fields.need("type", r#""bind""#, |f| f.choice(&[("bind", 'b'), ("volume", 'v'), ("tmpfs", 't')]))?;
    let not_here = |name: &str, why: &str| match fields.get(name) {
        Some(unwanted) => Err(unwanted.error(Problem::new(why).fix("leave it out"))),
        None => Ok(()),
    };
    if kind != 't' {
        not_here("size", "only a tmpfs has a size")?;
    }
    if kind != 'b' {
        not_here("create", "only a bind mount has a directory to make")?;
    }
    let target = fields.need("target", r#""/data""#, |f| f.checked(checks::mount_target))?;
    let kind = match kind {
        'b' => bind(&fields, &target)?,
        'v' => MountKind::Volume { source: fields.read("source", |f| f.checked(checks::volume_name))? },
        _ => {
            not_here("source", "a tmpfs has no source")?;
            MountKind::Tmpfs {
                size: fields.read("size", |f| checks::shm_size(f.size()?).map_err(|problem| f.error(problem)))?,
            }
        }
    };
    Ok(Mount { kind, target, read_only: fields.read("read_only", Field::flag)?.unwrap_or(false) })
}

fn bind(fields: &Fields, target: &str) -> Result<MountKind, JobError> {
    let source = fields.need("source", r#""/mnt/disks/data""#, |f| f.checked(checks::absolute_path))?;
    let create = fields.read("create", |f| match f.flag()? {
        true if source.contains(':') || target.contains(':') => {
            Err(f.error(Problem::new("with a colon in a path no directory can be made").fix("make it first")))
        }
        create => Ok(create),
    })?;
    Ok(MountKind::Bind { source, create: create.unwrap_or(false) })
}

fn gpus(field: &Field) -> Result<Gpus, JobError> {
    let wanted = || field.expected(r#""all", a count from 1 to 64, or a list such as ["0", "1"]"#);
    match field.value() {
        Json::String(text) if text == "all" => Ok(Gpus::All),
        Json::Number(_) => field.whole(1..=64).map(Gpus::Count).map_err(|_| wanted()),
        Json::List(items) if !items.is_empty() => field.names().map(Gpus::Devices),
        _ => Err(wanted()),
    }
}

fn pids_limit(field: &Field) -> Result<i64, JobError> {
    let limit = field.whole(-1..=i64::from(i32::MAX))?;
    if limit == 0 {
        return Err(field.error(Problem::new("a job needs at least one process").fix("-1 is no limit")));
    }
    Ok(limit)
}

fn ulimits(field: &Field) -> Result<BTreeMap<String, Ulimit>, JobError> {
    let mut ulimits = BTreeMap::new();
    for (name, field) in field.entries(r#"an object such as {"nofile": 1048576}"#)? {
        checks::ulimit_name(name).map_err(|problem| field.error(problem))?;
        let ulimit = match field.value() {
            Json::String(_) => field.checked(checks::ulimit)?,
            Json::Object(_) => {
                let fields = field.object(&["soft", "hard"])?;
                let limit = |name| fields.need(name, "1024", |f| f.whole(-1..=i64::MAX));
                checks::ulimit_pair(limit("soft")?, limit("hard")?).map_err(|problem| field.error(problem))?
            }
            Json::Number(_) => {
                let limit = field.whole(-1..=i64::MAX)?;
                Ulimit { soft: limit, hard: limit }
            }
            _ => return Err(field.expected(r#"a number, or {"soft": 1024, "hard": 2048}"#)),
        };
        ulimits.insert(name.to_owned(), ulimit);
    }
    Ok(ulimits)
}
