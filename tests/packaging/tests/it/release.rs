//! What `make dist` leaves in dist/.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use packaging::{dist, repository, run, sh, sha256, third_party};
use serde_json::Value;

/// `gzip -9` of the `x86_64` binary: what a VM downloads at most.
const MAX_DOWNLOAD_BYTES: usize = 1_992_294;

#[test]
fn it_is_whole_and_its_checksums_hold() {
    let Some(directory) = dist("") else { return };
    let version = env!("CARGO_PKG_VERSION");
    let mut wanted: BTreeSet<String> =
        ["BUILD", "SHA256SUMS", "vmjob-agent.service"].into_iter().map(str::to_owned).collect();
    wanted.extend(["amd64", "arm64"].map(|architecture| format!("vmjob-agent_{version}-1_{architecture}.deb")));
    for architecture in ["x86_64", "aarch64"] {
        wanted.extend(["", ".sha256", ".cdx.json"].map(|end| format!("vmjob-agent-{architecture}{end}")));
        wanted.insert(format!("startup-script-{architecture}.sh"));
        for file in fs::read_dir(repository().join("cloud-init")).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap();
            let Some(stem) = name.strip_suffix(".yaml") else { continue };
            wanted.insert(format!("{stem}-{architecture}.yaml"));
        }
    }
    let found = fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    assert_eq!(found.collect::<BTreeSet<_>>(), wanted);
    let directory = directory.display();
    sh(format!("cd {directory} && sha256sum --check --quiet --strict SHA256SUMS *.sha256"));
    assert_eq!(
        sh(format!("wc -l <{directory}/SHA256SUMS")).trim(),
        (wanted.len() - 1).to_string(),
        "each file has its sum"
    );
}

/// So that what the tests ran is what ships.
#[test]
fn its_binary_is_the_one_under_test() {
    let Some(binary) = dist("vmjob-agent-x86_64") else { return };
    assert_eq!(sha256(&fs::read(binary).unwrap()), sha256(&fs::read(e2e::agent_binary()).unwrap()));
}

#[test]
fn a_download_is_small() {
    let Some(binary) = dist("vmjob-agent-x86_64") else { return };
    let bytes: usize = sh(format!("gzip -9 <{} | wc -c", binary.display())).trim().parse().unwrap();
    assert!(bytes <= MAX_DOWNLOAD_BYTES, "{bytes} bytes");
}

#[test]
fn what_starts_a_vm_names_its_binary_by_checksum() {
    for architecture in ["x86_64", "aarch64"] {
        let Some(binary) = dist(&format!("vmjob-agent-{architecture}")) else { return };
        let sum = sha256(&fs::read(binary).unwrap());
        let path = dist(&format!("startup-script-{architecture}.sh")).unwrap();
        sh(format!("bash -n {0} && test -x {0}", path.display()));
        let script = fs::read_to_string(path).unwrap();
        assert!(script.contains(&format!("\nAGENT_SHA256={sum}\n")), "{script}");
        let url = script.lines().find_map(|line| line.strip_prefix("AGENT_URL=")).unwrap();
        // `make test-packaging` makes the release for a bucket.
        let bucket = std::env::var("BUCKET").ok();
        let place = |bucket: String| format!("{bucket}/vmjob/{}/vmjob-agent-{architecture}", env!("CARGO_PKG_VERSION"));
        assert_eq!(url, bucket.map(place).unwrap_or_default());

        for name in ["cos", "debian"] {
            let user_data = fs::read_to_string(dist(&format!("{name}-{architecture}.yaml")).unwrap()).unwrap();
            let begin = user_data.find("      #!/bin/bash\n").expect("the script is in it");
            let lines = user_data[begin..].lines().map(|line| line.strip_prefix("      ").unwrap_or(line));
            let inside: Vec<&str> = lines.take(script.lines().count()).collect();
            assert_eq!(inside, script.lines().collect::<Vec<_>>(), "{name}");
        }
    }
}

/// Validated by the library of those who made the format; and true to what is linked.
#[test]
fn the_bill_of_materials_is_valid_and_names_what_is_in_the_binary() {
    let Some(python) = third_party("release-parts/bin/python") else { return };
    for architecture in ["x86_64", "aarch64"] {
        let Some(file) = dist(&format!("vmjob-agent-{architecture}.cdx.json")) else { return };
        let mut validate = Command::new(&python);
        validate.arg("-c").arg(
            "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator as V\n\
             sys.exit(str(e) if (e := V(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())) else 0)",
        );
        let ran = run(validate.arg(&file), Duration::from_mins(1));
        assert!(ran.succeeded(), "{ran:#?}");

        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("file:///"), "no path of the machine that built it");
        let bill: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(bill["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
        let components = bill["components"].as_array().unwrap();
        let listed: BTreeSet<String> = components
            .iter()
            .map(|component| {
                format!("{} {}", component["name"].as_str().unwrap(), component["version"].as_str().unwrap())
            })
            .collect();
        let tree = sh(format!(
            "cd {} && cargo tree --locked --offline --package vmjob-agent --edges normal --target {architecture}-unknown-linux-musl \
             --prefix none --format '{{p}}' | awk 'NR > 1 && !/vmjob-agent/ {{ sub(\"^v\", \"\", $2); print $1, $2 }}' | sort -u",
            repository().display()
        ));
        for linked in tree.lines() {
            assert!(listed.contains(linked), "{linked} is missing in {listed:?}");
        }
        assert!(tree.lines().count() > 50, "{tree}");
        for component in components {
            let is_ours = component["bom-ref"].as_str().is_some_and(|place| place.starts_with("path+file://./"));
            assert!(is_ours || component["hashes"][0]["content"].is_string(), "a checksum for each: {component}");
        }
    }
}
