//! A gate on the way to the engine. It passes calls on, holds one for ever, answers one itself, or is shut: so a test can
//! stop the world at exactly one call.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::docker;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// Held for ever; the engine never hears of it.
    HoldBefore,
    /// Held for ever, after the engine has answered it.
    HoldAfter,
    /// Answered by the engine, and that passed on so much later.
    Late(Duration),
    /// Its connection is closed; the engine never hears of it.
    Cut,
    /// Answered with this status and message; the engine never hears of it.
    Refuse(u16, &'static str),
    /// Answered with this JSON; the engine never hears of it.
    Answer(&'static str),
}

/// The gate. Dropping it cuts all connections and shuts it.
#[derive(Debug)]
pub struct Gate {
    socket: PathBuf,
    stopped: UnboundedReceiver<String>,
    doorman: JoinHandle<()>,
}

impl Gate {
    /// Opens a gate in `dir`, also one that was there before. `decide` is asked about each call: its number, from 0, and its
    /// method and path.
    pub fn open(dir: &Path, decide: impl Fn(usize, &str) -> Fate + Send + 'static) -> Self {
        let socket = dir.join("gate.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("the directory is writable");
        let (sender, stopped) = unbounded_channel();
        let doorman = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut number = 0;
            while let Ok((agent, _)) = listener.accept().await {
                let Some((agent, head, line)) = read_head(agent).await else { continue };
                let fate = decide(number, &line);
                number += 1;
                connections.spawn(attend(agent, head, line, fate, sender.clone()));
            }
        });
        Self { socket, stopped, doorman }
    }

    /// Opens a gate that passes everything on.
    pub fn open_to_all(dir: &Path) -> Self {
        Self::open(dir, |_, _| Fate::Pass)
    }

    /// Opens a gate at which calls with `part` in their method or path have this fate, and all others pass.
    pub fn open_but_for(dir: &Path, part: &'static str, fate: Fate) -> Self {
        Self::open(dir, move |_, call| if call.contains(part) { fate } else { Fate::Pass })
    }

    /// The same for the first such call only.
    pub fn open_but_for_once(dir: &Path, part: &'static str, fate: Fate) -> Self {
        let seen = AtomicBool::new(false);
        Self::open(dir, move |_, call| {
            let is_first = call.contains(part) && !seen.swap(true, Ordering::Relaxed);
            if is_first { fate } else { Fate::Pass }
        })
    }

    /// For `--docker-host`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Waits until a call is held, cut or refused, and returns its method and path.
    pub async fn stopped(&mut self) -> String {
        self.stopped.recv().await.expect("the gate is open")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.doorman.abort();
    }
}

/// The head of the one request that a connection of the agent's carries, and its first line.
async fn read_head(mut agent: UnixStream) -> Option<(UnixStream, Vec<u8>, String)> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if agent.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&head).split(" HTTP/").next()?.to_owned();
    Some((agent, head, line))
}

async fn attend(mut agent: UnixStream, head: Vec<u8>, line: String, fate: Fate, stopped: UnboundedSender<String>) {
    let answer = match fate {
        Fate::Refuse(status, message) => Some((status, json!({"message": message}).to_string())),
        Fate::Answer(body) => Some((200, body.to_owned())),
        _ => None,
    };
    if let Some((status, body)) = answer {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        let _ = agent.write_all(answer.as_bytes()).await;
        let _ = stopped.send(line);
        return;
    }
    if fate == Fate::HoldBefore || fate == Fate::Cut {
        let _ = stopped.send(line);
        if fate == Fate::Cut {
            return;
        }
        return std::future::pending().await;
    }
    let socket = docker::host();
    let Ok(mut engine) = UnixStream::connect(socket.trim_start_matches("unix://")).await else { return };
    if engine.write_all(&head).await.is_err() {
        return;
    }
    if fate == Fate::HoldAfter {
        await_answer(&mut agent, &mut engine).await;
        let _ = stopped.send(line);
        return std::future::pending().await;
    }
    if let Fate::Late(by) = fate {
        sleep(by).await;
    }
    let _ = copy_bidirectional(&mut agent, &mut engine).await;
}

/// Passes on what is left of the request until the engine begins to answer.
async fn await_answer(agent: &mut UnixStream, engine: &mut UnixStream) {
    let (mut from_agent, _) = agent.split();
    let (mut from_engine, mut to_engine) = engine.split();
    let request = async {
        let _ = tokio::io::copy(&mut from_agent, &mut to_engine).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = from_engine.read_u8() => {}
        () = request => {}
    }
}
