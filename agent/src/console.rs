//! The agent's stdout, which is the VM's console and the journal: the job's lines, and among them the agent's report.

/// The beginning of the report's line. No line of the job is shown with it.
pub const REPORT_MARK: &str = "vmjob-report ";
