//! `vmjob-agent doctor`: what a person sees who asks whether this VM can run a job and report it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::{Vm, agent_binary, docker, free_port, skip, until};
use fakecloud::{Config, ServiceAccount};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The table's lines, and the exit status.
async fn doctor(vm: &Vm, change: impl FnOnce(&mut Command)) -> (Vec<String>, i32) {
    let mut command = Command::new(agent_binary());
    command.args(["doctor", "--metadata-host", &vm.cloud.metadata_host(), "--state-dir"]).arg(vm.state_dir());
    command.args(["--callback-allow", "127.0.0.1", "--docker-host", &docker::host()]);
    change(&mut command);
    let began = Instant::now();
    let output = command.kill_on_drop(true).output().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    let table = String::from_utf8(output.stdout).unwrap();
    println!("{table}");
    (table.lines().map(str::to_owned).collect(), output.status.code().unwrap())
}

/// The line about a subject, as `GRADE TEXT`, and what it says to do.
fn about<'a>(table: &'a [String], subject: &str) -> (&'a str, &'a str) {
    let place = table.iter().position(|line| line.starts_with(&format!("{subject}  ")));
    let place = place.unwrap_or_else(|| panic!("{subject} is not in {table:#?}"));
    let fix = table.get(place + 1).and_then(|line| line.trim_start().strip_prefix("-> ")).unwrap_or_default();
    (table[place][subject.len()..].trim(), fix)
}

#[tokio::test]
async fn a_vm_that_can_do_its_job_has_no_failure() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.set_attribute("enable-guest-attributes", "TRUE");
    vm.set_job("true", json!({}));
    let (table, status) = doctor(&vm, |_| ()).await;
    assert_eq!(status, 0);
    let wanted = [
        ("metadata server", "fake-vm in europe-west1-b"),
        ("job", docker::IMAGE),
        ("service account", "scopes"),
        ("callback host", "127.0.0.1 answers"),
        ("clock", "within"),
        ("guest attributes", "on"),
        ("state directory", "MiB free"),
        ("Docker", "API 1."),
        ("Docker's disk", "MiB free"),
        ("Docker's logs", "json-file can be read"),
        ("memory limits", ""),
    ];
    for (subject, words) in wanted {
        let (line, fix) = about(&table, subject);
        assert!(line.starts_with("ok    ") && line.contains(words) && fix.is_empty(), "{subject}: {line}");
    }
    // Each line that is not right is followed by what to do, and the columns stand below each other.
    for (place, line) in table.iter().enumerate().filter(|(_, line)| line.contains("  warn  ")) {
        assert!(table[place + 1].trim_start().starts_with("-> "), "{line}");
    }
    let columns = table.iter().filter_map(|line| line.find("  ok    ").or_else(|| line.find("  warn  ")));
    assert!(columns.clone().count() > 8 && columns.clone().all(|column| column <= "metadata server ".len()));

    // Nothing was changed, run or sent.
    assert!(!vm.state_dir().exists() && vm.cloud.callback_requests().is_empty());
    assert!(vm.cloud.metadata_requests().iter().all(|request| request.method == "GET"));
    assert!(docker::containers(&vm.container(1)).await.is_empty());
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_named_with_what_to_do() {
    type Change = fn(&Vm, &mut Command);
    let scopes = vec!["https://www.googleapis.com/auth/logging.write".to_owned()];
    let no_scope = ServiceAccount { scopes, ..ServiceAccount::default() };
    let no_scope = Config { service_account: Some(no_scope), ..Config::default() };
    let no_account = Config { service_account: None, ..Config::default() };
    let usual = Config::default();
    let cases: [(&Config, Change, &str, &str, &str); 11] = [
        (&no_account, |_, _| (), "service account", "FAIL", "gcloud compute instances set-service-account"),
        (&no_scope, |_, _| (), "service account", "FAIL", "--scopes=cloud-platform"),
        (&usual, |vm, _| vm.cloud.set_attribute("job-spec", "{"), "job", "FAIL", "vmjob-agent check"),
        (&usual, |vm, _| vm.cloud.set_attribute("docker-command", "docker run a"), "job", "FAIL", "check"),
        (&usual, |vm, _| vm.set_job("true", json!({"container": {"args": ["a b"]}})), "job", "warn", "what would run"),
        (
            &usual,
            |vm, _| vm.cloud.set_attribute("callback-url", "http://a.b/"),
            "callback URL",
            "FAIL",
            "create_callback",
        ),
        (&usual, |vm, _| vm.cloud.remove_attribute("callback-url"), "callback URL", "warn", "callback-url"),
        (
            &usual,
            |vm, _| vm.cloud.set_attribute("callback-url", "https://no-such-host.invalid/"),
            "callback host",
            "FAIL",
            "DNS",
        ),
        (&usual, |_, _| (), "guest attributes", "warn", "enable-guest-attributes=TRUE"),
        (
            &usual,
            |_, command| {
                command.args(["--docker-host", "unix:///no/such/docker.sock"]);
            },
            "Docker",
            "FAIL",
            "systemctl start docker",
        ),
        (
            &usual,
            |_, command| {
                command.args(["--state-dir", "/proc/sys/x"]);
            },
            "state directory",
            "FAIL",
            "--state-dir",
        ),
    ];
    for (config, change, subject, grade, fix) in cases {
        let vm = Vm::without_docker(config.clone()).await;
        vm.set_job("true", json!({}));
        let (table, status) = doctor(&vm, |command| {
            command.args(["--callback-allow", "no-such-host.invalid"]);
            change(&vm, command);
        })
        .await;
        let is_there = table.iter().enumerate().any(|(place, line)| {
            line.starts_with(&format!("{subject} "))
                && line.contains(&format!(" {grade} "))
                && table[place + 1].contains(fix)
        });
        assert!(is_there, "{subject} {grade} {fix} is not in {table:#?}");
        if grade == "FAIL" {
            assert_eq!(status, 1, "{subject}");
        }
    }
}

