//! The binary that ships, and what it takes while it waits.

use std::collections::BTreeSet;
use std::fs;

use e2e::{UNTIL_LET_GO, Vm, agent_binary, expect, skip};
use serde_json::json;
use tokio::process::Command;

const MAX_BYTES: u64 = 3_827_302;
const MAX_WAITING_KB: u64 = 6 << 10;

async fn readelf(option: &str) -> Option<String> {
    let output = Command::new("readelf").args(["--wide", option]).arg(agent_binary()).output().await;
    let Ok(output) = output else {
        skip("there is no readelf (binutils)");
        return None;
    };
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn it_is_static_and_hardened() {
    let Some(header) = readelf("--file-header").await else { return };
    assert!(header.contains("DYN (Position-Independent"), "PIE: {header}");

    let Some(segments) = readelf("--program-headers").await else { return };
    assert!(!segments.contains("INTERP"), "it needs no loader: {segments}");
    assert!(segments.contains("GNU_RELRO"), "RELRO: {segments}");
    let stack = segments.lines().find(|line| line.contains("GNU_STACK")).unwrap_or_default();
    assert!(stack.contains(" RW ") && !stack.contains("RWE"), "NX: {stack}");
    assert!(!segments.contains("RWE"), "nothing is writable and executable: {segments}");

    let Some(dynamic) = readelf("--dynamic").await else { return };
    assert!(!dynamic.contains("NEEDED"), "it needs no library: {dynamic}");
    assert!(dynamic.contains("BIND_NOW") || dynamic.contains("NOW"), "BIND_NOW: {dynamic}");

    let Some(sections) = readelf("--section-headers").await else { return };
    assert!(!sections.contains(".symtab") && !sections.contains(".debug"), "stripped: {sections}");
}

#[test]
fn it_is_small() {
    let bytes = fs::metadata(agent_binary()).unwrap().len();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes");
}

/// The listening sockets of a process, as lines of the kernel's tables.
fn listening(pid: u32) -> Vec<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok());
    let sockets: BTreeSet<String> =
        links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    assert!(!sockets.is_empty(), "the agent talks to somebody");
    let mut found = Vec::new();
    // Column 3 is the state, 0A for listening, and 9 the inode. Datagram sockets are bound as soon as they are used.
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let is_ours = |line: &&str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns.get(3) == Some(&"0A") && columns.get(9).is_some_and(|inode| sockets.contains(*inode))
        };
        found.extend(text.lines().filter(is_ours).map(str::to_owned));
    }
    found
}

#[tokio::test]
async fn while_it_waits_it_takes_little_and_opens_no_port() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.set_job(&format!("echo up > /shared/starts; {UNTIL_LET_GO}"), json!({}));
    let agent = vm.start();
    vm.until_running().await;
    assert_eq!(listening(agent.pid()), [""; 0]);
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let resident: u64 = resident.expect("the kernel says how much");
    assert!(resident <= MAX_WAITING_KB, "{resident} kB");
    vm.let_go();
    expect(&vm.finish(agent).await, &json!({"cause": "NONE"}));
}
