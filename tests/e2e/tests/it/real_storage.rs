//! Inputs, outputs and logs against a Cloud Storage that nobody here wrote: fake-gcs-server.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use e2e::{Vm, expect, free_port, skip, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::inputs::content;
use crate::log_upload::{gzip, with_parts};

/// A running server with the content of `dir`, a directory for each bucket; `None`, and the test is skipped, where it is not there.
async fn start(dir: &Path) -> Option<(Child, String)> {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/third-party/release-parts/bin/fake-gcs-server");
    if !program.is_file() {
        skip("there is no fake-gcs-server (run tests/setup.sh)");
        return None;
    }
    let host = format!("127.0.0.1:{}", free_port());
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

/// The body of the answer to a request for `path`.
async fn get(url: &str, path: &str) -> Vec<u8> {
    let host = url.trim_start_matches("http://");
    let mut connection = TcpStream::connect(host).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&answer[..head]));
    answer.split_off(head + 4)
}

/// More parts than one call composes, some put together while the job runs: one object that a browser shows as text.
#[tokio::test]
async fn a_long_log_s_parts_become_one_text() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    let data = vm.dir().join("data");
    let before = with_parts(&vm, 100, |name, part| {
        let file = data.join("b").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, part).unwrap();
    })
    .await;
    let Some((_server, url)) = start(&data).await else { return };
    let mut command = vm.command();
    command.args(["--storage-endpoint", &url]);
    let agent = vm.spawn(command);
    let listed = async || {
        let list: Value = serde_json::from_slice(&get(&url, "/storage/v1/b/b/o?prefix=logs/").await).unwrap();
        let names = list["items"].as_array().into_iter().flatten();
        names.map(|object| object["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("few parts", async || (listed().await.len() < 20).then_some(())).await;
    fs::write(vm.dir().join("shared/go"), "").unwrap();
    expect(&vm.finish(agent).await, &json!({"cause": "NONE", "uploads": [{"files": 1, "error": null}]}));

    let name = format!("logs/{}/1/stdout.log", vm.id());
    assert_eq!(listed().await, std::slice::from_ref(&name), "no part stays");
    let path = format!("/storage/v1/b/b/o/{}", name.replace('/', "%2F"));
    let object: Value = serde_json::from_slice(&get(&url, &path).await).unwrap();
    expect(&object, &json!({"contentType": "text/plain; charset=utf-8", "contentEncoding": "gzip"}));
    let said = [before, fs::read(vm.dir().join("shared/out")).unwrap()].concat();
    assert!(gzip(&["-dc"], &get(&url, &format!("{path}?alt=media")).await) == said);
}
