//! The same source gives the same bytes, wherever it is built.

use std::fs;
use std::process::Command;
use std::time::Duration;

use packaging::{Scratch, dist, repository, sh, sha256, succeed};

/// Another directory, another Cargo home, another target directory.
#[test]
fn another_directory_gives_the_same_binaries() {
    let scratch = Scratch::new();
    let tree = scratch.join("an other/tree");
    fs::create_dir_all(&tree).unwrap();
    sh(format!(
        "cd {} && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t '{}'",
        repository().display(),
        tree.display()
    ));
    let home = scratch.join("cargo home");
    fs::create_dir_all(home.join("registry")).unwrap();
    sh(format!(
        "cp -r \"${{CARGO_HOME:-$HOME/.cargo}}\"/registry/{{cache,index}} '{}'",
        home.join("registry").display()
    ));

    for architecture in ["x86_64", "aarch64"] {
        let Some(released) = dist(&format!("vmjob-agent-{architecture}")) else { return };
        let triple = format!("{architecture}-unknown-linux-musl");
        let mut build = Command::new(tree.join("packaging/release/cargo.sh"));
        build.args([&triple, "build", "--quiet", "--release", "-p", "vmjob-agent"]);
        build.env("CARGO_HOME", &home).env("CARGO_TARGET_DIR", scratch.join("target")).env("CARGO_NET_OFFLINE", "true");
        succeed(&build, Duration::from_mins(9));
        let again = fs::read(scratch.join(&format!("target/{triple}/release/vmjob-agent"))).unwrap();
        assert_eq!(sha256(&again), sha256(&fs::read(released).unwrap()), "{architecture}");
    }
}

#[test]
fn the_binaries_hold_no_path_of_the_machine_that_built_them() {
    for architecture in ["x86_64", "aarch64"] {
        let Some(binary) = dist(&format!("vmjob-agent-{architecture}")) else { return };
        let bytes = fs::read(binary).unwrap();
        let home = sh("echo -n \"${CARGO_HOME:-$HOME/.cargo}\"");
        for path in [home, repository().display().to_string()] {
            assert!(!bytes.windows(path.len()).any(|window| window == path.as_bytes()), "{architecture}: {path}");
        }
    }
}
