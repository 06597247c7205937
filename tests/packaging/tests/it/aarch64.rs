//! The arm64 binary, under emulation: a whole job on a real engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use packaging::{Scratch, dist, has, run, succeed};
use serde_json::Value;

#[test]
fn it_runs_a_job_and_reports_it() {
    let Some(binary) = dist("vmjob-agent-aarch64") else { return };
    if !has("qemu-aarch64-static") {
        return;
    }
    let mut version = Command::new("qemu-aarch64-static");
    version.arg(&binary).arg("--version");
    assert_eq!(succeed(&version, Duration::from_secs(10)), format!("vmjob-agent {}\n", env!("CARGO_PKG_VERSION")));
    if std::env::var_os("VMJOB_DOCKER").is_some_and(|engine| engine == "none") {
        return e2e::skip("there is no Docker engine");
    }

    let scratch = Scratch::new();
    let emulated = scratch.join("agent");
    fs::write(&emulated, format!("#!/bin/sh\nexec qemu-aarch64-static {} \"$@\"\n", binary.display())).unwrap();
    fs::set_permissions(&emulated, fs::Permissions::from_mode(0o755)).unwrap();
    let mut job = Command::new(e2e::fakecloud_binary());
    job.args(["run", "--json", "--quiet", "--agent"]).arg(&emulated);
    job.args(["--", "docker", "run", "vmjob/busybox:test", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    let ran = run(&job, Duration::from_mins(2));
    assert_eq!(ran.status, Some(3), "{ran:#?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    assert_eq!(
        (&report["state"], &report["cause"], &report["exit_code"], &report["logs"]["stderr_bytes"]),
        (&"FAILED".into(), &"EXIT_CODE".into(), &3.into(), &4.into()),
        "{report:#}"
    );
}

#[test]
fn it_is_static_and_small() {
    let Some(binary) = dist("vmjob-agent-aarch64") else { return };
    let mut readelf = Command::new("readelf");
    readelf.args(["--wide", "--file-header", "--program-headers"]).arg(&binary);
    let headers = succeed(&readelf, Duration::from_secs(10));
    assert!(headers.contains("AArch64") && !headers.contains("INTERP"), "{headers}");
    assert!(headers.contains("GNU_RELRO") && !headers.contains("RWE"), "{headers}");
    let bytes = fs::metadata(&binary).unwrap().len();
    assert!(bytes <= 3 << 20, "{bytes} bytes");
}
