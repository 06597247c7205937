//! Bytes as the frames of an attached log: however it is cut into frames, and wherever an agent dies and another takes the
//! log up again from its checkpoint, the summary is the same.
#![no_main]

use std::{future::pending, time::Duration};

use bollard::container::LogOutput;
use bytes::Bytes;
use futures_util::stream;
use libfuzzer_sys::fuzz_target;
use vmjob_agent::{
    logs::{Checkpoint, LogSummary, Logs},
    runtime::OutputStream,
};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Frame {
    is_stderr: bool,
    bytes: Bytes,
}

/// A byte with the stream and the length, and then as many bytes.
fn frames(mut data: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = data.split_first() {
        let (bytes, after) = rest.split_at(rest.len().min(usize::from(head & 0x7f)));
        frames.push(Frame { is_stderr: head & 0x80 != 0, bytes: Bytes::copy_from_slice(bytes) });
        data = after;
    }
    frames
}

/// Each frame as two.
fn halved(frames: &[Frame]) -> Vec<Frame> {
    let half = |frame: &Frame| {
        let (is_stderr, mut bytes) = (frame.is_stderr, frame.bytes.clone());
        let rest = bytes.split_off(bytes.len() / 2);
        [Frame { is_stderr, bytes }, Frame { is_stderr, bytes: rest }]
    };
    frames.iter().flat_map(half).collect()
}

fn output(frames: &[Frame]) -> OutputStream {
    let output = |Frame { is_stderr, bytes: message }: Frame| {
        Ok(if is_stderr { LogOutput::StdErr { message } } else { LogOutput::StdOut { message } })
    };
    Box::pin(stream::iter(frames.iter().cloned().map(output).collect::<Vec<_>>()))
}

async fn at_once(frames: &[Frame], budget: usize) -> LogSummary {
    let mut logs = Logs::resume(Checkpoint::default(), budget, false, None, None);
    logs.read_attached(output(frames));
    logs.drain(PATIENCE, pending()).await;
    logs.finish()
}

async fn with_a_crash(frames: &[Frame], at: usize, budget: usize) -> LogSummary {
    let mut logs = Logs::resume(Checkpoint::default(), budget, false, None, None);
    logs.read_attached(output(frames));
    for _ in 0..at {
        logs.pump().await;
    }
    let checkpoint = serde_json::to_string(&logs.checkpoint()).expect("a checkpoint can be written");
    let mut logs = Logs::resume(serde_json::from_str(&checkpoint).expect("and read"), budget, false, None, None);
    logs.read_replay(output(&halved(frames)), false);
    logs.drain(PATIENCE, pending()).await;
    logs.finish()
}

fuzz_target!(|data: &[u8]| {
    let [budget, crash, data @ ..] = data else { return };
    let (budget, frames) = (16 * usize::from(*budget), frames(data));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let whole = at_once(&frames, budget).await;
        assert_eq!(whole, at_once(&halved(&frames), budget).await);
        let at = usize::from(*crash) % (frames.len() + 1);
        assert_eq!(whole, with_a_crash(&frames, at, budget).await);
    });
});
