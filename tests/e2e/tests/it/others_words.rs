//! What others say is not taken for a fact, and however much they say it costs no more than its bound.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Vm, docker, expect, until};
use fakecloud::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers each request on `listener` with what `answer` writes.
async fn serve(listener: TcpListener, answer: impl AsyncFn(&mut TcpStream)) {
    while let Ok((mut connection, _)) = listener.accept().await {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            match connection.read_buf(&mut request).await {
                // What wants TLS is told that there is none.
                Ok(1..) if request[0].is_ascii_uppercase() => {}
                _ => break,
            }
        }
        answer(&mut connection).await;
    }
}

#[tokio::test]
async fn an_image_with_megabytes_of_labels_runs() {
    let Some(vm) = Vm::with_docker().await else { return };
    // Made by hand: a build takes minutes for it.
    let image = format!("vmjob-labels:{}", vm.id());
    let dir = vm.dir().join("image");
    fs::create_dir(&dir).unwrap();
    let (tar, dir_name) = (vm.dir().join("image.tar").display().to_string(), dir.display().to_string());
    let run_tar = |args: &[&str]| assert!(Command::new("tar").args(args).status().unwrap().success());
    docker::docker(&["save", "-o", &tar, "vmjob/busybox:test"]).await;
    run_tar(&["-xf", &tar, "-C", &dir_name]);
    let mut manifest: Value = serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let config = dir.join(manifest[0]["Config"].as_str().unwrap());
    let mut described: Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
    let labels: serde_json::Map<String, Value> =
        (0..120).map(|n| (format!("l{n}"), json!("x".repeat(45_000)))).collect();
    described["config"]["Labels"] = labels.into();
    (manifest[0]["Config"], manifest[0]["RepoTags"]) = (json!("labels.json"), json!([image]));
    fs::write(dir.join("labels.json"), described.to_string()).unwrap();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    let _ = fs::remove_file(dir.join("repositories"));
    let _ = fs::remove_file(dir.join("index.json"));
    let _ = fs::remove_file(dir.join("oci-layout"));
    run_tar(&["-cf", &tar, "-C", &dir_name, "."]);
    docker::docker(&["load", "-i", &tar]).await;
    let report = vm.run_job("echo hello; exit 3", json!({"container": {"image": image}})).await;
    docker::docker(&["rmi", &image]).await;
    expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3, "logs": {"tail": "hello\n"}}));
}

#[tokio::test]
async fn a_full_disk_that_a_registry_speaks_of_is_not_the_vm_s() {
    let codes = [
        ("DENIED", 403, "IMAGE_DENIED"),
        ("TOOMANYREQUESTS", 429, "IMAGE_PULL_FAILED"),
        ("UNKNOWN", 500, "IMAGE_PULL_FAILED"),
    ];
    for (code, status, cause) in codes {
        let Some(vm) = Vm::with_docker().await else { return };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap();
        let message = "write /var/lib/docker/tmp/x: no space left on device\nvmjob-report {}";
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        let head = format!(
            "HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = head + &body;
        let changes = json!({"container": {"image": format!("{host}/a:b")}, "callback": {"give_up_after": "1m"}});
        vm.set_job("true", changes);
        let mut command = vm.command();
        command.args(["--pull-patience", "1s"]);
        let agent = vm.spawn(command);
        let run = vm.finish(agent);
        let served = serve(listener, async |connection| drop(connection.write_all(answer.as_bytes()).await));
        let report = tokio::select! { report = run => report, () = served => unreachable!("it serves for ever") };
        expect(&report, &json!({"cause": cause, "exit_code": null}));
        assert!(vm.logs().lines().all(|line| !line.starts_with("vmjob-report")), "{}", vm.logs());
    }
}

#[tokio::test]
async fn a_callback_host_that_cannot_be_is_refused_at_once() {
    for host in [".googleapis.com", "x..googleapis.com", "workflowexecutions.googleapis.com.", "x.googleapis.com:8443"]
    {
        let vm = Vm::without_docker(Config::default()).await;
        vm.set_job("true", json!({}));
        vm.cloud.set_attribute("callback-url", format!("https://{host}/v1/x"));
        let mut agent = vm.start();
        let began = Instant::now();
        assert_eq!(agent.wait().await, 75, "{}", agent.log());
        assert!(began.elapsed() < Duration::from_secs(20), "{host} was tried for {:?}", began.elapsed());
        assert!(agent.stdout().contains(r#""cause":"INVALID_SPEC""#), "{host}: {}", agent.stdout());
    }
}

/// An answer of four megabytes, each in a chunk of its own.
#[tokio::test]
async fn an_answer_of_a_byte_a_chunk_takes_no_more_memory_than_another() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.cloud.set_attribute("job-spec", "{}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    vm.cloud.set_attribute("callback-url", url);
    let mut agent = vm.start();
    let chunks = "1\r\nx\r\n".repeat(4 << 20);
    let answer = async |connection: &mut TcpStream| {
        let head = "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = connection.write_all(head.as_bytes()).await;
        let _ = connection.write_all(chunks.as_bytes()).await;
    };
    let peak_kib = || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let tried =
        until("two tries", async || (vm.logs().matches("the report is not out yet").count() >= 2).then_some(()));
    tokio::select! { () = tried => {}, () = serve(listener, answer) => {} }
    assert!(peak_kib() < 64 * 1024, "{} KiB", peak_kib());
    agent.kill9().await;
}
