//! Secrets: the job gets them, and nobody else sees them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use e2e::{Agent, Kind, Vm, expect, files, until};
use serde_json::{Value, json};

const NAME: &str = "projects/p/secrets/s";
const LATEST: &str = "projects/p/secrets/s/versions/latest";
const PASSWORD: &str = "pa55 w/rd+\"ü~2?>";
const KEY: &str =
    "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nshort\nAASCBKcwggSjAgEAAoIBAQC7VJTU\n-----END KEY-----\n";

/// Prints a secret in each form that it may turn up in, on both streams, whole and cut.
const TELLS: &str = r#"
    printf %s "$PASSWORD" >/shared/password; printf %s "$KEY" >/shared/key
    echo "plain: $PASSWORD"; echo "err: $PASSWORD" >&2; echo "$KEY"; echo "Error: cannot log in with $PASSWORD"
    printf %s "$PASSWORD" | base64; printf %s "user:$PASSWORD" | base64; printf %s "u:$PASSWORD, x" | base64 | tr +/ -_
    printf %s "$KEY" | base64; printf %s "$KEY" | base64 -w 0; echo; env | grep -A 5 ^KEY= | base64 -w 45 | head -n 4
    echo "url: pa55%20w%2"Frd%2"B%22%"C3%BC~2%3"F%3E"
    head -c 16379 /dev/zero | tr '\0' x; echo "$PASSWORD"
    printf 'cut: %s' "${PASSWORD%rd*}"; sleep 0.3; echo "${PASSWORD#*w/}"
    printf '{"result": "%s"}' "$(printf %s "$PASSWORD" | base64)" >"$JOB_RESULT_FILE"
"#;

fn secret_env(vm: &Vm) -> Value {
    let secrets = json!({"PASSWORD": LATEST, "KEY": "projects/p/secrets/key/versions/1"});
    json!({ work(vm): { "secret_env": secrets } })
}

fn work(vm: &Vm) -> &'static str {
    if vm.kind() == Kind::Process { "process" } else { "container" }
}

fn with_secrets(vm: Vm) -> Vm {
    vm.cloud.add_secret(NAME, "an older one");
    vm.cloud.add_secret(NAME, PASSWORD);
    vm.cloud.add_secret("projects/p/secrets/key", KEY);
    vm.cloud.set_attribute("enable-guest-attributes", "TRUE");
    vm
}

/// The agent, telling all that it can tell.
fn start(vm: &Vm) -> Agent {
    let mut command = vm.command();
    command.env("RUST_LOG", "trace");
    vm.spawn(command)
}

/// What must not be found anywhere: parts of secrets and of their encodings, each of eight bytes or more.
fn forms() -> Vec<String> {
    let mut encoded: Vec<String> = Vec::new();
    for secret in [PASSWORD, KEY] {
        for before in 0..3 {
            let text = [&vec![b' '; before], secret.as_bytes(), b"  "].concat();
            let inner = |text: String| text[4..text.len() - 4].to_owned();
            encoded.extend([inner(BASE64_STANDARD.encode(&text)), inner(BASE64_URL_SAFE.encode(&text))]);
        }
    }
    let parts = encoded.iter().flat_map(|form| form.as_bytes().chunks_exact(10));
    let parts: Vec<String> = parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let plain = [
        "pa55 w/r",
        "rd+\"ü~2?",
        "rd+\\\"ü~2",
        "w%2Frd%2B%22%C3",
        "MIIEvQIB",
        "BAQEF",
        "AASCBKcw",
        "C7VJTU",
        "BEGIN KEY",
    ];
    plain.map(str::to_owned).into_iter().chain(parts).collect()
}

fn assert_hidden(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for form in forms() {
        assert!(!text.contains(&form), "{form} is found in {what}: {text}");
    }
}

