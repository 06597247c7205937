//! The agent's own log: on stderr, as text or JSON lines, filtered by `RUST_LOG`.

use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::LogFormat;

/// Starts logging. `filter` is `RUST_LOG`: levels, or `target=level` pairs, with commas between.
///
/// # Errors
/// What is wrong with the filter.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    let targets: Targets = filter
        .parse()
        .map_err(|error| format!("RUST_LOG={filter:?} is no filter: {error}; use for example RUST_LOG=debug"))?;
    let to_stderr = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = match format {
        LogFormat::Text => to_stderr.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => to_stderr.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
    Ok(())
}
