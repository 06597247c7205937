//! `make bench`: what the agent costs, beside the engine and its command line, in one run. Prints tables, and writes the numbers
//! as JSON to `target/bench.json`. Wall times on a shared machine are noisy: ratios within a run are what counts.

mod agent;
mod chart;
mod client;
mod logs;
mod overhead;
mod proxy;
mod size;
mod spec;
mod stats;
mod steady;

use std::{env, error::Error, fs, path::PathBuf};

use serde_json::json;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The image that the set-up made of a static busybox.
pub(crate) const IMAGE: &str = "vmjob/busybox:test";

#[tokio::main]
async fn main() -> Result<()> {
    let only: Vec<String> = env::args().skip(1).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    let agent =
        PathBuf::from(env::var_os("VMJOB_AGENT").ok_or("VMJOB_AGENT must name the agent's binary; use `make bench`")?);
    let mut numbers = json!({});
    if wanted("size") {
        numbers["size"] = size::measure(&agent)?;
    }
    if wanted("spec") {
        numbers["spec"] = spec::measure(&agent)?;
    }
    if wanted("overhead") {
        numbers["overhead"] = overhead::measure(&agent, 50).await?;
    }
    if wanted("logs") {
        numbers["logs"] = logs::measure(&agent).await?;
    }
    // Takes long, so only by name: `make bench ONLY=steady MINUTES=20`.
    if only.iter().any(|word| word == "steady") {
        let minutes = env::var("MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(20);
        numbers["steady"] = steady::measure(&agent, minutes).await?;
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    fs::create_dir_all(&target)?;
    let path = target.join("bench.json");
    fs::write(&path, format!("{numbers:#}\n"))?;
    println!("\nthe numbers as JSON: {}", path.display());
    Ok(())
}
