//! A unix socket before the engine's, which notes when each call came and when its answer was complete.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::Result;

/// One call to the engine.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// `POST /containers/create?name=…`
    pub(crate) request: String,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

pub(crate) struct Proxy {
    path: PathBuf,
    calls: Receiver<Call>,
}

impl Proxy {
    pub(crate) fn start(engine: PathBuf) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("vmjob-bench-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let (sender, calls) = channel();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, engine.clone(), sender.clone()));
            }
        });
        Ok(Self { path, calls })
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// The calls that have ended since the last time.
    pub(crate) fn take(&self) -> Vec<Call> {
        self.calls.try_iter().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn pass_on(client: UnixStream, engine: PathBuf, calls: Sender<Call>) {
    let began = Instant::now();
    let mut request = Vec::new();
    let ended = copy(client, &engine, &mut request).await.unwrap_or_else(|_| Instant::now());
    let line = String::from_utf8_lossy(&request);
    let request = line.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let _ = calls.send(Call { request, began, ended });
}

/// Copies both ways until the engine closes; returns when its last byte came.
async fn copy(client: UnixStream, engine: &Path, request: &mut Vec<u8>) -> std::io::Result<Instant> {
    let (mut from_engine, mut to_engine) = UnixStream::connect(engine).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let mut last = Instant::now();
    let (mut up, mut down) = (vec![0; 16384], vec![0; 16384]);
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => match read? {
                0 => return Ok(last),
                length => {
                    if request.len() < 4096 {
                        request.extend_from_slice(&up[..length]);
                    }
                    to_engine.write_all(&up[..length]).await?;
                }
            },
            read = from_engine.read(&mut down) => match read? {
                0 => return Ok(last),
                length => {
                    last = Instant::now();
                    to_client.write_all(&down[..length]).await?;
                }
            },
        }
    }
}
