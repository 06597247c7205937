//! `container.gpus`. The test machines have no GPU: where the engine gives them out its own refusal is real, and where the agent
//! does, a root that looks like Container-Optimized OS with the driver has device nodes that are `/dev/null` by another name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Agent, Fate, Gate, Vm, agent_binary, docker, expect, skip};
use serde_json::json;

/// A machine as the agent sees it below this root, with so many GPUs.
struct Root(PathBuf);

impl Root {
    fn new(vm: &Vm, gpus: usize) -> Self {
        let root = Self(vm.dir().join("root"));
        root.write("etc/os-release", "NAME=\"Container-Optimized OS\"\nID=cos\n");
        for index in 0..gpus {
            root.write(&format!("sys/bus/pci/devices/0000:00:0{index}.0/vendor"), "0x10de\n");
            root.write(&format!("sys/bus/pci/devices/0000:00:0{index}.0/class"), "0x030200\n");
        }
        root
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// As `cos-extensions install gpu` leaves it; false where no device nodes can be made.
    fn install_driver(&self, gpus: usize) -> bool {
        self.write("var/lib/nvidia/lib64/libcuda.so.1", "the driver\n");
        self.write("var/lib/nvidia/bin/nvidia-smi", "a program\n");
        fs::create_dir_all(self.0.join("dev")).unwrap();
        let names = ["nvidiactl".to_owned(), "nvidia-uvm".to_owned()].into_iter();
        names.chain((0..gpus).map(|index| format!("nvidia{index}"))).all(|name| node(&self.0.join("dev").join(name)))
    }
}

/// `/dev/null` by another name.
fn node(path: &Path) -> bool {
    let made = Command::new("mknod").arg("--mode=666").arg(path).args(["c", "1", "3"]).status();
    let is_made = made.is_ok_and(|status| status.success());
    if !is_made {
        skip("no device nodes can be made");
    }
    is_made
}

fn start(vm: &Vm, root: &Root, patience: &str) -> Agent {
    let mut command = vm.command();
    command.env("VMJOB_ROOT", &root.0).args(["--gpu-patience", patience]);
    vm.spawn(command)
}

async fn doctor(vm: &Vm, root: &Path) -> String {
    let mut command = tokio::process::Command::new(agent_binary());
    command.args(["doctor", "--metadata-host", &vm.cloud.metadata_host(), "--docker-host", &docker::host()]);
    let output = command.env("VMJOB_ROOT", root).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn on_container_optimized_os_the_job_gets_devices_and_driver() {
    let script = "ls /dev | grep nvidia | sort; cat /dev/nvidia0 && echo opened; \
                  cat /usr/local/nvidia/lib64/libcuda.so.1 /usr/local/nvidia/bin/nvidia-smi; \
                  touch /usr/local/nvidia/lib64/x 2>/dev/null || echo read-only";
    let rest = "nvidia-uvm\nnvidia0\n{}nvidiactl\nopened\nthe driver\na program\nread-only\n";
    let cases = [(json!("all"), "nvidia1\n"), (json!(1), ""), (json!(["0", "1"]), "nvidia1\n"), (json!(["0"]), "")];
    for (wanted, second) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        let root = Root::new(&vm, 2);
        if !root.install_driver(2) {
            return;
        }
        vm.set_job(script, json!({"container": {"gpus": wanted}}));
        let report = vm.finish(start(&vm, &root, "1s")).await;
        expect(&report, &json!({"cause": "NONE", "logs": {"head": rest.replace("{}", second)}}));
    }
}

#[tokio::test]
async fn the_driver_is_waited_for_while_it_is_installed() {
    let Some(vm) = Vm::with_docker().await else { return };
    let root = Root::new(&vm, 1);
    vm.set_job("ls /dev/nvidia0", json!({"container": {"gpus": "all"}}));
    let agent = start(&vm, &root, "1m");
    vm.until_logged("waiting for the GPUs").await;
    if !root.install_driver(1) {
        return;
    }
    expect(&vm.finish(agent).await, &json!({"cause": "NONE", "logs": {"head": "/dev/nvidia0\n"}}));
    let table = doctor(&vm, &root.0).await;
    assert!(table.contains("GPUs              ok    /dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm"), "{table}");
}

#[tokio::test]
async fn a_wait_for_the_driver_can_be_stopped() {
    let Some(vm) = Vm::with_docker().await else { return };
    let root = Root::new(&vm, 1);
    vm.set_job("true", json!({"container": {"gpus": "all"}}));
    let agent = start(&vm, &root, "10m");
    vm.until_logged("waiting for the GPUs").await;
    vm.cloud.set_attribute("job-cancel", "true");
    expect(&vm.finish(agent).await, &json!({"cause": "CANCELLED", "exit_code": null}));
}

/// Asked what it has, the engine goes away for a moment.
#[tokio::test]
async fn an_engine_that_does_not_answer_at_once_is_asked_again() {
    let Some(vm) = Vm::with_docker().await else { return };
    let root = Root::new(&vm, 1);
    if !root.install_driver(1) {
        return;
    }
    let mut gate = Gate::open_but_for_once(vm.dir(), "/info", Fate::Cut);
    vm.set_job("ls /dev/nvidia0", json!({"container": {"gpus": "all"}}));
    let mut command = vm.command();
    command.env("VMJOB_ROOT", &root.0).args(["--gpu-patience", "1s", "--docker-host", &gate.host()]);
    let report = vm.finish(vm.spawn(command)).await;
    assert!(gate.stopped().await.ends_with("/info"));
    expect(&report, &json!({"cause": "NONE", "logs": {"head": "/dev/nvidia0\n"}}));
}

#[tokio::test]
async fn gpus_that_cannot_be_had_are_reported_with_what_to_do() {
    let cases = [
        (1, json!("all"), "~the NVIDIA driver is not there", "~sudo cos-extensions install gpu"),
        (0, json!("all"), "~the VM has no NVIDIA GPU", "~--accelerator"),
        (1, json!(2), "~the VM has 1", "~container.gpus"),
        (1, json!(["GPU-12ab"]), "~GPU-12ab", "~index"),
    ];
    for (gpus, wanted, message, fix) in cases {
        let Some(vm) = Vm::with_docker().await else { return };
        let root = Root::new(&vm, gpus);
        vm.set_job("echo x >> /shared/starts", json!({"container": {"gpus": wanted}}));
        let report = vm.finish(start(&vm, &root, "1s")).await;
        expect(&report, &json!({"cause": "START_FAILED", "exit_code": null, "message": message, "fix": fix}));
        assert_eq!(vm.starts(), 0);
        let table = doctor(&vm, &root.0).await;
        assert!(table.contains("GPUs  ") && table.contains(fix.trim_start_matches('~')), "{table}");
    }
}

/// The engine's own words, where it would give the GPUs out and has no toolkit.
#[tokio::test]
async fn an_engine_without_the_toolkit_says_so_and_the_report_says_what_to_install() {
    let has_gpu = Command::new("sh").args(["-c", "command -v nvidia-container-runtime-hook"]).output().unwrap();
    if has_gpu.status.success() {
        return;
    }
    for wanted in [json!("all"), json!(1), json!(["0"])] {
        let Some(vm) = Vm::with_docker().await else { return };
        let report = vm.run_job("true", json!({"container": {"gpus": wanted}})).await;
        let fix = "~nvidia-container-toolkit";
        expect(&report, &json!({"cause": "START_FAILED", "message": "~gpu", "fix": fix, "exit_code": null}));
        let table = doctor(&vm, Path::new("/")).await;
        assert!(table.contains("GPUs              warn  the engine has no NVIDIA Container Toolkit"), "{table}");
    }
}
