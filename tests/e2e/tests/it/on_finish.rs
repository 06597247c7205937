//! What the VM does with itself when all is said. The agents here cannot reboot anything: they lack the capability, and
//! the `systemctl` that they find only takes a note.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::{Agent, Vm, agent_binary, skip};
use fakecloud::Config;
use serde_json::json;
use tokio::process::Command;

/// A VM whose agent will note what it asks of the machine; `None`, and the test is skipped, where that is not safe.
async fn vm(on_finish: &str) -> Option<Vm> {
    let harmless = Command::new("setpriv").args(["--bounding-set", "-sys_boot", "true"]).output().await;
    if !harmless.is_ok_and(|output| output.status.success()) {
        skip("only root can take away the right to reboot (setpriv)");
        return None;
    }
    let vm = Vm::without_docker(Config::default()).await;
    let systemctl = vm.dir().join("bin/systemctl");
    fs::create_dir(vm.dir().join("bin")).unwrap();
    fs::write(&systemctl, format!("#!/bin/sh\necho \"$@\" >> {}/systemctl\n", vm.dir().display())).unwrap();
    fs::set_permissions(&systemctl, PermissionsExt::from_mode(0o755)).unwrap();
    vm.set_job("true", json!({"on_finish": on_finish}));
    Some(vm)
}

fn start(vm: &Vm, args: &[&str]) -> Agent {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_boot"]).arg(agent_binary());
    command.args(vm.command().as_std().get_args()).args(args);
    command.env("PATH", format!("{}/bin:/usr/sbin:/usr/bin:/sbin:/bin", vm.dir().display()));
    vm.spawn(command)
}

fn asked_of_systemctl(vm: &Vm) -> String {
    fs::read_to_string(vm.dir().join("systemctl")).unwrap_or_default()
}

#[tokio::test]
async fn the_vm_powers_off_once_the_report_is_out_or_given_up() {
    for (on_finish, asked, is_over) in
        [("none", "", false), ("poweroff", "poweroff\n", false), ("poweroff", "poweroff\n", true), ("none", "", true)]
    {
        let Some(vm) = vm(on_finish).await else { return };
        if is_over {
            vm.cloud.end_execution();
        }
        let mut agent = start(&vm, &[]);
        assert_eq!(agent.wait().await, if is_over { 75 } else { 0 }, "{}", agent.log());
        assert_eq!(asked_of_systemctl(&vm), asked, "{on_finish}");
    }
}

#[tokio::test]
async fn the_vm_deletes_itself_or_at_least_powers_off() {
    for permitted in [true, false] {
        let Some(vm) = vm("delete").await else { return };
        vm.cloud.set_delete_permission(permitted);
        let mut agent = start(&vm, &["--compute-endpoint", &vm.cloud.compute_endpoint()]);
        assert_eq!(agent.wait().await, 0, "{}", agent.log());
        assert_eq!(vm.cloud.is_deleted(), permitted);
        assert_eq!(asked_of_systemctl(&vm), if permitted { "" } else { "poweroff\n" });
        let requests = vm.cloud.callback_requests();
        assert!(requests[0].accepted && requests[1].method == "DELETE", "the report goes first: {requests:#?}");
    }
}

/// The token does not go where it must not.
#[tokio::test]
async fn the_token_goes_to_no_other_api() {
    let Some(vm) = vm("delete").await else { return };
    let mut agent = start(&vm, &["--compute-endpoint", "http://127.0.0.2:1/"]);
    assert_eq!(agent.wait().await, 0, "{}", agent.log());
    assert!(agent.log().contains("127.0.0.2"), "{}", agent.log());
    assert_eq!(asked_of_systemctl(&vm), "poweroff\n");
}
