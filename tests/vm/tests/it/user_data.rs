//! The files of `cloud-init/`, by cloud-init's own schema: as they are in the repository, and filled in.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::{env, fs, path::Path};

use packaging::Scratch;

use vm::user_data;

#[test]
fn the_schema_holds() {
    if !Path::new("/usr/bin/cloud-init").exists() {
        e2e::skip("there is no cloud-init (Debian package of that name)");
        return;
    }
    for name in ["cos.yaml", "debian.yaml"] {
        let path = env::temp_dir().join(format!("vmjob-vm.{}.{name}", std::process::id()));
        let filled_in = user_data(name);
        assert!(filled_in.contains("      #!/bin/bash\n") && !filled_in.contains(" STARTUP-SCRIPT\n"), "{filled_in}");
        fs::write(&path, filled_in).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cloud-init").join(name);
        for file in [&source, &path] {
            let output = Command::new("/usr/bin/cloud-init").args(["schema", "-c"]).arg(file).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&text));
        }
        fs::remove_file(&path).unwrap();
    }
}

/// Packages are asked for only where a tool is missing: Debian's engine would replace another one.
#[test]
fn only_what_is_missing_is_installed() {
    let text = user_data("debian.yaml");
    let script = text.split("    content: |\n").nth(1).unwrap().split("\n  - path:").next().unwrap();
    let script: Vec<&str> = script.lines().map(|line| line.strip_prefix("      ").unwrap()).collect();
    for (there, installed) in [
        (["curl", "dockerd"].as_slice(), ""),
        (&["curl"], " docker.io"),
        (&["dockerd"], "curl ca-certificates"),
        (&[], "curl ca-certificates docker.io"),
    ] {
        let bin = Scratch::new();
        fs::write(bin.join("apt-get"), "#!/bin/sh\necho \"$*\"\n").unwrap();
        for name in ["timeout", "apt-get"].iter().chain(there) {
            let program = bin.join(name);
            if *name == "timeout" {
                fs::write(&program, "#!/bin/sh\nshift\n\"$@\"\n").unwrap();
            } else if *name != "apt-get" {
                fs::write(&program, "").unwrap();
            }
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let output = Command::new("/bin/sh").args(["-c", &script.join("\n")]).env("PATH", bin.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{there:?}: {output:?}");
        let asked = said.lines().last().map(|line| line.rsplit_once("Timeout=20").unwrap().1.trim());
        assert_eq!(asked.unwrap_or_default(), installed.trim(), "{there:?}: {said}");
    }
}
