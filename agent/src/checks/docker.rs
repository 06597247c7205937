//! Whether there is a Docker engine, and how it is set up.

use std::{path::Path, time::Duration};

use super::{Finding, disk::free_bytes};
use crate::{
    job::Gpus,
    outcome::FIX_GPU_TOOLKIT,
    runtime::{DockerEngine, EngineError, EngineInfo, gpus},
    waits::Waits,
};

/// An image and its layers, unpacked, are rarely smaller.
const LEAST_BYTES: u64 = 1 << 30;

/// Looks at the engine at `host`, which also says of itself what it is.
pub(super) async fn docker(host: &str, deadline: Duration) -> (Vec<Finding>, Option<EngineInfo>) {
    let look = async {
        // Once: who asks wants to know how things are now.
        let engine = DockerEngine::connect(host, Duration::ZERO, &Waits::default()).await?;
        Ok::<_, EngineError>((engine.info().await?, engine.api_version()))
    };
    let late = Err(EngineError::Late { call: "info", deadline });
    match tokio::time::timeout(deadline, look).await.unwrap_or(late) {
        Ok((info, api_version)) => (findings(&info, &api_version), Some(info)),
        Err(error) => {
            let fix = "start it (`systemctl start docker`; `journalctl -u docker`), or use an image that has it; \
                       ask as root";
            (vec![Finding::fail("Docker", format!("no engine at {host}: {error}"), fix)], None)
        }
    }
}

fn findings(info: &EngineInfo, api_version: &str) -> Vec<Finding> {
    let EngineInfo { server_version, driver, cgroup_version, .. } = info;
    let groups = if cgroup_version.is_empty() { "1" } else { cgroup_version };
    let engine = format!("{server_version}, API {api_version}, storage {driver}, control groups v{groups}");
    let root = info.docker_root_dir.as_deref().unwrap_or(Path::new("/var/lib/docker"));
    let logs = if info.has_log_files() {
        Finding::ok("Docker's logs", format!("json-file can be read below {}", root.display()))
    } else {
        let text = format!("{} cannot be read: logs come by attaching, and slow a fast job down", root.display());
        Finding::warn("Docker's logs", text, "run the agent as root, on the engine's own machine")
    };
    let memory = if info.memory_limit {
        Finding::ok("memory limits", "the engine can set them")
    } else {
        let fix = "boot the kernel with `cgroup_enable=memory`, or leave `container.memory` out";
        Finding::warn("memory limits", "the kernel has none for containers", fix)
    };
    let live_restore = if info.live_restore_enabled {
        Finding::ok("live restore", "on: jobs outlive a restart of Docker")
    } else {
        let fix = "write {\"live-restore\": true} to /etc/docker/daemon.json, and `systemctl reload docker`";
        Finding::warn("live restore", "off: a restart of Docker ends the job", fix)
    };
    vec![Finding::ok("Docker", engine), disk(root), logs, memory, live_restore]
}

/// Whether a job that wants GPUs will get them.
pub(super) fn gpus(root: &Path, wanted: &Gpus, engine: &EngineInfo) -> Finding {
    let subject = "GPUs";
    if !gpus::are_ours_to_give(root, engine) {
        return match (gpus::are_the_engine_s(root, engine), gpus::has_driver(root)) {
            (true, true) => Finding::ok(subject, "the engine gives them out, with the NVIDIA Container Toolkit"),
            (true, false) => {
                Finding::warn(subject, "the NVIDIA driver is not there (no /dev/nvidiactl)", FIX_GPU_TOOLKIT)
            }
            (false, _) => Finding::warn(
                subject,
                "the engine has no NVIDIA Container Toolkit to give them out with",
                FIX_GPU_TOOLKIT,
            ),
        };
    }
    match gpus::find(root, wanted) {
        Ok(found) => Finding::ok(subject, found.join(", ")),
        Err(missing) if missing.may_come => Finding::warn(subject, missing.problem, missing.fix),
        Err(missing) => Finding::fail(subject, missing.problem, missing.fix),
    }
}

fn disk(root: &Path) -> Finding {
    let subject = "Docker's disk";
    match free_bytes(root) {
        Some(free) if free < LEAST_BYTES => Finding::warn(
            subject,
            format!("only {} MiB are free in {}", free >> 20, root.display()),
            "give the VM a larger boot disk, or run `docker system prune`",
        ),
        Some(free) => Finding::ok(subject, format!("{} MiB free in {}", free >> 20, root.display())),
        None => Finding::warn(
            subject,
            format!("{} cannot be looked at", root.display()),
            "ask as root, on the engine's machine",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_fine_where_the_engine_knows_them_and_the_driver_is_there() {
        let root = std::env::temp_dir().join(format!("vmjob-doctor-gpus-{}", std::process::id()));
        let found = |info: &str| gpus(&root, &Gpus::All, &serde_json::from_str(info).unwrap());
        let known = [
            r#"{"Runtimes": {"runc": {}, "nvidia": {}}}"#,
            r#"{"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]}"#,
        ];
        let bare = r#"{"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/nic=0"}]}"#;
        assert!(known.iter().chain([&bare]).all(|info| !found(info).is_ok()), "there is no driver");
        std::fs::create_dir_all(root.join("dev")).unwrap();
        std::fs::write(root.join("dev/nvidiactl"), "").unwrap();
        assert!(known.iter().all(|info| found(info).is_ok()));
        let missing = found(bare);
        assert!(!missing.is_ok() && missing.fix.contains("nvidia-ctk runtime configure"), "{missing:?}");
        // An engine that says nothing of it, and the program that it finds as it starts.
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::write(root.join("usr/bin/nvidia-container-runtime-hook"), "").unwrap();
        assert!(found(bare).is_ok());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_engine_that_lacks_something_is_warned_of() {
        let bare: EngineInfo = serde_json::from_str(r#"{"DockerRootDir": "/no/such/dir"}"#).unwrap();
        let doubts: Vec<&str> =
            findings(&bare, "1.41").iter().filter(|found| !found.is_ok()).map(|found| found.subject).collect();
        assert_eq!(doubts, ["Docker's disk", "Docker's logs", "memory limits", "live restore"]);
        assert!(findings(&bare, "1.41").iter().filter(|found| !found.is_ok()).all(|found| !found.fix.is_empty()));
    }
}