/// Looks into everything that the agent writes or says, but into the job's own log, which the job writes.
fn assert_hidden_everywhere(vm: &Vm) {
    for path in files(vm.dir()) {
        if path.parent().is_some_and(|dir| dir.ends_with("shared")) || path.to_string_lossy().contains("job-json.log") {
            continue;
        }
        if path.ends_with("result.json") {
            continue;
        }
        assert_hidden(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
    }
    for (key, value) in vm.cloud.guest_attributes() {
        assert_hidden(&format!("the guest attribute {key}"), &value);
    }
    let arguments = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    for path in arguments.collect::<Vec<PathBuf>>() {
        let command = fs::read(&path).unwrap_or_default();
        if command.windows(5).any(|word| word == b"vmjob") {
            assert_hidden(&path.display().to_string(), &command);
        }
    }
}

#[tokio::test]
async fn the_job_gets_its_secrets_and_nobody_else_sees_them() {
    for vm in Vm::of_each_kind().await {
        let vm = with_secrets(vm);
        let script = format!("{TELLS} echo x >>/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; exit 3");
        vm.set_job(&script, secret_env(&vm));
        let agent = start(&vm);
        vm.until_running().await;
        until("the first checkpoint", async || vm.state_dir().join("logs.json").exists().then_some(())).await;
        assert_hidden_everywhere(&vm);
        let status = Command::new(e2e::agent_binary()).args(["status", "--state-dir"]).arg(vm.state_dir()).output();
        assert_hidden("the status", &status.unwrap().stdout);
        fs::write(vm.dir().join("shared/go"), "").unwrap();
        let report = vm.finish(agent).await;
        assert_eq!((vm.shared("password"), vm.shared("key")), (PASSWORD.to_owned(), KEY.to_owned()));
        assert_hidden_everywhere(&vm);
        assert_hidden("the report", report.to_string().as_bytes());
        let head = "plain: ***\nerr: ***\n***\n***\n***\n***\n***\n\nError: cannot log in with ***\n";
        expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3, "result": {"result": "***="}}));
        // The two streams may come in another order.
        let of_stdout = |text: &Value| text.as_str().unwrap().replace("err: ***\n", "");
        let logs = &report["logs"];
        assert!(of_stdout(&logs["head"]).starts_with(&of_stdout(&head.into())), "{report:#}");
        assert!(of_stdout(&logs["tail"]).ends_with("xxx***\ncut: ***\n"), "{report:#}");
        assert_eq!(logs["stderr_lines"], 1);
        assert_eq!(report["logs"]["errors"][0]["text"], "Error: cannot log in with ***");
        let lines = report["logs"]["stdout_lines"].as_u64().unwrap();
        let wrapped = BASE64_STANDARD.encode(KEY).len().div_ceil(76) as u64;
        assert_eq!(lines, 1 + 6 + 1 + 3 + wrapped + 1 + 4 + 1 + 1 + 1, "{report:#}");
    }
}

