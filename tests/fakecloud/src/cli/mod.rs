//! What the binary adds to the library.

mod agent;
pub(crate) mod args;
mod help;
mod quoting;
mod report;
mod report_filter;
pub(crate) mod run;
pub(crate) mod serve;
mod signals;
mod state_dir;

use std::io::{self, Write as _};

/// Prints to stdout; a reader that has gone is an error here, not a panic.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
