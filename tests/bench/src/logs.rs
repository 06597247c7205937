//! Jobs that write much, as several clients of the engine follow them, side by side in one run: the engine alone, the command
//! line in both its ways, the engine's raw endpoint, and the agent. `BENCH_MIB` says how much a job writes (1024: the full size),
//! `BENCH_MIB_LARGE` how much the one does that shows whether the agent's memory grows (none, unless it is set).

use std::{env, fs, path::Path, time::Instant};

use serde_json::{Value, json};

use crate::{
    IMAGE, Result, agent, chart,
    client::{self, Seen, docker, engine_socket},
};

const FULL_MIB: u64 = 1024;
/// The agent as it is used, and without the live view, as the clients beside it are read by a pipe and it is not.
const AGENT: &str = "the agent";
const AGENT_UNSEEN: &str = "the agent, `forward` off";

/// What the agent is to keep to.
const MOST_WALL: f64 = 1.05;
const MOST_CPU: f64 = 1.0 / 3.0;
const MOST_RSS_KB: f64 = 8.0 * 1024.0;
const OPTIONS: [&str; 8] =
    ["--log-driver", "json-file", "--log-opt", "max-size=50m", "--log-opt", "max-file=5", "--network", "none"];

/// What a job does, and how many bytes it prints.
struct Case {
    name: String,
    script: String,
    bytes: u64,
    jobs: u64,
}

fn cases(mib: u64) -> Vec<Case> {
    let line = "x".repeat(99);
    let lines = mib * 1024 * 1024 / 100;
    let case = |name: String, script: String, bytes| Case { name, script, bytes, jobs: 1 };
    let long = mib * 1024 * 1024;
    let empty = 10_000_000 * mib / FULL_MIB;
    // Ticks are counted from the start, so a late one is made up for. /proc/uptime has hundredths of a second.
    let seconds = (60 * mib / FULL_MIB).max(1);
    let steady = format!(
        "now() {{ read -r up _ </proc/uptime; echo \"${{up%.*}}${{up#*.}}\"; }}; start=$(now); i=0; \
         while [ $i -lt {} ]; do if [ $(( ($(now) - start) / 10 )) -ge $i ]; \
         then yes {line} | head -n 10000; i=$((i + 1)); else usleep 10000; fi; done",
        seconds * 10
    );
    vec![
        case(format!("{mib} MiB of 100-byte lines"), format!("yes {line} | head -n {lines}"), lines * 100),
        case(format!("{mib} MiB of one line"), format!("head -c {long} /dev/zero | tr '\\0' x"), long),
        case(format!("{empty} empty lines"), format!("yes '' | head -n {empty}"), empty),
        case(format!("100,000 lines a second for {seconds} s"), steady, seconds * 10_000_000),
        Case { name: "20 jobs of one line".into(), script: "echo hello".into(), bytes: 6 * 20, jobs: 20 },
    ]
}

pub(crate) async fn measure(agent: &Path) -> Result<Value> {
    let mib = env::var("BENCH_MIB").ok().map_or(Ok(64), |mib| mib.parse())?;
    let wanted = env::var("BENCH_CASE").unwrap_or_default();
    let mut all = Vec::new();
    for case in cases(mib).iter().filter(|case| case.name.contains(&wanted)) {
        println!("\n## {}", case.name);
        println!(
            "| | wall | engine alone = 1 | the job's own time, without a log = 1 | CPU | `docker run` = 1 | peak RSS | bytes lost |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        let mut ways = Vec::new();
        for way in [
            "no log (`--log-driver none`)",
            "engine alone",
            "`docker run`",
            "`docker logs -f`",
            "`curl` of the endpoint",
            AGENT,
            AGENT_UNSEEN,
        ] {
            let mut seen = Seen::default();
            for job in 0..case.jobs {
                seen.add(&follow(way, agent, &case.script, all.len() as u64 * 100 + job).await?);
            }
            ways.push((way, seen));
        }
        let (no_log, alone, cli) = (ways[0].1.run_s, ways[1].1.wall_s, ways[2].1.cpu_s);
        let mut rows = Vec::new();
        for (way, seen) in &ways {
            let Seen { wall_s, run_s, cpu_s, peak_rss_kb, bytes } = *seen;
            // Less than none are bytes that came twice.
            let lost = bytes.map(|bytes| i128::from(case.bytes) - i128::from(bytes));
            let cost = if bytes.is_some() {
                format!("{cpu_s:.2} s | {:.2} | {peak_rss_kb} KB", cpu_s / cli)
            } else {
                " | | ".into()
            };
            let lost_text = lost.map_or_else(String::new, |lost| lost.to_string());
            println!(
                "| {way} | {wall_s:.2} s | {:.2} | {:.2} | {cost} | {lost_text} |",
                wall_s / alone,
                run_s / no_log
            );
            let lost = lost.and_then(|lost| i64::try_from(lost).ok());
            rows.push(json!({
                "client": way.replace('`', ""), "wall_s": wall_s, "wall_ratio": wall_s / alone, "run_s": run_s,
                "run_ratio": run_s / no_log, "cpu_s": cpu_s, "cpu_ratio": cpu_s / cli, "peak_rss_kb": peak_rss_kb, "bytes_lost": lost,
            }));
        }
        let targets = targets(&rows);
        all.push(json!({ "case": case.name, "clients": rows, "targets": targets }));
    }
    // The same memory for little and for much.
    let large = env::var("BENCH_MIB_LARGE").ok().map(|mib| mib.parse()).transpose()?;
    let mut peaks = json!({});
    println!();
    for mib in [Some(1), large].into_iter().flatten() {
        let seen = follow(AGENT, agent, &cases(mib)[0].script, 9_000 + mib).await?;
        println!("the agent's peak RSS at {mib} MiB: {} KB", seen.peak_rss_kb);
        peaks[mib.to_string()] = seen.peak_rss_kb.into();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), std::path::PathBuf::from);
    fs::create_dir_all(&target)?;
    for (title, field) in [
        ("CPU seconds of what follows the log", "cpu_s"),
        ("Wall time in seconds", "wall_s"),
        ("Peak RSS in KB", "peak_rss_kb"),
    ] {
        let plot = target.join(format!("bench-logs-{field}.svg"));
        fs::write(&plot, chart::draw(title, &all, field))?;
        println!("as a plot: {}", plot.display());
    }
    Ok(json!({ "mib": mib, "peak_rss_kb_by_mib": peaks, "cases": all }))
}

