//! Jobs that end by themselves, or for want of memory: the kernel is the machine's own, so its log, its process numbers and
//! its control groups are what an agent in a real VM sees.

use serde_json::{Value, json};
use vm::{job, process};

use crate::{again, boot, ends, next};

const LIMIT_BYTES: u64 = 64 << 20;

#[tokio::test]
async fn jobs_are_run_once_and_reported() {
    let script = "echo x >>/shared/starts; echo hello; exit 7";
    let Some(mut machine) = boot(&job(script, json!({}))).await else { return };
    let wanted = json!({"cause": "EXIT_CODE", "exit_code": 7, "logs": {"tail": "hello\n"}, "vm": {"name": "fake-vm"}});
    ends(&mut machine, &wanted).await;
    again(&mut machine);
    machine.until_said("Started vmjob-agent.service").await;
    machine.until_said("vmjob-agent.service: Deactivated successfully").await;
    next(&mut machine, &process(script));
    ends(&mut machine, &wanted).await;
    assert_eq!(machine.starts(), 2);
}

/// Whose memory was out, and who was killed for it: the job, or a child of it. The engine and the agent never are.
#[tokio::test]
async fn out_of_memory_is_told_apart() {
    let main = "echo x >>/shared/starts; exec dd if=/dev/zero of=/dev/null bs=600M";
    let child = "echo x >>/shared/starts; dd if=/dev/zero of=/dev/null bs=600M; echo lost; exit 3";
    let limit = json!({"memory": LIMIT_BYTES});
    let (ours, all) = ("~bytes: the container was out of memory", "~bytes: the whole VM was out of memory");
    let killed = |message: &str, evidence: &[&str], fix: &str| {
        json!({"cause": "OOM_KILLED", "exit_code": 137, "signal": 9, "message": message, "evidence": evidence, "fix": fix,
            "usage": {"oom_kills": 1}})
    };
    let went_on = |evidence: &str| {
        json!({"cause": "EXIT_CODE", "exit_code": 3, "logs": {"tail": "~lost\n"}, "evidence": [evidence],
            "usage": {"oom_kills": 1}})
    };
    let limit_fact = format!("~memory limit: {LIMIT_BYTES} bytes; peak");
    let reached = killed("~reached its memory limit", &[ours, &limit_fact], "~raise `container.memory`");
    let none_left =
        killed("~whole VM was out of memory", &[all, "~memory limit: none; peak"], "~machine type with more memory");
    let cases: [(Value, Value); 6] = [
        (job(main, json!({})), none_left.clone()),
        (job(child, json!({})), went_on(all)),
        (process(main), none_left),
        (process(child), went_on(all)),
        (job(main, limit.clone()), reached),
        (job(child, limit), went_on(ours)),
    ];
    let Some(mut machine) = boot(&cases[0].0).await else { return };
    for (count, (job, wanted)) in cases.iter().enumerate() {
        if count > 0 {
            next(&mut machine, job);
        }
        let report = ends(&mut machine, wanted).await;
        if report["cause"] == "OOM_KILLED" {
            assert!(report["usage"]["peak_memory_bytes"].as_u64() > Some(LIMIT_BYTES / 2), "{report:#}");
        }
        assert_eq!(machine.starts(), count + 1, "{job}");
    }
}
