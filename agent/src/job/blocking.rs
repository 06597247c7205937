//! `metadata_server: block` is a promise: a job that could get around it is refused.
//!
//! In: a job whose values have all been checked. Out: the place that breaks the promise, and what to write instead.

use std::path::Path;

use super::error::Problem;
use super::types::{Container, Job, MetadataServer, MountKind, Process, Work};

/// With these a container can leave its namespaces.
const STRONG_CAPS: [&str; 3] = ["ALL", "SYS_ADMIN", "SYS_MODULE"];
/// Where the engine listens: whoever reaches it can start a container on the VM's own network.
const ENGINE_SOCKETS: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];

pub(super) fn check(job: &Job) -> Result<(), (String, Problem)> {
    if job.metadata_server == MetadataServer::Allow {
        return Ok(());
    }
    match &job.work {
        Work::Container(container) => check_container(container),
        Work::Process(process) => check_process(process),
    }
    .map_err(|(place, problem, fix)| {
        let problem = format!("{problem} cannot be kept from the metadata server, as metadata_server \"block\" asks");
        (place, Problem::new(problem).fix(fix))
    })
}

type Broken = (String, String, &'static str);

fn check_container(container: &Container) -> Result<(), Broken> {
    let broken = |place: &str, what: &str, fix| Err((format!("container.{place}"), what.to_owned(), fix));
    let network = container.network.as_deref().unwrap_or_default();
    if network == "host" || network.starts_with("container:") {
        return broken("network", &format!("a container on the network {network:?}"), "use \"bridge\"");
    }
    if container.privileged {
        return broken("privileged", "a privileged container", "name the devices and capabilities that it needs");
    }
    for cap in &container.cap_add {
        let name = cap.to_ascii_uppercase();
        if STRONG_CAPS.contains(&name.strip_prefix("CAP_").unwrap_or(&name)) {
            return broken("cap_add", &format!("a container with {cap}"), "leave it out");
        }
    }
    for (index, mount) in container.mounts.iter().enumerate() {
        let gives_engine = |source| ENGINE_SOCKETS.iter().any(|socket| Path::new(socket).starts_with(source));
        if let MountKind::Bind { source, .. } = &mount.kind
            && gives_engine(source)
        {
            let what = "a container that sees the engine's socket";
            return broken(&format!("mounts[{index}].source"), what, "mount only what the job needs");
        }
    }
    Ok(())
}

fn check_process(process: &Process) -> Result<(), Broken> {
    let user = process.user.as_deref().unwrap_or("root");
    if matches!(user.split(':').next(), Some("root" | "0")) {
        return Err(("process.user".into(), "a process of root".into(), "name another user"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::job::parse_spec;

    #[test]
    fn a_job_that_could_get_around_it_is_refused_at_its_place() {
        let refused = |work: Value| {
            let mut job = json!({"metadata_server": "block"});
            job.as_object_mut().unwrap().extend(work.as_object().unwrap().clone());
            let parsed = match parse_spec(job.to_string().as_bytes()) {
                Ok(parsed) => parsed,
                Err(error) => return Some(error.place),
            };
            assert_eq!(parsed.job.to_json()["metadata_server"], "block");
            None
        };
        let container = |mut fields: Value| {
            fields["image"] = json!("a");
            refused(json!({ "container": fields }))
        };
        let bind = |source: &str| json!({"mounts": [{"type": "bind", "source": source, "target": "/x"}]});
        for (fields, place) in [
            (json!({"network": "host"}), Some("container.network")),
            (json!({"network": "container:x"}), Some("container.network")),
            (json!({"privileged": true}), Some("container.privileged")),
            (json!({"cap_add": ["NET_ADMIN", "cap_sys_admin"]}), Some("container.cap_add")),
            (bind("/var/run"), Some("container.mounts[0].source")),
            (bind("/run/docker.sock"), Some("container.mounts[0].source")),
            (bind("/"), Some("container.mounts[0].source")),
            (bind("/var/runner"), None),
            (json!({"network": "mine", "cap_add": ["NET_ADMIN"]}), None),
            (json!({}), None),
        ] {
            assert_eq!(container(fields.clone()).as_deref(), place, "{fields}");
        }
        for (user, place) in [
            (json!(null), Some("process.user")),
            (json!("root"), Some("process.user")),
            (json!("0:1000"), Some("process.user")),
            (json!("job"), None),
        ] {
            let mut process = json!({"command": ["/x"]});
            if !user.is_null() {
                process["user"] = user.clone();
            }
            assert_eq!(refused(json!({ "process": process })).as_deref(), place, "{user}");
        }
    }
}
