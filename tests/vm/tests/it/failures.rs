//! A VM that cannot run its job: the workflow finds out why.

use std::fs;

use e2e::{agent_binary, expect};
use fakecloud::Answer;
use serde_json::{Value, json};
use vm::{Machine, Setup, sha256, startup_script, startup_script_with};

const JOB: &str = "echo x >>/shared/starts";
/// Runs the startup script in a machine that is off, as if nothing had been there before.
pub(crate) const AFRESH: &str = "rm -rf /var/lib/vmjob /usr/bin/vmjob-agent; bash /startup.sh";

pub(crate) fn setup() -> Setup {
    Setup::with_job(JOB)
        .attribute("agent-url", "gs://agents/vmjob-agent")
        .attribute("agent-sha256", sha256(&agent_binary()))
        .program("startup.sh", startup_script())
}

pub(crate) async fn machine(setup: Setup) -> Option<Machine> {
    let machine = Machine::new(setup).await?;
    machine.bucket.put("vmjob-agent", fs::read(agent_binary()).unwrap());
    Some(machine)
}

/// From the power button on, with Google's own runner of the script, and at the next boot nothing more.
#[tokio::test]
async fn a_wrong_checksum_is_reported_once_and_nothing_runs() {
    let setup = setup().attribute("startup-script", startup_script()).attribute("agent-sha256", "0".repeat(64));
    let Some(mut machine) = machine(setup).await else { return };
    machine.cloud.set_attribute("enable-guest-attributes", "TRUE");
    machine.boot();
    let wanted = json!({"cause": "INVALID_SPEC", "message": "~checksum", "fix": "~agent-sha256", "exit_code": null,
        "retryable": false});
    let report = machine.report().await;
    expect(&report, &wanted);
    machine.until_said("startup-script: vmjob: the report: 200").await;
    machine.until_said("startup-script: vmjob-report {\"version\":1,").await;
    let attribute: Value = serde_json::from_slice(&machine.cloud.guest_attributes()["vmjob/report"]).unwrap();
    assert_eq!(attribute, report);
    machine.cut().await;

    machine.cloud.set_attribute("agent-sha256", sha256(&agent_binary()));
    machine.boot();
    machine.until_said("nothing is run").await;
    machine.until_said("Startup finished").await;
    assert_eq!((machine.starts(), machine.cloud.callback_requests().len()), (0, 1));
    assert_eq!(machine.bucket.requests().len(), 1, "the agent was not even fetched again");
}

/// Each failure: what is wrong, what the bucket answers, and what the report says.
#[tokio::test]
async fn whatever_the_script_lacks_is_reported_with_what_to_do() {
    let impatient = startup_script_with(&[("DENIED_PATIENCE_S", 0)]);
    let Some(mut machine) = machine(setup().program("startup.sh", impatient)).await else { return };
    let cases: [(&str, &str, &[u16], &str, &str); 9] = [
        ("agent-url", "", &[], "agent-url", "gs://"),
        ("agent-url", "http://storage.googleapis.com/agents/vmjob-agent", &[], "https://", "gs://"),
        ("agent-url", "gs://agents", &[], "gs://", "BUCKET"),
        ("agent-url", "gs://agents/none such/ä", &[404], "404", "agent-url"),
        ("agent-url", "https://storage.googleapis.com/agents/none", &[404], "404", "agent-url"),
        ("agent-sha256", "", &[], "checksum", "sha256sum"),
        ("agent-sha256", "\"x\\", &[], "checksum", "sha256sum"),
        ("agent-sha256", &"0".repeat(64), &[200], "instead of 000", "agent-sha256"),
        ("callback-url", "", &[403], "403", "roles/storage.objectViewer"),
    ];
    for (key, value, answers, message, fix) in cases {
        let seen = machine.bucket.requests().len();
        set_up(&machine);
        if !value.is_empty() {
            machine.cloud.set_attribute(key, value);
        } else if key != "callback-url" {
            machine.cloud.remove_attribute(key);
        }
        machine.bucket.script(answers.iter().copied().filter(|status| *status == 403));
        assert_eq!(machine.run(AFRESH).await, 1, "{key}={value}: the exit status");
        let (message, fix) = (format!("~{message}"), format!("~{fix}"));
        let wanted = json!({"cause": "INVALID_SPEC", "message": message, "fix": fix, "exit_code": null,
            "retryable": false, "job": {"id": machine.id()}});
        expect(&machine.report().await, &wanted);
        let answered: Vec<u16> = machine.bucket.requests()[seen..].iter().map(|request| request.status).collect();
        assert_eq!(answered, answers, "{key}={value}");
        machine.cloud.consume_callback();
    }
    let encoded = "/storage/v1/b/agents/o/none%20such%2F%C3%A4?alt=media";
    assert!(machine.bucket.requests().iter().any(|request| request.path == encoded), "{:?}", machine.bucket.requests());
    let tokens = machine.bucket.requests().iter().filter(|request| request.authorization.is_some()).count();
    assert_eq!(tokens, 3, "only what is asked of gs:// carries the VM's token");
    assert_eq!(machine.starts(), 0);
}

