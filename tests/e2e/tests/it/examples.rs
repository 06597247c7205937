//! The examples that a laptop can run, by `fakecloud run` as their pages say: what comes out is the report that they promise.

use std::{fs, path::Path, time::Duration};

use e2e::{Vm, agent_binary, docker, expect, fakecloud_binary};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

const EXAMPLES: [(&str, &[&str]); 5] = [
    ("hello", &[]),
    ("private-image", &[]),
    ("process", &[]),
    ("secrets", &["--secret", "projects/my-project/secrets/api-key=correcthorse"]),
    ("workflow-in-yours", &[]),
];

fn read(example: &str, name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example).join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn an_example_gives_the_report_that_it_promises() {
    let Some(vm) = Vm::with_docker().await else { return };
    for (example, options) in EXAMPLES {
        let mut job = read(example, "job.json");
        // Its user is another one, which takes root.
        if job.get("process").is_some() && !rustix::process::geteuid().is_root() {
            e2e::skip(&format!("the example {example} takes root"));
            continue;
        }
        // No registry is asked in tests.
        if let Some(image) = job.get_mut("container").and_then(|container| container.get_mut("image")) {
            *image = json!(docker::IMAGE);
        }
        let file = vm.dir().join(format!("{example}.json"));
        fs::write(&file, job.to_string()).unwrap();
        let mut run = Command::new(fakecloud_binary());
        run.args(["run", "--json", "--quiet", "--agent"]).arg(agent_binary()).arg("--spec").arg(&file).args(options);
        let output = timeout(Duration::from_mins(1), run.kill_on_drop(true).output()).await.expect(example).unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{example}: {output:?}"));
        expect(&report, &read(example, "report.json"));
        assert_eq!(output.status.code(), Some(0), "{example}: {output:?}");
    }
}
