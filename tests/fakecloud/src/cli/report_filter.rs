//! Takes the agent's `vmjob-report {…}` line out of its output. In: chunks of bytes. Out: the same without that line.

const PREFIX: &[u8] = b"vmjob-report ";

#[derive(Debug, Default)]
pub(crate) struct ReportFilter {
    /// The start of the current line, while it may still become the report's; at most as long as `PREFIX`.
    start: Vec<u8>,
    line: Line,
}

#[derive(Debug, Default, Clone, Copy)]
enum Line {
    /// As far as it is read, it may be the report.
    #[default]
    Unknown,
    Report,
    Other,
}

impl ReportFilter {
    /// What of a chunk is to be shown now.
    pub(crate) fn pass(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(chunk.len());
        for &byte in chunk {
            match self.line {
                Line::Other => shown.push(byte),
                Line::Report => {}
                Line::Unknown => {
                    self.start.push(byte);
                    if self.start == PREFIX {
                        self.start.clear();
                        self.line = Line::Report;
                    } else if !PREFIX.starts_with(&self.start) {
                        shown.append(&mut self.start);
                        self.line = Line::Other;
                    }
                }
            }
            if byte == b'\n' {
                self.line = Line::Unknown;
            }
        }
        shown
    }

    /// What was held back when the output ended.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_report_line_is_hidden_however_the_output_is_cut() {
        let output = b"hello\nvmjob-report {\"a\":1}\n\nvmjob-reporter\nvmjob-rep";
        for size in 1..output.len() {
            let mut filter = ReportFilter::default();
            let mut shown: Vec<u8> = output.chunks(size).flat_map(|chunk| filter.pass(chunk)).collect();
            shown.extend(filter.finish());
            assert_eq!(String::from_utf8_lossy(&shown), "hello\n\nvmjob-reporter\nvmjob-rep", "{size}");
        }
    }
}
