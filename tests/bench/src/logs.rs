//! A job that writes much, three ways in one run: the engine alone, `docker run` of its command line, and the agent.

use std::{path::Path, process::Stdio, time::Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    IMAGE, Result,
    agent::{self, Cost, cost_of},
};

/// Lines of 100 bytes.
const LINES: u64 = 1_000_000;

pub(crate) async fn measure(agent: &Path) -> Result<Value> {
    let script = format!("yes {} | head -n {LINES}", "x".repeat(99));
    let options =
        ["--log-driver", "json-file", "--log-opt", "max-size=50m", "--log-opt", "max-file=5", "--network", "none"];

    let began = Instant::now();
    let id = docker(&[&["run", "-d"], &options[..], &[IMAGE, "sh", "-c", &script]].concat()).await?;
    docker(&["wait", &id]).await?;
    let alone_s = began.elapsed().as_secs_f64();
    docker(&["rm", &id]).await?;

    let began = Instant::now();
    let mut cli = Command::new("docker")
        .args([&["run", "--rm"], &options[..], &[IMAGE, "sh", "-c", &script]].concat())
        .stdout(Stdio::null())
        .spawn()?;
    let pid = cli.id().ok_or("the command line has no process id")?;
    let (cli_cost, status) = tokio::join!(cost_of(pid), cli.wait());
    status?;
    let cli_s = began.elapsed().as_secs_f64();

    let spec = json!({
        "container": { "image": IMAGE, "args": ["sh", "-c", script], "network": "none" },
        "logs": { "forward": false },
    });
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let began = Instant::now();
    let finished = agent::run(agent, &host, &spec.to_string(), 1_000_000).await?;
    let agent_s = began.elapsed().as_secs_f64();
    let report: Value = serde_json::from_slice(&finished.callback.body)?;
    let lost = LINES * 100 - report["logs"]["stdout_bytes"].as_u64().unwrap_or_default();

    println!(
        "\n## {LINES} lines of 100 bytes\n| | wall | against the engine alone | client CPU | client peak RSS |\n|---|---|---|---|---|"
    );
    println!("| engine alone (`docker run -d`) | {alone_s:.2} s | 1.00 | | |");
    row("`docker run`", cli_s, alone_s, cli_cost);
    row(&format!("the agent ({lost} bytes lost)"), agent_s, alone_s, finished.cost);
    Ok(json!({
        "engine_alone_s": alone_s,
        "cli": { "wall_s": cli_s, "cpu_s": cli_cost.cpu_s, "peak_rss_kb": cli_cost.peak_rss_kb },
        "agent": { "wall_s": agent_s, "cpu_s": finished.cost.cpu_s, "peak_rss_kb": finished.cost.peak_rss_kb, "bytes_lost": lost },
    }))
}

fn row(name: &str, wall_s: f64, alone_s: f64, cost: Cost) {
    let Cost { cpu_s, peak_rss_kb, .. } = cost;
    println!("| {name} | {wall_s:.2} s | {:.2} | {cpu_s:.2} s | {peak_rss_kb} KB |", wall_s / alone_s);
}

async fn docker(args: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(args).output().await?;
    if !output.status.success() {
        return Err(format!("docker {args:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