/// In parts that only a terminal puts together: whatever puts them together too hides what comes out.
#[tokio::test]
async fn a_secret_that_a_cursor_puts_together_is_hidden_also_where_a_text_is_cut() {
    for (name, between) in [
        ("a row above", r"\n\033[A\033[7C"),
        ("a return", r"\r\033[7C"),
        ("a backspace", r"X\b"),
        ("to the left", r"XYZ\033[3D"),
        ("a column", r"XYZ\033[8G"),
        ("an erased end", r"XYZ\033[3D\033[K"),
        ("a title", r"\033]0;title\007"),
        ("a place that was saved", r"\0337XYZ\0338"),
        ("a bell", r"\007"),
        ("a NUL", r"\000"),
    ] {
        for vm in Vm::of_each_kind().await {
            let vm = with_secrets(vm);
            let line = format!(r#"printf '%s{between}%s\n' "${{PASSWORD%rd*}}" "rd${{PASSWORD#*w/rd}}""#);
            let script = format!("i=0; while [ $i -lt 600 ]; do {line}; i=$((i+1)); done; exit 4");
            vm.set_job(&script, secret_env(&vm));
            let report = vm.finish(start(&vm)).await;
            assert_hidden(name, report.to_string().as_bytes());
            expect(&report, &json!({"logs": {"tail": "~***\n***\n"}}));
            assert_hidden_everywhere(&vm);
        }
    }
}

/// In the name of a file that a bucket refuses, as a number and a name in the result, and with colours between its characters.
#[tokio::test]
async fn a_secret_leaves_in_no_field_of_whatever_kind() {
    const TOKEN: &str = "t0k3n-0f-s0me-length";
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_attribute("enable-guest-attributes", "TRUE");
        vm.cloud.add_secret("projects/p/secrets/token", TOKEN);
        vm.cloud.add_secret("projects/p/secrets/pin", "471108547110854711085471");
        vm.cloud.script_storage("refused", "403*1000".parse().unwrap());
        let script = r#"
            mkdir /shared/refused; : >"/shared/refused/$TOKEN.ckpt";
            esc=$(printf '\033'); coloured=$(printf %s "$TOKEN" | sed "s/./$esc[01;31m$esc[K&$esc[m$esc[K/g")
            echo "coloured: $coloured"; echo "coloured: $coloured" >&2; printf "$TOKEN\n" | sed 's/./&@/g' | tr @ '\0'
            echo "{\"pin\": $PIN, \"$TOKEN\": [{\"$PIN\": -$PIN.5}, \"$TOKEN\"]}" >"$JOB_RESULT_FILE"; exit 3
        "#;
        let secrets =
            json!({"TOKEN": "projects/p/secrets/token/versions/1", "PIN": "projects/p/secrets/pin/versions/1"});
        let outputs = json!([{"from": vm.shared_path("refused"), "to": "gs://b/refused/", "required": true}]);
        let changes =
            json!({ work(&vm): {"secret_env": secrets}, "outputs": outputs, "logs": {"upload": "gs://b/logs/"}});
        vm.set_job(script, changes);
        let report = vm.finish(start(&vm)).await;
        let result = json!({"pin": "***", "***": [{"***": "-***.5"}, "***"]});
        expect(&report, &json!({"cause": "EXIT_CODE", "exit_code": 3, "result": result}));
        let refused = report["uploads"].as_array().unwrap().iter().find(|upload| upload["to"] == "gs://b/refused/");
        assert!(refused.unwrap()["error"].as_str().unwrap().contains("/***.ckpt"), "{report:#}");
        assert!(report["logs"]["head"].as_str().unwrap().contains("coloured: ***"), "{report:#}");

        let log =
            vm.cloud.objects("b").into_iter().find(|name| name.ends_with("stdout.log")).expect("the log is there");
        let log = vm.cloud.object("b", &log).unwrap();
        let mut places = vec![("the report".to_owned(), report.to_string().into_bytes())];
        places.extend(vm.cloud.guest_attributes());
        places.push(("the uploaded log".to_owned(), log.content.to_vec()));
        let is_the_job_s = |path: &PathBuf| {
            path.components().any(|part| part.as_os_str() == "shared")
                || path.to_string_lossy().contains("job-json.log")
        };
        let files = files(vm.dir()).into_iter().filter(|path| !is_the_job_s(path));
        places.extend(files.map(|path| (path.display().to_string(), fs::read(&path).unwrap_or_default())));
        for (place, bytes) in places {
            // Without whatever may stand between.
            let letters: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_control()).collect();
            let text = String::from_utf8_lossy(&letters).replace("[01;31m", "").replace("[K", "").replace("[m", "");
            assert!(
                !text.contains("0k3n-0f-s0m") && !text.contains("4711085") && !text.contains("4.711085"),
                "{place}: {text}"
            );
        }
    }
}

/// Of thousands of lines that begin alike, and the same under many names.
#[tokio::test]
async fn large_secrets_hold_up_neither_the_stop_nor_the_vm() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    let alike = (0..5500).map(|number| format!("alike-{number:05}\n")).collect::<Vec<_>>().concat();
    vm.cloud.add_secret("projects/p/secrets/alike", alike);
    let names = (0..60).map(|number| (format!("K{number}"), json!("projects/p/secrets/alike/versions/1")));
    let secrets: serde_json::Map<String, Value> =
        std::iter::once(("K".to_owned(), json!("projects/p/secrets/alike/versions/1")))
            .chain(names.take(if vm.kind() == Kind::Process { 10 } else { 0 }))
            .collect();
    let script = "echo x >>/shared/starts; yes 'alike-0000 alike-0000 alike-0000' | head -c 20000000; sleep 100";
    vm.set_job(script, json!({ work(&vm): {"secret_env": secrets}, "grace": "1s" }));
    let agent = vm.start();
    vm.until_running().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = std::time::Instant::now();
    agent.signal(rustix::process::Signal::TERM);
    let report = vm.finish(agent).await;
    assert!(began.elapsed() < Duration::from_secs(30), "the report took {:?}", began.elapsed());
    expect(&report, &json!({"cause": "VM_SHUTDOWN", "logs": {"head": "~alike-0000 alike-0000"}}));
}

#[tokio::test]
async fn more_secrets_than_can_be_masked_are_refused() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    let mut secrets = serde_json::Map::new();
    for number in 0..9 {
        let name = format!("projects/p/secrets/large-{number}");
        vm.cloud.add_secret(&name, format!("{number}").repeat(60_000));
        secrets.insert(format!("K{number}"), json!(format!("{name}/versions/1")));
    }
    let report = vm.run_job("echo x >>/shared/starts", json!({ work(&vm): {"secret_env": secrets} })).await;
    expect(&report, &json!({"cause": "SECRET_FAILED", "retryable": false, "message": "~larger than 512 KiB together"}));
    assert_eq!(vm.starts(), 0);
}

