//! How large the binary is, on disk and as a download.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::Result;

pub(crate) fn measure(agent: &Path) -> Result<Value> {
    let bytes = fs::metadata(agent)?.len();
    let gzip = Command::new("gzip").arg("-9c").arg(agent).output()?.stdout.len();
    println!("\n## Size\n| binary | gzip -9 |\n|---|---|\n| {bytes} bytes | {gzip} bytes |");
    Ok(json!({ "bytes": bytes, "gzip_bytes": gzip }))
}