/// What has not passed while this VM waited may have by the time that there is another one.
#[tokio::test]
async fn what_may_pass_is_reported_as_worth_another_vm() {
    let impatient = startup_script_with(&[("DOWNLOAD_PATIENCE_S", 0)]);
    let Some(mut machine) = machine(setup().program("startup.sh", impatient)).await else { return };
    let elsewhere = "https://storage.googleapis.com:444/agents/vmjob-agent";
    for (url, answer, message) in
        [("gs://agents/vmjob-agent", Some(503), "~HTTP status 503"), (elsewhere, None, "~vmjob-agent: curl: (7) ")]
    {
        machine.cloud.set_attribute("agent-url", url);
        machine.bucket.script(answer);
        assert_eq!(machine.run(AFRESH).await, 1, "{url}");
        expect(&machine.report().await, &json!({"cause": "AGENT_ERROR", "message": message, "retryable": true}));
        machine.cloud.consume_callback();
    }
}

/// What stops a download is not always the way there, and curl knows. A disk is not asked again.
#[tokio::test]
async fn a_download_that_fails_in_the_vm_is_not_laid_to_the_network() {
    let impatient = startup_script_with(&[("DOWNLOAD_PATIENCE_S", 0)]);
    let setup = setup().as_cos().program("impatient.sh", impatient);
    let Some(mut machine) = machine(setup).await else { return };
    let disk = |options: &str| {
        let place = "/var/lib/google/vmjob";
        format!("mkdir -p {place} && mount -t tmpfs -o {options} tmpfs {place} && bash /startup.sh")
    };
    let untrusted = "sed -i '/END CERTIFICATE/q' /etc/ssl/certs/ca-certificates.crt; bash /impatient.sh".to_owned();
    let cases = [
        (disk("size=1m"), 1, "~/var/lib/google/vmjob cannot be written to: curl: (23) ", "~full"),
        (disk("ro"), 1, "~/var/lib/google/vmjob cannot be written to: curl: (23) ", "~read-only"),
        (untrusted, 0, "~vmjob-agent: curl: (60) ", "~certificate"),
    ];
    for (line, requests, message, fix) in cases {
        let seen = machine.bucket.requests().len();
        assert_eq!(machine.run(&format!("rm -rf /var/lib/vmjob; {line}")).await, 1, "{line}");
        let wanted = json!({"cause": "AGENT_ERROR", "message": message, "fix": fix, "retryable": true});
        expect(&machine.report().await, &wanted);
        assert_eq!(machine.bucket.requests().len() - seen, requests, "{line}");
        machine.cloud.consume_callback();
    }
}

/// The checksum is right, and the program is none, or another architecture's: no VM of this kind can run it.
#[tokio::test]
async fn what_cannot_be_executed_is_reported_as_the_wrong_binary() {
    let Some(mut machine) = machine(setup()).await else { return };
    let mut other = fs::read(agent_binary()).unwrap();
    other[18] = 247; // e_machine: one that no kernel runs
    let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    let file = std::env::temp_dir().join(format!("vmjob-vm.wrong.{}", std::process::id()));
    for wrong in [other, packed] {
        fs::write(&file, &wrong).unwrap();
        machine.cloud.set_attribute("agent-sha256", sha256(&file));
        machine.bucket.put("vmjob-agent", wrong);
        assert_eq!(machine.run(AFRESH).await, 1);
        let wanted = json!({"cause": "INVALID_SPEC", "message": "~cannot be executed", "fix": "~agent-url",
            "retryable": false});
        expect(&machine.report().await, &wanted);
        machine.cloud.consume_callback();
    }
    fs::remove_file(&file).unwrap();
}

/// A power cut right after the line must not have the next boot send the report once more.
#[tokio::test]
async fn that_the_report_is_out_is_said_when_it_is_noted() {
    let looks = "printf() {\n builtin printf \"$@\"\n case $* in *'the report: 200') ls /var/lib/vmjob/*.delivered || exit 9 ;; esac\n}\n";
    let setup = setup().attribute("agent-sha256", "none").file("looks.sh", looks);
    let Some(mut machine) = machine(setup).await else { return };
    assert_eq!(machine.run("BASH_ENV=/looks.sh bash /startup.sh").await, 1, "{}", machine.console());
    assert!(machine.console().contains(".delivered"), "{}", machine.console());
}

