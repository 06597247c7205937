//! An image for job VMs, baked on a machine with a real init and a real engine; and the package on the VM that is made of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use packaging::{FakeCloud, Machine, Registry, Root, deb, has, repository, run, sh, sha256, third_party};

/// The test image as `docker save` writes one. Returns its configuration.
fn saved_image(root: &Root) -> Option<String> {
    let layer = third_party("busybox.tar")?;
    let digest = sha256(&fs::read(&layer).unwrap());
    let directory = root.join("root/bake");
    fs::create_dir_all(&directory).unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#
    );
    fs::write(directory.join("config.json"), &config).unwrap();
    let manifest = r#"[{"Config":"config.json","RepoTags":["vmjob/busybox:test"],"Layers":["layer.tar"]}]"#;
    fs::write(directory.join("manifest.json"), manifest).unwrap();
    fs::copy(layer, directory.join("layer.tar")).unwrap();
    sh(format!(
        "cd {} && tar --create --file 'busy box.tar' *.json layer.tar && rm *.json layer.tar",
        directory.display()
    ));
    fs::copy(repository().join("packaging/image/provision.sh"), directory.join("provision.sh")).unwrap();
    Some(config)
}

#[test]
fn a_baked_image_runs_its_first_job_and_an_upgrade_leaves_that_running() {
    let Some(root) = Root::new() else { return };
    let Some(config) = saved_image(&root) else { return };
    let Some(old) = deb("0.0.1", &root.join("root/bake")) else { return };

    let machine = Machine::boot(&root);
    let Some(registry) = Registry::start(&machine) else { return };
    let pulled = registry.push(&machine, "job", &config, &third_party("busybox.tar").unwrap());
    fs::write(root.join("root/bake/images.txt"), format!("# of this test\n\nbusy box.tar\n{pulled} # no end of line"))
        .unwrap();
    let name = old.file_name().unwrap().display();
    machine.sh(&format!("cd /root/bake && ./provision.sh --docker --images images.txt {name}"));
    assert_eq!(machine.run("systemctl is-active vmjob-agent").stdout, "inactive\n", "baking starts no agent");
    machine.power_off();
    drop(registry);

    // Nothing of the machine that baked it is in the image.
    let is_empty = |name: &str| fs::read_dir(root.join(name)).is_ok_and(|mut entries| entries.next().is_none());
    assert_eq!(fs::read_to_string(root.join("etc/machine-id")).unwrap(), "");
    assert!(is_empty("var/log/journal") || !root.join("var/log/journal").exists(), "logs");
    assert!(is_empty("var/lib/apt/lists"), "package lists");
    for name in ["var/lib/vmjob", "usr/sbin/policy-rc.d", "root/.docker"] {
        assert!(!root.join(name).exists(), "{name}");
    }

    // The first VM: it has a job, and no network to pull from.
    let settings = root.join("etc/default/vmjob-agent");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + FakeCloud::SETTINGS).unwrap();
    let new = deb("0.0.2", &root.join("root/bake")).unwrap();
    let machine = Machine::boot(&root);
    let script = "'echo one; until [ -e /bake/go ]; do sleep 0.2; done; echo two; exit 5'";
    let cloud = FakeCloud::start(&machine, &format!("docker run -v /root/bake:/bake {pulled} sh -c {script}"));
    let container = machine.until("docker ps --no-trunc --quiet", |printed| !printed.is_empty());
    let agent = || machine.sh("systemctl show --property MainPID --value vmjob-agent").trim().to_owned();
    let before = agent();
    machine.sh("docker image inspect vmjob/busybox:test");

    // The new agent takes over from the old one, and neither the job nor its report takes notice.
    machine.sh(&format!("dpkg --install /root/bake/{}", new.file_name().unwrap().display()));
    assert_ne!(agent(), before, "another agent runs");
    assert_eq!(machine.sh("docker ps --no-trunc --quiet").trim(), container, "the job runs on");
    fs::write(root.join("root/bake/go"), "").unwrap();
    let report = cloud.report();
    assert_eq!(
        (&report["cause"], &report["exit_code"], &report["job"]["attempt"], &report["logs"]["tail"]),
        (&"EXIT_CODE".into(), &5.into(), &1.into(), &"one\ntwo\n".into()),
        "{report:#}"
    );
    machine.until("systemctl is-active vmjob-agent || true", |state| state == "inactive");

    // It goes from a machine that is up, too.
    machine.sh("dpkg --purge vmjob-agent");
    assert_eq!(machine.run("systemctl cat vmjob-agent").status, Some(1), "no unit is left");
    assert!(!root.join("var/lib/vmjob").exists() && !settings.exists());
}

