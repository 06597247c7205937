//! A gate on the way to the engine: it passes every call on, but for one, which it holds for ever. So a test can kill the
//! agent at exactly that call.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::docker;

/// Where a call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The engine never hears of it.
    Before,
    /// The engine has answered; the agent never hears of it.
    After,
}

/// The gate; closed when dropped.
#[derive(Debug)]
pub struct Gate {
    socket: PathBuf,
    passed: UnboundedReceiver<Call>,
    doorman: JoinHandle<()>,
}

/// A call at the gate: its method and path, and whether it was held.
#[derive(Debug)]
struct Call {
    line: String,
    held: bool,
}

impl Gate {
    /// Opens a gate in `dir`. `hold` picks the call to be held: by its number, from 0, and its method and path.
    pub fn open(dir: &Path, side: Side, hold: impl Fn(usize, &str) -> bool + Send + 'static) -> Self {
        let socket = dir.join("gate.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("the directory is writable");
        let (sender, passed) = unbounded_channel();
        let doorman = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((agent, _)) = listener.accept().await {
                let Some((head, line, agent)) = read_head(agent).await else { continue };
                let held = hold(number, &line);
                number += 1;
                tokio::spawn(pass(agent, head, held.then_some(side), Call { line, held }, sender.clone()));
            }
        });
        Self { socket, passed, doorman }
    }

    /// For `--docker-host`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Waits until a call is held, and returns its method and path; `None` once the agent can make no more calls.
    pub async fn held(&mut self) -> String {
        loop {
            let call = self.passed.recv().await.expect("the gate is open");
            if call.held {
                return call.line;
            }
        }
    }

    /// The calls that have come so far and have not been returned yet.
    pub fn calls(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.passed.try_recv().ok()).map(|call| call.line).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.doorman.abort();
    }
}

/// The head of the one request that a connection of the agent's carries.
async fn read_head(mut agent: UnixStream) -> Option<(Vec<u8>, String, UnixStream)> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if agent.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&head);
    let line = text.split(" HTTP/").next()?.to_owned();
    Some((head, line, agent))
}

async fn pass(mut agent: UnixStream, head: Vec<u8>, held: Option<Side>, call: Call, passed: UnboundedSender<Call>) {
    if held == Some(Side::Before) {
        let _ = passed.send(call);
        return std::future::pending().await;
    }
    let socket = docker::host();
    let socket = socket.strip_prefix("unix://").unwrap_or(&socket);
    let Ok(mut engine) = UnixStream::connect(socket).await else { return };
    if engine.write_all(&head).await.is_err() {
        return;
    }
    if held == Some(Side::After) {
        // What is left of the request goes through, and the answer is awaited, but not passed on.
        let (mut from_agent, _to_agent) = agent.split();
        let (mut from_engine, mut to_engine) = engine.split();
        let mut answer = [0; 1];
        tokio::select! {
            answered = from_engine.read(&mut answer) => drop(answered),
            _ = tokio::io::copy(&mut from_agent, &mut to_engine) => {}
        }
        let _ = passed.send(call);
        return std::future::pending().await;
    }
    let _ = passed.send(call);
    let _ = copy_bidirectional(&mut agent, &mut engine).await;
}
