//! Inputs, outputs and logs against a Cloud Storage that nobody here wrote: fake-gcs-server.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use e2e::{Vm, expect, skip, until};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::inputs::content;
use crate::log_upload::gzip;

/// A running server with the content of `dir`, a directory for each bucket; `None`, and the test is skipped, where it is not there.
async fn start(dir: &Path) -> Option<(Child, String)> {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/third-party/release-parts/bin/fake-gcs-server");
    if !program.is_file() {
        skip("there is no fake-gcs-server (run tests/setup.sh)");
        return None;
    }
    let host = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().to_string();
    let url = format!("http://{host}");
    let server = Command::new(program)
        .args([
            "-backend",
            "memory",
            "-scheme",
            "http",
            "-host",
            "127.0.0.1",
            "-public-host",
            &host,
            "-external-url",
            &url,
        ])
        .args(["-port", host.rsplit(':').next().unwrap(), "-data"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the server starts");
    until("fake-gcs-server", async || TcpStream::connect(&host).await.ok()).await;
    Some((server, url))
}

/// Names of files that mean something else in a URL, a shell, or a list.
const ODD: [&str; 9] =
    ["a#b", "a?b=c&d", "100%", "%2F", "a+b", " a  b ", "d #1/100%/…/日本語.txt", "-rf", "back\\slash:*[x]~\"'"];

/// What a first job leaves is what a second one finds.
#[tokio::test]
async fn what_goes_up_comes_down_again() {
    for vm in Vm::of_each_kind().await {
        let data = vm.dir().join("data/b/in/deep");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("a b ü.txt"), "A").unwrap();
        let Some((_server, url)) = start(&vm.dir().join("data")).await else { return };
        let large = content(3_000_000);
        fs::write(vm.dir().join("shared/large"), &large).unwrap();
        let odd = vm.dir().join("shared/odd");
        fs::create_dir_all(odd.join("d #1/100%/…")).unwrap();
        for name in ODD {
            fs::write(odd.join(name), name).unwrap();
        }
        let place = |name: &str| vm.shared_path(name);
        vm.set_job(
            "echo said; mkdir /shared/out; mv /shared/large /shared/odd /shared/out/; : >/shared/out/empty; cp /shared/in/deep/* /shared/out",
            json!({
                "inputs": [{"from": "gs://b/in/", "to": place("in")}],
                "outputs": [{"from": place("out"), "to": "gs://b/up/"}],
                "logs": {"upload": "gs://b/logs"},
            }),
        );
        let mut command = vm.command();
        command.args(["--storage-endpoint", &url]);
        let uploads = json!([{"files": 3 + ODD.len(), "bytes": 3_000_001 + ODD.concat().len(), "error": null}, {"from": "stdout", "bytes": 5, "error": null}]);
        expect(&vm.finish(vm.spawn(command)).await, &json!({"cause": "NONE", "uploads": uploads}));

        let Some(second) = Vm::of_each_kind().await.into_iter().find(|second| second.kind() == vm.kind()) else {
            return;
        };
        second.set_job("true", json!({"inputs": [
            {"from": "gs://b/up/", "to": second.shared_path("back")}, {"from": "gs://b/up/large", "to": second.shared_path("one")},
            {"from": "gs://b/logs/", "to": second.shared_path("logs")},
        ]}));
        let mut command = second.command();
        command.args(["--storage-endpoint", &url]);
        expect(&second.finish(second.spawn(command)).await, &json!({"cause": "NONE"}));
        let back = second.dir().join("shared/back");
        assert_eq!(fs::read(back.join("large")).unwrap(), large);
        assert_eq!(fs::read(second.dir().join("shared/one")).unwrap(), large);
        assert_eq!(fs::read_to_string(back.join("a b ü.txt")).unwrap(), "A");
        assert_eq!(fs::read(back.join("empty")).unwrap(), b"");
        for name in ODD {
            assert_eq!(fs::read_to_string(back.join("odd").join(name)).unwrap(), name);
        }
        // Compressed, as it is stored.
        let log = second.dir().join("shared/logs").join(vm.id()).join("1/stdout.log");
        assert_eq!(gzip(&["-dc"], &fs::read(log).unwrap()), b"said\n");
    }
}