/// What passes is waited for; a role that was granted just now takes minutes to spread.
#[tokio::test]
async fn a_bucket_and_a_metadata_server_that_falter_are_asked_again() {
    let stub = "#!/bin/sh\ncase $1 in is-*) exit 3 ;; esac\n";
    let Some(mut machine) = machine(setup().program("usr/local/bin/systemctl", stub)).await else { return };
    machine.bucket.script([503, 429, 403, 500]);
    let printed = format!("{}  vmjob-agent\n", sha256(&agent_binary())); // by sha256sum
    machine.cloud.set_attribute("agent-sha256", printed);
    let (cut_short, other) =
        (machine.path("/usr/bin/vmjob-agent.new.9999999"), machine.path("/usr/bin/vmjob-agent.new.1"));
    for file in [&cut_short, &other] {
        fs::write(file, "half").unwrap();
    }
    for path in
        ["instance/attributes/agent-url", "instance/attributes/callback-url", "instance/service-accounts/default/token"]
    {
        machine.cloud.script_metadata(path, "503,reset,truncate".parse().unwrap());
    }
    assert_eq!(machine.run(AFRESH).await, 0, "{}", machine.console());
    let answered: Vec<u16> = machine.bucket.requests().iter().map(|request| request.status).collect();
    assert_eq!(answered, [503, 429, 403, 500, 200]);
    assert_eq!(fs::read(machine.path("/usr/bin/vmjob-agent")).unwrap(), fs::read(agent_binary()).unwrap());
    let others = fs::read_dir(machine.path("/usr/bin")).unwrap().flatten().map(|entry| entry.path());
    let others: Vec<_> = others.filter(|path| path.display().to_string().contains("vmjob-agent.")).collect();
    assert_eq!(others, [other], "a file of a script that runs stays, and no other");

    assert_eq!(machine.run("bash /startup.sh").await, 0);
    assert_eq!(machine.bucket.requests().len(), 5, "what is there is not fetched again");
    assert!(machine.cloud.callback_requests().is_empty());
}

/// What the endpoint answers, and how many tries that makes.
#[tokio::test]
async fn the_failure_report_is_delivered_as_the_agent_would() {
    let Some(mut machine) = machine(setup().attribute("agent-sha256", "0".repeat(64))).await else { return };
    let cases = [
        ("503,429,reset,pass", 4, true),
        ("401,pass", 2, true),
        ("reset-after,429", 2, true), // it has the first try's
        ("404", 1, false),
        ("405", 1, false),
        ("413", 1, false),
    ];
    for (script, tries, is_delivered) in cases {
        let (sent, taken) = (machine.cloud.callback_requests().len(), machine.cloud.accepted().len());
        machine.cloud.script_callback(script.parse().unwrap());
        assert_eq!(machine.run(AFRESH).await, 1, "{script}");
        assert_eq!(machine.run("bash /startup.sh").await, 0, "{script}: the next boot");
        let requests = machine.cloud.callback_requests().split_off(sent);
        assert_eq!(requests.len(), tries, "{script}");
        let bodies = requests.iter().filter(|request| request.answer != Answer::Reset || request.accepted);
        assert!(
            bodies.map(|request| &request.body).all(|body| *body == requests[tries - 1].body),
            "{script}: the same bytes"
        );
        assert_eq!(machine.cloud.accepted().len() - taken, usize::from(is_delivered), "{script}");
        machine.cloud.consume_callback();
    }
    assert_eq!(machine.bucket.requests().len(), cases.len(), "a boot after a report fetches nothing");
}

#[tokio::test]
async fn an_endpoint_that_wants_to_be_left_alone_is() {
    let Some(mut machine) = machine(setup().attribute("agent-sha256", "0".repeat(64))).await else { return };
    let date = "503+retry-after:31 Dec 2100 23:59:57 GMT+date:31 Dec 2100 23:59:55 GMT";
    machine.cloud.script_callback(format!("429+retry-after=3,{date},pass").parse().unwrap());
    assert_eq!(machine.run(AFRESH).await, 1);
    let requests = machine.cloud.callback_requests();
    let pauses: Vec<f64> = requests.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect();
    assert!(pauses.len() == 2 && pauses[0] >= 3.0 && pauses[1] >= 2.0, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause < 30.0), "{pauses:?}");
}

