//! The agent's own time: from the first question to the metadata server until the container is created, and from the container's
//! exit until the report has come. What the engine took of it is measured on its socket and subtracted.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    IMAGE, Result, agent,
    proxy::{Call, Proxy},
    stats::{quantile, summary},
};

pub(crate) async fn measure(agent: &Path, jobs: u64) -> Result<Value> {
    let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let proxy = Proxy::start(PathBuf::from(engine.trim_start_matches("unix://")))?;
    let spec = json!({ "container": { "image": IMAGE, "args": ["true"], "network": "none" } }).to_string();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for number in 0..jobs {
        let finished = agent::run(agent, &proxy.host(), &spec, number).await?;
        let calls = proxy.take();
        let find =
            |what: &str| calls.iter().find(|call| call.request.contains(what)).ok_or(format!("no call of {what}"));
        let asked = finished.cloud.metadata_requests();
        let asked = asked.iter().filter(|request| request.path.contains("instance/id")).map(|request| request.at).min();
        let (created, waited) = (find("/containers/create")?, find("/wait?")?);
        before.push(own_ms(asked.ok_or("the instance id was not asked for")?, created.began, &calls));
        after.push(own_ms(waited.ended, finished.callback.at, &calls));
    }
    println!(
        "\n## The agent's own time, engine calls subtracted ({jobs} jobs)\n| | p50 | p90 | target, p50 |\n|---|---|---|---|"
    );
    for (name, times) in [("metadata → container create", &before), ("container exit → POST received", &after)] {
        println!("| {name} | {:.1} ms | {:.1} ms | 25 ms |", quantile(times, 0.5), quantile(times, 0.9));
    }
    Ok(json!({ "metadata_to_create_ms": summary(&before), "exit_to_post_ms": summary(&after) }))
}

/// Milliseconds from `start` to `end` in which no call to the engine was under way. Streams that last as long as the job do
/// not count as calls.
fn own_ms(start: Instant, end: Instant, calls: &[Call]) -> f64 {
    let is_stream =
        |call: &&Call| ["/wait?", "/events?", "/attach?", "/logs?"].iter().any(|word| call.request.contains(word));
    let mut busy: Vec<(Instant, Instant)> = calls
        .iter()
        .filter(|call| !is_stream(call))
        .map(|call| (call.began.max(start), call.ended.min(end)))
        .filter(|(began, ended)| began < ended)
        .collect();
    busy.sort();
    let mut own = end.saturating_duration_since(start);
    let mut covered = start;
    for (began, ended) in busy {
        own = own.saturating_sub(ended.saturating_duration_since(began.max(covered)));
        covered = covered.max(ended);
    }
    own.as_secs_f64() * 1000.0
}