/// Where the token is sent an error may send it back.
#[tokio::test]
async fn a_token_that_comes_back_in_an_answer_is_not_shown() {
    let vm = Vm::without_docker(fakecloud::Config::default()).await;
    vm.cloud.set_attribute("job-spec", "{}");
    vm.cloud.script_callback("503+retry-after=3".parse().unwrap());
    let mut agent = start(&vm);
    let token = until("the first try", async || vm.tokens().pop()).await;
    let echo = format!("503+body=refused: Bearer {token},404+body=Bearer {token}");
    vm.cloud.script_callback(echo.parse().unwrap());
    assert_eq!(agent.wait().await, 75, "{}", agent.log());
    assert!(agent.log().contains("refused: Bearer ***"), "{}", agent.log());
    for path in files(vm.dir()) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        assert!(!text.contains(&token), "{}: {text}", path.display());
    }
}

/// Killed while the job runs, and the newest version is another by then.
#[tokio::test]
async fn a_restarted_agent_masks_what_the_job_was_given() {
    for vm in Vm::of_each_kind().await {
        let vm = with_secrets(vm);
        let script = format!("echo x >>/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; {TELLS}");
        vm.set_job(&script, secret_env(&vm));
        for pause_ms in [30, 80, 200] {
            let mut agent = start(&vm);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            agent.kill9().await;
        }
        let mut agent = start(&vm);
        vm.until_running().await;
        agent.kill9().await;
        vm.cloud.add_secret(NAME, "another one by now");
        let asked_before = vm.cloud.secret_requests().len();
        let agent = start(&vm);
        vm.until_logged("carrying on").await;
        fs::write(vm.dir().join("shared/go"), "").unwrap();
        let report = vm.finish(agent).await;
        expect(&report, &json!({"cause": "NONE", "logs": {"head": "~plain: ***\n"}}));
        assert_hidden("the report", report.to_string().as_bytes());
        assert_hidden_everywhere(&vm);
        assert_eq!(vm.starts(), 1);
        let mut asked: Vec<String> = vm.cloud.secret_requests().into_iter().map(|request| request.path).collect();
        let again = asked.split_off(asked_before);
        let pinned = again.iter().filter(|path| path.ends_with("secrets/s/versions/2:access")).count();
        assert_eq!((again.len(), pinned), (2, 1), "{again:?}");
    }
}

/// The job goes on, and its end is told; what cannot be masked is not.
#[tokio::test]
async fn a_restarted_agent_that_gets_no_secrets_withholds_the_log() {
    for vm in Vm::of_each_kind().await {
        let vm = with_secrets(vm);
        let script = format!("echo x >>/shared/starts; until [ -e /shared/go ]; do sleep 0.1; done; {TELLS} exit 4");
        let mut changes = secret_env(&vm);
        changes["logs"] = json!({"upload": "gs://b/logs/"});
        vm.set_job(&script, changes);
        let mut agent = start(&vm);
        vm.until_running().await;
        agent.kill9().await;
        vm.cloud.set_secret_permission(false);
        fs::write(vm.dir().join("shared/go"), "").unwrap();
        let report = vm.finish(start(&vm)).await;
        expect(
            &report,
            &json!({"cause": "EXIT_CODE", "exit_code": 4, "result": null, "logs": {"head": "", "tail": "", "errors": []}}),
        );
        assert!(report["logs"]["stdout_lines"].as_u64() > Some(10), "{report:#}");
        assert!(report["evidence"].to_string().contains("withheld"), "{report:#}");
        let upload = &report["uploads"][0];
        assert!(upload["error"].as_str().is_some_and(|error| error.contains("withheld")), "{upload}");
        assert!(
            upload["bytes"].as_u64() < report["logs"]["stdout_bytes"].as_u64(),
            "of what is withheld there are lines only"
        );
        assert_hidden("the report", report.to_string().as_bytes());
        assert_hidden_everywhere(&vm);
    }
}