/// OpenSSL's own server, with a certificate that only those trust who are told of it. What is sent to it is in `received`.
async fn tls_server(vm: &Vm) -> Option<(Child, u16)> {
    let port = free_port();
    let openssl = |arguments: String| {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(vm.dir()).kill_on_drop(true).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                       -addext basicConstraints=CA:FALSE -addext subjectAltName=DNS:localhost \
                       -keyout key.pem -out cert.pem";
    if !openssl(certificate.to_owned()).status().await.is_ok_and(|status| status.success()) {
        skip("there is no openssl");
        return None;
    }
    let mut server = openssl(format!("s_server -accept 127.0.0.1:{port} -key key.pem -cert cert.pem -quiet"));
    let server = server.stdout(std::fs::File::create(vm.dir().join("received")).unwrap()).spawn().unwrap();
    until("the server", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    Some((server, port))
}

#[tokio::test]
async fn the_callback_host_has_to_show_a_certificate_that_is_trusted() {
    let vm = Vm::without_docker(Config::default()).await;
    let Some((_server, port)) = tls_server(&vm).await else { return };
    vm.set_job("true", json!({}));
    vm.cloud.set_attribute("callback-url", format!("https://localhost:{port}/"));
    let allow = |command: &mut Command| {
        command.args(["--callback-allow", "localhost"]).env_remove("SSL_CERT_FILE");
    };
    let (table, status) = doctor(&vm, allow).await;
    let (line, fix) = about(&table, "callback host");
    assert!(line.starts_with("FAIL") && line.contains("certificate") && fix.contains("clock"), "{table:#?}");
    assert_eq!(status, 1);
    let trusted = vm.dir().join("cert.pem");
    let (table, _) = doctor(&vm, |command| {
        allow(command);
        command.env("SSL_CERT_FILE", trusted);
    })
    .await;
    assert_eq!(about(&table, "callback host").0, "ok    localhost answers, by TLS", "{table:#?}");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_is_warned_of() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let vm = Vm::without_docker(Config::default()).await;
    std::fs::create_dir_all(vm.state_dir()).unwrap();
    let script = "mount -t tmpfs -o size=32m tmpfs \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(vm.state_dir()).arg(agent_binary());
    command.args(["doctor", "--metadata-host", &vm.cloud.metadata_host(), "--state-dir"]).arg(vm.state_dir());
    let output = command.output().await.unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("state directory   warn  only 3"), "{table}");
}

#[tokio::test]
async fn without_a_metadata_server_the_rest_is_still_shown() {
    let vm = Vm::without_docker(Config::default()).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for host in ["127.0.0.1:1".to_owned(), silent.local_addr().unwrap().to_string(), "no-such-host.invalid".into()] {
        let (table, status) = doctor(&vm, |command| {
            command.args(["--metadata-host", &host]);
        })
        .await;
        assert_eq!(status, 69);
        assert!(about(&table, "metadata server").0.contains(&host), "{table:#?}");
        about(&table, "state directory");
        about(&table, "Docker");
    }
}

/// A program of the VM's own needs no Docker.
#[tokio::test]
async fn a_job_without_a_container_does_not_need_docker() {
    let vm = Vm::without_docker(Config::default()).await;
    vm.cloud.set_attribute("job-spec", r#"{"process": {"command": ["/bin/true"]}}"#);
    let (table, status) = doctor(&vm, |command| {
        command.args(["--docker-host", "unix:///no/such/docker.sock"]);
    })
    .await;
    assert!(about(&table, "Docker").0.starts_with("warn"), "{table:#?}");
    assert_eq!(status, 0);
}

/// A metadata server that says who the VM is, and then nothing more.
#[tokio::test]
async fn what_does_not_answer_costs_seconds() {
    for path in ["instance/attributes/", "instance/service-accounts/", "instance/guest-attributes/"] {
        let vm = Vm::without_docker(Config::default()).await;
        vm.set_job("true", json!({}));
        vm.cloud.script_metadata(path, "hang*9".parse().unwrap());
        let (table, _) = doctor(&vm, |_| ()).await;
        assert!(table.iter().any(|line| line.contains("within 5 s")), "{path}: {table:#?}");
    }
}

/// A job may set the VM's clock, and a certificate of today is not good in ten years.
#[tokio::test]
async fn a_wrong_clock_keeps_no_report_from_getting_out() {
    let (Ok(agent), Ok(library)) = (std::env::var("VMJOB_AGENT_DYNAMIC"), std::env::var("LIBFAKETIME")) else {
        return skip("VMJOB_AGENT_DYNAMIC and LIBFAKETIME are not set: see the Makefile");
    };
    for shift in ["+3650d", "-3650d"] {
        let vm = Vm::without_docker(Config::default()).await;
        let Some((_server, port)) = tls_server(&vm).await else { return };
        vm.set_job("true", json!({}));
        vm.cloud.set_attribute("callback-url", format!("https://localhost:{port}/"));
        let inner = vm.command();
        let mut command = Command::new(&agent);
        command.args(inner.as_std().get_args()).args(["--callback-allow", "localhost"]);
        command.envs(inner.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("SSL_CERT_FILE", vm.dir().join("cert.pem")).env("LD_PRELOAD", &library).env("FAKETIME", shift);
        command.env("DONT_FAKE_MONOTONIC", "1");
        let mut agent = vm.spawn(command);
        let received = vm.dir().join("received");
        let is_there =
            async || std::fs::read_to_string(&received).is_ok_and(|text| text.contains("ENGINE_UNAVAILABLE"));
        until("the report", async || is_there().await.then_some(())).await;
        agent.kill9().await;
    }
}