#[test]
fn removing_the_package_stops_the_job_and_reports_it() {
    let Some(root) = Root::new() else { return };
    let Some(_) = saved_image(&root) else { return };
    let Some(package) = deb("0.0.1", &root.join("root/bake")) else { return };
    let machine = Machine::boot(&root);
    let name = package.file_name().unwrap().display();
    machine.sh("apt-get update -qq && apt-get install -qq -y --no-install-recommends docker.io iptables >/dev/null");
    machine.sh("docker load --quiet --input '/root/bake/busy box.tar'");
    machine.sh(&format!("dpkg --unpack /root/bake/{name}"));
    fs::write(root.join("etc/default/vmjob-agent"), FakeCloud::SETTINGS).unwrap();
    let cloud = FakeCloud::start(&machine, "docker run vmjob/busybox:test sleep 600");
    machine.sh("dpkg --configure --force-confold vmjob-agent");
    machine.until("docker ps --quiet", |printed| !printed.is_empty());
    let said = machine.run("dpkg --remove vmjob-agent").stderr;
    assert!(said.contains("a job that runs is stopped too"), "{said}");
    let report = cloud.report();
    assert_eq!(report["cause"], "VM_SHUTDOWN", "{report:#}");
}

/// As an image is built without a machine that runs.
#[test]
fn the_binary_alone_can_be_baked_in_a_chroot() {
    let Some(root) = Root::new() else { return };
    let bake = root.join("root/bake");
    fs::create_dir_all(&bake).unwrap();
    fs::copy(repository().join("packaging/image/provision.sh"), bake.join("provision.sh")).unwrap();
    // What cannot run is refused before anything is installed.
    fs::write(bake.join("vmjob-agent"), b"\x7fELF\0").unwrap();
    let refused = root.try_chroot("cd /root/bake && ./provision.sh --docker vmjob-agent");
    assert!(refused.stderr.contains("the agent cannot be executed"), "{refused:#?}");
    assert!(!root.join("usr/bin/dockerd").exists());

    // As a download leaves it: not executable.
    fs::copy(e2e::agent_binary(), bake.join("vmjob-agent")).unwrap();
    fs::set_permissions(bake.join("vmjob-agent"), Permissions::from_mode(0o644)).unwrap();
    root.chroot("cd /root/bake && ./provision.sh vmjob-agent");
    assert_eq!(root.chroot("systemctl is-enabled vmjob-agent"), "enabled\n");
    assert!(root.join("usr/bin/vmjob-agent").exists() && root.join("etc/systemd/system/vmjob-agent.service").exists());

    // Without a system that runs there is nothing to preload images into.
    fs::write(bake.join("images.txt"), "busybox\n").unwrap();
    let refused = root.try_chroot("cd /root/bake && ./provision.sh --images images.txt vmjob-agent");
    assert!(refused.stderr.contains("needs a running system"), "{refused:#?}");
    assert!(!root.join("usr/sbin/policy-rc.d").exists());
}

#[test]
fn packer_takes_the_template() {
    if !has("packer") {
        return;
    }
    let template = repository().join("packaging/image/vmjob.pkr.hcl");
    let packer = |arguments: &[&str]| {
        let mut packer = Command::new("packer");
        packer.args(arguments).arg(&template).env("CHECKPOINT_DISABLE", "1");
        run(&packer, Duration::from_mins(1))
    };
    let agent = format!("agent={}", e2e::agent_binary().display());
    let valid = packer(&["validate", "-var", "project=p", "-var", "zone=europe-west1-b", "-var", &agent]);
    assert!(valid.succeeded(), "{valid:#?}");
    let nothing_given = packer(&["validate"]);
    assert!(
        !nothing_given.succeeded() && nothing_given.stdout.contains("Unset variable \"agent\""),
        "{nothing_given:#?}"
    );
    let well_formed = packer(&["fmt", "-check", "-diff"]);
    assert!(well_formed.succeeded(), "{well_formed:#?}");
}
