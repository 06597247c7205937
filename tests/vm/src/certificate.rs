//! The certificate that what stands for googleapis.com shows, and that the machines trust.

use std::path::Path;
use std::process::Command;

/// Makes `ca.pem` and `key.pem` in a directory.
pub(crate) fn make(dir: &Path) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                     -subj /CN=googleapis.com -addext subjectAltName=DNS:*.googleapis.com -addext basicConstraints=CA:FALSE \
                     -keyout key.pem -out ca.pem";
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(dir).output();
    let output = output.expect("openssl is there");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