/// What the agent has of its targets in one case.
fn targets(rows: &[Value]) -> Value {
    let Some(agent) = rows.iter().find(|row| row["client"] == AGENT) else { return Value::Null };
    let mut all = json!({});
    println!();
    for (name, field, most) in [
        ("wall time, of the engine's alone", "wall_ratio", MOST_WALL),
        ("CPU, of `docker run`'s", "cpu_ratio", MOST_CPU),
        ("peak RSS in KB", "peak_rss_kb", MOST_RSS_KB),
        ("bytes lost", "bytes_lost", 0.0),
    ] {
        let Some(number) = agent[field].as_f64() else { continue };
        let is_met = number <= most && (field != "bytes_lost" || number >= 0.0);
        println!("- {name}: {number:.2}, target {most:.2}: {}", if is_met { "met" } else { "NOT met" });
        all[field] = json!({ "target": most, "met": is_met });
    }
    all
}

/// Runs the job once, followed in one of the ways.
async fn follow(way: &str, agent: &Path, script: &str, number: u64) -> Result<Seen> {
    let run = |options: &[&'static str]| [&["run"], options, &[IMAGE, "sh", "-c", script][..]].concat();
    let began = Instant::now();
    let mut seen = match way {
        AGENT | AGENT_UNSEEN => {
            let spec = json!({
                "container": { "image": IMAGE, "args": ["sh", "-c", script], "network": "none" },
                "logs": { "forward": way == AGENT },
            });
            let host = format!("unix://{}", engine_socket());
            let finished = agent::run(agent, &host, &spec.to_string(), 1_000_000 + number).await?;
            let report: Value = serde_json::from_slice(&finished.callback.body)?;
            let bytes = report["logs"]["stdout_bytes"].as_u64();
            let run_s = report["durations_s"]["run"].as_f64().unwrap_or_default();
            let (cpu_s, peak_rss_kb) = (finished.cost.cpu_s, finished.cost.peak_rss_kb);
            return Ok(Seen { wall_s: finished.wall_s, run_s, cpu_s, peak_rss_kb, bytes });
        }
        "`docker run`" => {
            let name = format!("vmjob-bench-{number}");
            let mut options = OPTIONS.to_vec();
            options.extend(["--name", name.as_str()]);
            let arguments = [&["run"], &options[..], &[IMAGE, "sh", "-c", script]].concat();
            client::watch("docker", &arguments, false).await?.of(name)
        }
        _ => {
            let options = match way {
                "no log (`--log-driver none`)" => vec!["-d", "--log-driver", "none", "--network", "none"],
                _ => [&["-d"], &OPTIONS[..]].concat(),
            };
            let id = docker(&run(&options)).await?;
            let url = format!("http://engine/containers/{id}/logs?follow=1&stdout=1&stderr=1");
            match way {
                "`docker logs -f`" => client::watch("docker", &["logs", "-f", &id], false).await?.of(id),
                "`curl` of the endpoint" => {
                    client::watch("curl", &["-sN", "--unix-socket", &engine_socket(), &url], true).await?.of(id)
                }
                _ => Seen::default().of(id),
            }
        }
    };
    docker(&["wait", &seen.0]).await?;
    seen.1.wall_s = began.elapsed().as_secs_f64();
    seen.1.run_s = client::run_s(&seen.0).await?;
    docker(&["rm", &seen.0]).await?;
    Ok(seen.1)
}
