//! The files of `cloud-init/`, by cloud-init's own schema: as they are in the repository, and filled in.

use std::process::Command;
use std::{env, fs, path::Path};

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
