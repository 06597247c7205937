//! What the agent does to the machine although its unit may not: it has the service manager do it.

use std::fs;

use e2e::{agent_binary, expect, until};
use serde_json::{Value, json};
use vm::{Machine, Setup, unit};

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