/// The VM goes down before the report is out. The next boot sends it, though the agent could be had by now: whether the
/// workflow has heard of the failure is not known.
#[tokio::test]
async fn a_failure_report_that_a_reboot_interrupts_is_sent_by_the_next_boot() {
    let Some(mut machine) = machine(setup().attribute("agent-sha256", "0".repeat(64))).await else { return };
    // Each answer but the last is waited after, so that no try is interrupted.
    for (first_boot, next_boot, next_boot_tries) in [
        ("503+retry-after=60", "429,pass", 2), // no try of the first boot was left unanswered
        ("reset-after,503+retry-after=60", "429*2,pass", 1), // the endpoint has that of the first boot
    ] {
        let sent = machine.cloud.callback_requests().len();
        machine.cloud.set_attribute("agent-sha256", "0".repeat(64));
        machine.cloud.script_callback(first_boot.parse().unwrap());
        assert_eq!(
            machine.run(&format!("({AFRESH}) >/tmp/said 2>&1 & until grep -q 'yet: 503' /tmp/said; do sleep 0.1; done; kill $!; wait; exit 7")).await,
            7,
            "{}",
            machine.console()
        );
        let interrupted = machine.cloud.callback_requests().len();
        assert!(interrupted > sent, "it has tried");
        machine.cloud.clear_scripts();
        machine.cloud.script_callback(next_boot.parse().unwrap());
        set_up(&machine);
        assert_eq!(machine.run("bash /startup.sh").await, 0, "{}", machine.console());
        let requests = machine.cloud.callback_requests();
        assert_eq!(requests.len(), interrupted + next_boot_tries, "{first_boot}");
        assert_eq!(requests[sent].body, requests[interrupted].body, "{first_boot}: the same bytes");
        expect(&machine.report().await, &json!({"cause": "INVALID_SPEC"}));
        machine.cloud.consume_callback();
        machine.cloud.clear_scripts();
    }
    assert_eq!(machine.bucket.requests().len(), 2);
}

#[tokio::test]
async fn the_token_goes_to_google_or_to_hosts_that_were_named() {
    let setup =
        setup().attribute("agent-sha256", "").file("etc/default/vmjob-agent", "VMJOB_CALLBACK_ALLOW=example.com\n");
    let Some(mut machine) = machine(setup).await else { return };
    machine.cloud.script_callback("401,404".parse().unwrap());
    assert_eq!(machine.run(AFRESH).await, 1);
    let requests = machine.cloud.callback_requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.header("authorization").is_none()), "{requests:?}");
}

/// Nothing can be POSTed, so nothing is run; the console and the guest attributes have the report.
#[tokio::test]
async fn without_a_service_account_the_other_channels_have_the_report() {
    let setup = Setup::with_job("echo x >>/shared/starts; exit 7")
        .without_service_account()
        .attribute("enable-guest-attributes", "TRUE")
        .attribute("startup-script-url", "https://storage.googleapis.com/agents/vmjob-agent");
    let Some(mut machine) = machine(setup).await else { return };
    machine.boot();
    machine.until_said("vmjob-report {\"version\":1,").await;
    let report =
        e2e::until("the guest attribute", async || machine.cloud.guest_attributes().remove("vmjob/report")).await;
    let report: Value = serde_json::from_slice(&report).unwrap();
    let fix = "~gcloud compute instances set-service-account";
    expect(&report, &json!({"cause": "INVALID_SPEC", "exit_code": null, "message": "~no service account", "fix": fix}));
    assert!(machine.cloud.callback_requests().is_empty());
    assert_eq!(machine.starts(), 0);
    machine.cut().await;

    // The same of the script.
    machine.cloud.set_attribute("agent-url", "gs://agents/vmjob-agent");
    machine.cloud.set_attribute("agent-sha256", sha256(&agent_binary()));
    let script = "rm -rf /var/lib/vmjob /usr/bin/vmjob-agent; curl -sS -H 'Metadata-Flavor: Google' \
                  http://169.254.169.254/computeMetadata/v1/instance/attributes/script | bash";
    machine.cloud.set_attribute("script", startup_script());
    assert_eq!(machine.run(script).await, 1);
    let report: Value = serde_json::from_slice(&machine.cloud.guest_attributes()["vmjob/report"]).unwrap();
    expect(&report, &json!({"cause": "INVALID_SPEC", "message": "~no service account", "fix": "~service account"}));
    assert!(machine.cloud.callback_requests().is_empty());
}

fn set_up(machine: &Machine) {
    machine.cloud.set_attribute("agent-url", "gs://agents/vmjob-agent");
    machine.cloud.set_attribute("agent-sha256", sha256(&agent_binary()));
}
