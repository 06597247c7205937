//! A job that prints 20,000 lines a second for a long time: does the agent's memory stay where it was?

use std::{path::Path, time::Instant};

use serde_json::{Value, json};

use crate::{
    IMAGE, Result,
    agent::{self, Cost},
};

const LINES_PER_SECOND: u64 = 20_000;
/// How often the job prints its share, and how often the agent's memory is noted.
const TICKS_PER_SECOND: u64 = 10;
const SAMPLE_S: u64 = 10;

pub(crate) async fn measure(agent: &Path, minutes: u64) -> Result<Value> {
    let ticks = minutes * 60 * TICKS_PER_SECOND;
    // Ticks are counted from the start, so a late one is made up for. /proc/uptime has hundredths of a second.
    let script = format!(
        "now() {{ read -r up _ < /proc/uptime; echo \"${{up%.*}}${{up#*.}}\"; }}; start=$(now); i=0; \
         while [ $i -lt {ticks} ]; do \
           if [ $(( ($(now) - start) * {TICKS_PER_SECOND} / 100 )) -ge $i ]; \
           then yes {} | head -n {}; i=$((i + 1)); else usleep 10000; fi; \
         done",
        "x".repeat(99),
        LINES_PER_SECOND / TICKS_PER_SECOND,
    );
    let spec = json!({ "container": { "image": IMAGE, "args": ["sh", "-c", script], "network": "none" } });
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let began = Instant::now();
    let mut samples: Vec<(u64, Cost)> = Vec::new();
    let finished = agent::run_watched(agent, &host, &spec.to_string(), 2_000_000, |cost| {
        let at_s = began.elapsed().as_secs();
        if at_s >= samples.len() as u64 * SAMPLE_S {
            samples.push((at_s, cost));
        }
    })
    .await?;
    let report: Value = serde_json::from_slice(&finished.callback.body)?;
    let run_s = report["durations_s"]["run"].as_f64().unwrap_or_default();
    let lines = report["logs"]["stdout_lines"].as_u64().unwrap_or_default();
    let lost = (ticks * LINES_PER_SECOND / TICKS_PER_SECOND).saturating_sub(lines);

    println!("\n## {lines} lines of 100 bytes in {run_s:.0} s, {lost} lost, each printed again by the agent");
    println!("| after | RSS | peak RSS | CPU |\n|---|---|---|---|");
    for (at_s, Cost { cpu_s, rss_kb, peak_rss_kb }) in samples.iter().step_by(12) {
        println!("| {at_s} s | {rss_kb} KB | {peak_rss_kb} KB | {cpu_s:.1} s |");
    }
    let end = finished.cost;
    println!("| the end | {} KB | {} KB | {:.1} s |", end.rss_kb, end.peak_rss_kb, end.cpu_s);
    let rss_kb: Vec<_> = samples.iter().map(|(_, cost)| cost.rss_kb).collect();
    Ok(json!({
        "run_s": run_s, "lines": lines, "lines_lost": lost, "cpu_s": end.cpu_s,
        "rss_kb_every_10_s": rss_kb, "peak_rss_kb": end.peak_rss_kb,
    }))
}
