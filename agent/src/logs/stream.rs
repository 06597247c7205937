//! An attached or replayed output stream, as pieces of the job's bytes.

use std::pin::Pin;

use bollard::container::LogOutput;
use futures_util::{Stream as FuturesStream, StreamExt};
use vmjob_logs::{Stream, Take};

use crate::http::chain;

/// What bollard gives for attach and for logs.
pub type OutputStream = Pin<Box<dyn FuturesStream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// A stream, and how much of each of the job's streams is still to be passed over because it was seen before.
pub(super) struct Attached {
    output: OutputStream,
    skip_stdout: u64,
    skip_stderr: u64,
}

impl Attached {
    pub(super) fn new(output: OutputStream, skip_stdout: u64, skip_stderr: u64) -> Self {
        Self { output, skip_stdout, skip_stderr }
    }

    /// Waits for one piece. An error is the end, with what is wrong if it was no proper one; a proper one says nothing about
    /// the job: a restart of the engine ends the stream too.
    pub(super) async fn next(&mut self, take: &mut Take<'_>) -> Result<(), Option<String>> {
        let piece = match self.output.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(Some(format!("the log stream broke off: {}", chain(&error)))),
            None => return Err(None),
        };
        let (stream, skip) = match &piece {
            LogOutput::StdErr { .. } => (Stream::Stderr, &mut self.skip_stderr),
            _ => (Stream::Stdout, &mut self.skip_stdout),
        };
        let bytes = piece.as_ref();
        let seen = usize::try_from(*skip).unwrap_or(usize::MAX).min(bytes.len());
        *skip -= seen as u64;
        if seen < bytes.len() {
            take(stream, &bytes[seen..]);
        }
        Ok(())
    }
}
