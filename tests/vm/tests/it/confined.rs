//! What the agent does to the machine although its unit may not: it has the service manager do it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use e2e::{agent_binary, expect, merge, until};
use serde_json::{Value, json};
use vm::{Machine, Setup, unit};

/// A machine, not booted yet, with the unit as it ships and a directory `/srv/data` in which all may write.
async fn machine(job: &Value) -> Option<Machine> {
    let agent = fs::read(agent_binary()).unwrap();
    let setup = Setup::default().program("usr/bin/vmjob-agent", agent).unit("vmjob-agent.service", unit());
    let machine = Machine::new(setup.attribute("job-spec", job.to_string())).await?;
    let data = machine.path("/srv/data");
    fs::create_dir_all(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o1777)).unwrap();
    let settings =
        format!("VMJOB_CALLBACK_ALLOW=127.0.0.1\nVMJOB_STORAGE_ENDPOINT={}\n", machine.cloud.storage_endpoint());
    fs::write(machine.path("/etc/default/vmjob-agent"), settings).unwrap();
    Some(machine)
}

/// Without a container, and in one; neither as root.
fn users(script: &str) -> [Value; 2] {
    let command = ["sh", "-c", script];
    let mounts = json!([{"type": "bind", "source": "/srv/data", "target": "/srv/data"}]);
    [
        json!({"process": {"command": command, "user": "nobody"}}),
        json!({"container": {"image": "vmjob/busybox:test", "args": command, "mounts": mounts, "user": "65534:65534"}}),
    ]
}

/// The units that the agent had the service manager start, apart from a job's shim.
async fn helpers(machine: &Machine) -> String {
    let output = machine.inside(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "run-*.service"]).await;
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_job_s_files_are_its_user_s_and_no_link_leads_out() {
    let script = "cd /srv/data; cat in/x; stat -c '%u %a' in in/x; mkdir out; cd out; echo out >y; ln -s /etc/shadow secret; \
                  mkdir closed; echo 1 >closed/z; chmod 0 closed; ln -s y link; ln -s /srv/data/secret other";
    for mut job in users(script) {
        let files = json!({
            "inputs": [{"from": "gs://b/p/", "to": "/srv/data/in/"}],
            "outputs": [{"from": "/srv/data/out/", "to": "gs://b/o/"}],
        });
        merge(&mut job, files);
        let Some(mut machine) = machine(&job).await else { return };
        machine.cloud.put_object("b", "p/x", "in\n");
        fs::write(machine.path("/srv/data/secret"), "root's").unwrap();
        fs::set_permissions(machine.path("/srv/data/secret"), Permissions::from_mode(0o600)).unwrap();
        machine.boot();
        let report = machine.report().await;
        let wanted = json!({"cause": "OUTPUT_FAILED", "exit_code": 0, "logs": {"tail": "in\n65534 755\n65534 644\n"},
                            "uploads": [{"files": 2}]});
        expect(&report, &wanted);
        assert_eq!(machine.cloud.objects("b"), ["o/link", "o/y", "p/x"], "{report}");
        until("the helpers to be gone", async || helpers(&machine).await.is_empty().then_some(())).await;
    }
}

/// The service manager starts what opens the files also while it shuts the machine down.
#[tokio::test]
async fn outputs_go_up_before_the_machine_is_off() {
    let script = "mkdir /srv/data/out; echo out >/srv/data/out/y; up=up; echo the job is $up; exec sleep 600";
    for mut job in users(script) {
        merge(&mut job, json!({"grace": "2s", "outputs": [{"from": "/srv/data/out/", "to": "gs://b/o/"}]}));
        let Some(mut machine) = machine(&job).await else { return };
        machine.boot();
        machine.until_said("the job is up").await;
        machine.inside(&["systemctl", "poweroff"]).await;
        machine.off().await;
        expect(&machine.report().await, &json!({"cause": "VM_SHUTDOWN", "uploads": [{"files": 1}]}));
        assert_eq!(machine.cloud.objects("b"), ["o/y"]);
    }
}

/// The agent may not signal another user's process itself.
#[tokio::test]
async fn a_job_whose_engine_does_not_answer_is_killed() {
    let [_, mut job] = users("trap '' TERM; up=up; echo the job is $up; while :; do sleep 1; done");
    merge(&mut job, json!({"grace": "2s"}));
    let Some(mut machine) = machine(&job).await else { return };
    machine.boot();
    machine.until_said("the job is up").await;
    let frozen = machine.inside(&["sh", "-c", "kill -STOP $(pidof dockerd)"]).await;
    assert!(frozen.status.success(), "{frozen:?}");
    machine.cloud.set_attribute("job-cancel", "true");
    expect(&machine.report().await, &json!({"cause": "CANCELLED"}));
    machine.until_said("sent the job's main process SIGKILL without the engine").await;
    let left = machine.inside(&["sh", "-c", "grep -l '^Uid:.65534' /proc/[0-9]*/status"]).await;
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "processes of the job");
}

/// What a job has left in a sticky directory of another may be removed by that one, and by root with all its rights.
#[tokio::test]
async fn nothing_of_a_job_stays_in_the_state_directory() {
    let script = r#"cd "${JOB_RESULT_FILE%/*}" && mkdir a && touch a/b && chown 8 a/b && chown 7 a && chmod 1777 a"#;
    let job = json!({"container": {"image": "vmjob/busybox:test", "args": ["sh", "-c", script]}});
    let Some(mut machine) = machine(&job).await else { return };
    machine.boot();
    expect(&machine.report().await, &json!({"cause": "NONE"}));
    let left = async || {
        let left = machine.inside(&["find", "/var/lib/vmjob", "-name", "b"]).await;
        String::from_utf8_lossy(&left.stdout).into_owned()
    };
    until("what the job has left to be removed", async || left().await.is_empty().then_some(())).await;
}

/// The machine's rules that concern the metadata server.
async fn rules(machine: &Machine) -> Vec<String> {
    let output = machine.inside(&["sh", "-c", "ip rule; ip -6 rule"]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| line.contains(" to ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn jobs_are_kept_from_the_metadata_server_while_they_run() {
    let command = ["sh", "-c", "until [ -e /shared/end ]; do sleep 0.2; done"];
    let mounts = json!([{"type": "bind", "source": "/shared", "target": "/shared"}]);
    let container = json!({"container": {"image": "vmjob/busybox:test", "args": command, "mounts": mounts}});
    let process = json!({"process": {"command": command, "user": "nobody"}});
    for (mut job, selector) in [(process, "uidrange 65534-65534"), (container, "iif docker0")] {
        job["metadata_server"] = Value::from("block");
        let setup = Setup::default().attribute("job-spec", job.to_string());
        let agent = fs::read(agent_binary()).unwrap();
        let setup = setup.program("usr/bin/vmjob-agent", agent).unit("vmjob-agent.service", unit());
        let Some(mut machine) = Machine::new(setup).await else { return };
        machine.boot();
        let during = until("the rules", async || Some(rules(&machine).await).filter(|rules| rules.len() == 6)).await;
        assert!(during.iter().all(|rule| rule.contains(selector)), "{during:?}");
        machine.touch("end");
        expect(&machine.report().await, &json!({"cause": "NONE"}));
        until("the rules to be gone", async || rules(&machine).await.is_empty().then_some(())).await;
    }
}
