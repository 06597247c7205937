//! Google's startup script runner takes the fake for a VM. It knows one address only, 169.254.169.254:80, so it gets a
//! network namespace of its own in which that is ours.

use std::path::Path;

use tokio::process::Command;

use crate::third_party::{part, skip};

/// Arguments: the fake, the runner, a directory.
const IN_NAMESPACE: &str = r#"
set -eu
ip link set lo up
ip address add 169.254.169.254/32 dev lo
cd "$3"
"$1" serve --bind 169.254.169.254 --metadata-port 80 --attribute-file startup-script=startup.sh >requests &
server=$!
trap 'kill $server; wait $server' EXIT
until [ -s requests ]; do sleep 0.05; done
timeout 60 "$2" startup
"#;

const STARTUP_SCRIPT: &str =
    "#!/bin/sh\necho \"started by $(basename \"$(dirname \"$0\")\" | cut -c 1-8)\"\ntouch \"$RAN\"\n";

async fn unshare(script: &str, arguments: &[&Path], ran: &Path) -> std::process::Output {
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user", "--fork", "--kill-child", "sh", "-c", script, "sh"]);
    command.args(arguments).env("RAN", ran).kill_on_drop(true).output().await.expect("unshare starts")
}

#[tokio::test]
async fn the_startup_script_runner_fetches_and_runs_the_script() {
    let Some(runner) = part("google-guest-agent/usr/bin/google_metadata_script_runner") else {
        return;
    };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("script-runner-{}", std::process::id()));
    let ran = dir.join("ran");
    if !unshare("ip link set lo up", &[], &ran).await.status.success() {
        skip("no network namespace can be made here");
        return;
    }
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("startup.sh"), STARTUP_SCRIPT).unwrap();
    let fake = Path::new(env!("CARGO_BIN_EXE_fakecloud"));
    let output = unshare(IN_NAMESPACE, &[fake, &runner, &dir], &ran).await;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("startup-script: started by metadata"), "{text}");
    assert!(text.contains("startup-script exit status 0"), "{text}");
    assert!(ran.exists(), "{text}");
    let requests = std::fs::read_to_string(dir.join("requests")).unwrap();
    assert!(requests.contains("200 GET /computeMetadata/v1/instance/attributes/?recursive=true"), "{requests}");
    std::fs::remove_dir_all(&dir).unwrap();
}
