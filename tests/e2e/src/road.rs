//! A road to a registry, on which something happens to the large answers: so a pull can be met in the middle of a layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// What happens to an answer that turns out to be large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bump {
    None,
    /// Nothing more comes, and the connection stays open.
    Stall,
    /// One of its bytes arrives as another.
    Flip,
    /// It goes on with so many bytes a second.
    Slow(u32),
}

/// More than a manifest or a configuration, less than a layer.
const LARGE_BYTES: usize = 256 * 1024;

/// The road. Dropping it cuts all connections.
#[derive(Debug)]
pub struct Road {
    /// `HOST:PORT`, in place of the registry's.
    pub host: String,
    large: Arc<AtomicUsize>,
    doorman: JoinHandle<()>,
}

impl Road {
    /// Opens a road to `registry`. `bump` is asked about each large answer: its number, from 0.
    pub async fn open(registry: &str, bump: impl Fn(usize) -> Bump + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let host = listener.local_addr().expect("it is bound").to_string();
        let (large, bump, registry) = (Arc::new(AtomicUsize::new(0)), Arc::new(bump), registry.to_owned());
        let count = Arc::clone(&large);
        let doorman = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (bump, count, registry) = (Arc::clone(&bump), Arc::clone(&count), registry.clone());
                connections.spawn(async move {
                    let to = TcpStream::connect(registry).await?;
                    carry(client, to, || bump(count.fetch_add(1, Ordering::Relaxed))).await
                });
            }
        });
        Self { host, large, doorman }
    }

    /// How many large answers there were.
    pub fn large(&self) -> usize {
        self.large.load(Ordering::Relaxed)
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.doorman.abort();
    }
}

async fn carry(client: TcpStream, registry: TcpStream, bump: impl Fn() -> Bump) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_registry, mut to_registry) = registry.into_split();
    let requests = async { tokio::io::copy(&mut from_client, &mut to_registry).await.map(drop) };
    let answers = async {
        let (mut passed, mut met) = (0, None);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from_registry.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            passed += length;
            if passed > LARGE_BYTES && met.is_none() {
                met = Some(bump());
                if met == Some(Bump::Flip) {
                    buffer[0] ^= 1;
                }
            }
            match met {
                Some(Bump::Stall) => std::future::pending().await,
                Some(Bump::Slow(bytes_a_second)) => {
                    sleep(Duration::from_secs(1) * u32::try_from(length).unwrap_or(0) / bytes_a_second).await;
                }
                _ => {}
            }
            to_client.write_all(&buffer[..length]).await?;
        }
    };
    // The engine that hangs up ends it, whatever became of the answer.
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    }
}
