//! GPUs without a plug-in of the engine, as on Container-Optimized OS: the wish for some goes in, the device nodes and the driver's
//! directories come out, or what is missing. Paths are looked up below `root`, which is `/` but in tests.
//! Source: <https://cloud.google.com/container-optimized-os/docs/how-to/run-gpus>.

use std::{fs, path::Path};

use super::EngineInfo;
use crate::{
    job::{Container, Device, Gpus, Mount, MountKind},
    machine::is_cos,
};

/// The driver's directories on the VM, and where images look for them. The first has to be there.
const DRIVER: [(&str, &str); 2] =
    [("/var/lib/nvidia/lib64", "/usr/local/nvidia/lib64"), ("/var/lib/nvidia/bin", "/usr/local/nvidia/bin")];
/// Every job with a GPU needs these besides.
const CONTROL: [&str; 2] = ["/dev/nvidiactl", "/dev/nvidia-uvm"];
/// Given too where they are.
const OPTIONAL: [&str; 2] = ["/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];
const HOOK: [&str; 2] = ["/usr/bin/nvidia-container-runtime-hook", "/usr/local/bin/nvidia-container-runtime-hook"];
/// NVIDIA, as a PCI device's `vendor` says it.
const NVIDIA: &str = "0x10de";
/// The class of display controllers begins so.
const DISPLAY: &str = "0x03";

const FIX_DRIVER: &str =
    "install the driver at each boot, before or beside the agent: `sudo cos-extensions install gpu`";
const FIX_MACHINE: &str = "create the VM with the GPUs that the job wants (`--accelerator=type=TYPE,count=N --maintenance-policy=TERMINATE`, or a \
     machine type that has them), or lower `container.gpus`";
const FIX_INDEX: &str = "name GPUs by their index, as \"0\"";

/// Why a wish cannot be fulfilled now.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    pub problem: String,
    pub fix: &'static str,
    /// Whether waiting may help: the driver may just be being installed.
    pub may_come: bool,
}

/// Whether the agent has to give GPUs itself: on an engine that has no runtime for it, on a machine that has the driver where
/// Google's installer puts it.
pub fn are_ours_to_give(root: &Path, engine: &EngineInfo) -> bool {
    !engine.has_runtime("nvidia") && (is_cos(root) || below(root, DRIVER[0].0).exists())
}

/// Whether the engine can give GPUs out, as far as can be seen: it says so, or the program of NVIDIA's toolkit is there that it looks
/// for as it starts (moby `daemon/nvidia_linux.go`).
pub fn are_the_engine_s(root: &Path, engine: &EngineInfo) -> bool {
    engine.knows_gpus() || HOOK.iter().any(|hook| below(root, hook).exists())
}

/// Whether the machine has a GPU with its driver.
pub fn has_driver(root: &Path) -> bool {
    below(root, CONTROL[0]).exists()
}

/// The device nodes for the wish.
///
/// # Errors
/// What is missing, and whether it may come.
pub fn find(root: &Path, wanted: &Gpus) -> Result<Vec<String>, Missing> {
    let never = |problem, fix| Err(Missing { problem, fix, may_come: false });
    let there = on_the_bus(root);
    let indexes: Vec<usize> = match wanted {
        Gpus::All => (0..there.max(1)).collect(),
        Gpus::Count(count) => (0..*count as usize).collect(),
        Gpus::Devices(names) => match names.iter().map(|name| name.parse().map_err(|_| name)).collect() {
            Ok(indexes) => indexes,
            Err(name) => return never(format!("GPU {name:?} is not known by that name here"), FIX_INDEX),
        },
    };
    if there == 0 {
        return never("the VM has no NVIDIA GPU".to_owned(), FIX_MACHINE);
    }
    if let Some(index) = indexes.iter().find(|index| **index >= there) {
        return never(format!("the job wants GPU {index}, and the VM has {there}, counted from 0"), FIX_MACHINE);
    }
    let gpus = indexes.iter().map(|index| format!("/dev/nvidia{index}"));
    let mut devices: Vec<String> = gpus.chain(CONTROL.map(str::to_owned)).collect();
    let needed = devices.iter().map(String::as_str).chain([DRIVER[0].0]);
    let absent: Vec<&str> = needed.filter(|path| !below(root, path).exists()).collect();
    if !absent.is_empty() {
        let problem = format!("the NVIDIA driver is not there: {} missing", absent.join(", "));
        return Err(Missing { problem, fix: FIX_DRIVER, may_come: true });
    }
    devices.extend(OPTIONAL.iter().filter(|path| below(root, path).exists()).map(|path| (*path).to_owned()));
    Ok(devices)
}

/// Puts the devices and the driver's directories into the container. What its author has put there already stays.
pub fn give(container: &mut Container, root: &Path, devices: &[String]) {
    container.gpus = None;
    for path in devices {
        if !container.devices.iter().any(|device| device.container == *path) {
            let host = below(root, path).display().to_string();
            container.devices.push(Device { host, container: path.clone(), permissions: "rwm".into() });
        }
    }
    for (source, target) in DRIVER.map(|(source, target)| (below(root, source), target)) {
        if source.exists() && !container.mounts.iter().any(|mount| mount.target == target) {
            let kind = MountKind::Bind { source: source.display().to_string(), create: false };
            container.mounts.push(Mount { kind, target: target.to_owned(), read_only: true });
        }
    }
}

