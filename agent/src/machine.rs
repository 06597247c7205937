//! What kind of machine the agent is on.

use std::path::Path;

use crate::plain_file;

/// Whether the machine with this root runs Container-Optimized OS.
pub fn is_cos(root: &Path) -> bool {
    says_cos(&plain_file::read_system(&root.join("etc/os-release")).unwrap_or_default())
}

/// `os-release(5)`.
fn says_cos(os_release: &str) -> bool {
    os_release.lines().any(|line| matches!(line.trim(), "ID=cos" | "ID=\"cos\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cos_is_known_by_its_os_release() {
        assert!(says_cos("NAME=\"Container-Optimized OS\"\nID=cos\n"));
        assert!(!says_cos("ID=debian\nID_LIKE=cos\n"));
    }
}