/// A process has its secrets from its start only: one that an agent could not fetch them for is not begun by the next one either,
/// unless that gets them.
#[tokio::test]
async fn no_process_is_begun_without_its_secrets() {
    for has_permission in [true, false] {
        let Some(vm) = Vm::of_each_kind().await.into_iter().find(|vm| vm.kind() == Kind::Process) else { return };
        let vm = with_secrets(vm);
        fs::set_permissions(vm.dir().join("shared"), fs::Permissions::from_mode(0o777)).unwrap();
        let mut job = secret_env(&vm);
        e2e::merge(&mut job, json!({"process": {"user": "nobody"}, "metadata_server": "block"}));
        vm.set_job("echo x >>/shared/starts; echo \"has $PASSWORD\"", job);
        // Held up between its making and its start.
        let mut command = vm.command();
        command.env("PATH", vm.path_with("ip", "sleep 60"));
        let mut agent = vm.spawn(command);
        until("the note of what is blocked", async || vm.journal()["blocked"].is_string().then_some(())).await;
        agent.kill9().await;
        let mut journal = vm.journal();
        assert_eq!(journal["phase"], "CREATED");
        journal["attempt"]["withheld"] = json!("the API was away");
        fs::write(vm.journal_file(), journal.to_string()).unwrap();
        vm.cloud.set_secret_permission(has_permission);
        let mut command = vm.command();
        command.env("PATH", vm.path_with("ip", "cat >/dev/null"));
        let report = vm.finish(vm.spawn(command)).await;
        if has_permission {
            expect(&report, &json!({"cause": "NONE", "logs": {"tail": "has ***\n"}}));
        } else {
            expect(&report, &json!({"cause": "SECRET_FAILED", "exit_code": null}));
        }
        assert_eq!(vm.starts(), usize::from(has_permission));
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_is_named_with_what_mends_it() {
    type Change = fn(&Vm);
    let cases: [(&str, Change, bool, &str); 6] = [
        (LATEST, |vm| vm.cloud.set_secret_permission(false), false, "--member=serviceAccount:"),
        ("projects/p/secrets/none/versions/1", |_| {}, false, "gcloud secrets versions list none --project=p"),
        ("projects/p/secrets/s/versions/1", |vm| vm.cloud.disable_secret(NAME, 1), false, "must be enabled"),
        (
            "projects/p/secrets/binary/versions/1",
            |vm| vm.cloud.add_secret("projects/p/secrets/binary", *b"\xff"),
            false,
            "base64",
        ),
        (LATEST, |vm| vm.cloud.script_secrets("503*100".parse().unwrap()), true, ""),
        (LATEST, |vm| vm.cloud.script_secrets("reset*100".parse().unwrap()), true, ""),
    ];
    for (name, change, retryable, fix) in cases {
        let Some(vm) = Vm::of_each_kind().await.pop() else { return };
        let vm = with_secrets(vm);
        change(&vm);
        vm.set_job("echo x >>/shared/starts", json!({ work(&vm): { "secret_env": {"A": name} } }));
        let mut command = vm.command();
        command.args(["--metadata-patience", "2s"]);
        let report = vm.finish(vm.spawn(command)).await;
        expect(&report, &json!({"cause": "SECRET_FAILED", "exit_code": null, "retryable": retryable}));
        assert!(report["message"].as_str().unwrap().contains(name), "{report:#}");
        assert!(report["fix"].as_str().unwrap_or_default().contains(fix), "{report:#}");
        if fix.starts_with("--member") {
            let line = "gcloud secrets add-iam-policy-binding s --project=p --member=serviceAccount:123456789012-compute@developer.gserviceaccount.com --role=roles/secretmanager.secretAccessor";
            assert!(report["fix"].as_str().unwrap().contains(line), "{report:#}");
        }
        assert_eq!(vm.starts(), 0);
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    let vm = with_secrets(vm);
    vm.cloud.script_secrets("503,429+retry-after=1,401,truncate,garbage,pass+delay=1s".parse().unwrap());
    let report = vm.run_job("[ \"$PASSWORD\" ] && echo \"$PASSWORD\"", secret_env(&vm)).await;
    expect(&report, &json!({"cause": "NONE", "logs": {"tail": "***\n"}}));
}

/// The token does not go where it must not.
#[tokio::test]
async fn the_token_goes_to_no_other_secret_manager() {
    let Some(vm) = Vm::of_each_kind().await.pop() else { return };
    vm.set_job("true", secret_env(&vm));
    let mut command = vm.command();
    command.args(["--secretmanager-endpoint", "http://127.0.0.2:1/"]);
    let report = vm.finish(vm.spawn(command)).await;
    expect(&report, &json!({"cause": "SECRET_FAILED", "retryable": false, "message": "~127.0.0.2"}));
}