/// How many NVIDIA GPUs the machine has, driver or not.
fn on_the_bus(root: &Path) -> usize {
    let devices = fs::read_dir(below(root, "/sys/bus/pci/devices")).into_iter().flatten().flatten();
    let says = |device: &fs::DirEntry, file: &str| fs::read_to_string(device.path().join(file)).unwrap_or_default();
    devices
        .filter(|device| says(device, "vendor").trim() == NVIDIA && says(device, "class").starts_with(DISPLAY))
        .count()
}

fn below(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with so many GPUs, and the files of its driver.
    fn machine(name: &str, gpus: usize, files: &[&str]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("vmjob-gpus-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let write = |path: String, text: &str| {
            let path = below(&root, &path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for index in 0..gpus {
            write(format!("/sys/bus/pci/devices/0000:00:0{index}.0/vendor"), "0x10de\n");
            write(format!("/sys/bus/pci/devices/0000:00:0{index}.0/class"), "0x030200\n");
        }
        // A bridge of theirs, and somebody else's display.
        for (slot, vendor, class) in [("8", "0x10de", "0x068000"), ("9", "0x1013", "0x030000")] {
            write(format!("/sys/bus/pci/devices/0000:00:0{slot}.0/vendor"), vendor);
            write(format!("/sys/bus/pci/devices/0000:00:0{slot}.0/class"), class);
        }
        for path in files {
            write((*path).to_owned(), "");
        }
        root
    }

    const DRIVER_FILES: [&str; 5] =
        ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1", "/var/lib/nvidia/lib64/libcuda.so.1"];

    #[test]
    fn a_wish_is_fulfilled_or_it_is_said_what_is_missing() {
        let named = |names: &[&str]| Gpus::Devices(names.iter().map(|name| (*name).to_owned()).collect());
        let control = "/dev/nvidiactl /dev/nvidia-uvm";
        let two = machine("two", 2, &DRIVER_FILES);
        let cases = [
            (Gpus::All, format!("/dev/nvidia0 /dev/nvidia1 {control}")),
            (Gpus::Count(1), format!("/dev/nvidia0 {control}")),
            (named(&["1"]), format!("/dev/nvidia1 {control}")),
        ];
        for (wanted, devices) in cases {
            assert_eq!(find(&two, &wanted).unwrap().join(" "), devices);
        }
        for (wanted, words) in [(Gpus::Count(3), "wants GPU 2, and the VM has 2"), (named(&["GPU-9"]), "\"GPU-9\"")] {
            let missing = find(&two, &wanted).unwrap_err();
            assert!(!missing.may_come && missing.problem.contains(words), "{missing:?}");
        }
        fs::remove_dir_all(two).unwrap();

        let none = machine("none", 0, &DRIVER_FILES);
        assert!(!find(&none, &Gpus::All).unwrap_err().may_come);
        fs::remove_dir_all(none).unwrap();
    }

    #[test]
    fn all_gpus_are_waited_for_while_the_driver_is_installed() {
        let root = machine("late", 2, &[]);
        for path in DRIVER_FILES {
            let missing = find(&root, &Gpus::All).unwrap_err();
            assert!(missing.may_come && missing.fix.contains("cos-extensions install gpu"), "{missing:?}");
            fs::create_dir_all(below(&root, path).parent().unwrap()).unwrap();
            fs::write(below(&root, path), "").unwrap();
        }
        assert_eq!(find(&root, &Gpus::All).unwrap().len(), 4);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_the_job_has_there_already_stays() {
        let root = machine("own", 1, &DRIVER_FILES);
        let mut container = Container::new("a");
        container.gpus = Some(Gpus::All);
        let own = Mount {
            kind: MountKind::Bind { source: "/mine".into(), create: false },
            target: "/usr/local/nvidia/lib64".into(),
            read_only: false,
        };
        container.mounts.push(own.clone());
        give(&mut container, &root, &["/dev/nvidia0".to_owned()]);
        assert_eq!((container.gpus, container.mounts), (None, vec![own]));
        assert_eq!(container.devices[0].container, "/dev/nvidia0");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_engine_with_a_runtime_for_them_is_left_to_it() {
        let engine =
            |runtimes: &str| serde_json::from_str::<EngineInfo>(&format!(r#"{{"Runtimes": {runtimes}}}"#)).unwrap();
        let (bare, nvidia) = (engine(r#"{"runc": {}}"#), engine(r#"{"runc": {}, "nvidia": {}}"#));
        let with_driver = machine("driver", 1, &DRIVER_FILES);
        let without = machine("plain", 1, &[]);
        assert!(are_ours_to_give(&with_driver, &bare) && !are_ours_to_give(&with_driver, &nvidia));
        assert!(!are_ours_to_give(&without, &bare), "a Debian without a driver: the engine says what is missing");
        fs::create_dir_all(without.join("etc")).unwrap();
        fs::write(without.join("etc/os-release"), "ID=cos\n").unwrap();
        assert!(are_ours_to_give(&without, &bare), "Container-Optimized OS, before the driver is there");
        for root in [with_driver, without] {
            fs::remove_dir_all(root).unwrap();
        }
    }
}
