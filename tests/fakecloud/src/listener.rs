//! A listening port that can be taken down and comes back under the same number.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::connection;
use crate::http::Wire;
use crate::recorded::Site;
use crate::shared::Shared;

/// The handle; dropping it ends the listener and all its connections.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    commands: mpsc::Sender<SetDown>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct SetDown {
    down: bool,
    done: oneshot::Sender<io::Result<()>>,
}

enum Port {
    Open(TcpListener),
    /// Bound but not listening: connections are refused, and nobody else gets the port.
    Closed(TcpSocket),
}

impl Listener {
    pub(crate) async fn start(addr: SocketAddr, shared: Arc<Shared>, site: Site) -> io::Result<Self> {
        let fail = |e: io::Error| io::Error::new(e.kind(), format!("failed to listen on {addr}: {e}"));
        let listener = TcpListener::bind(addr).await.map_err(fail)?;
        let addr = listener.local_addr()?;
        let (commands, received) = mpsc::channel(1);
        let task = tokio::spawn(listen(Port::Open(listener), addr, received, shared, site));
        Ok(Self { addr, commands, task })
    }

    /// Returns when connections are refused (or taken again).
    pub(crate) async fn set_down(&self, down: bool) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        let gone = || io::Error::other("the listener has ended");
        self.commands.send(SetDown { down, done }).await.map_err(|_| gone())?;
        finished.await.map_err(|_| gone())?
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    mut port: Port,
    addr: SocketAddr,
    mut commands: mpsc::Receiver<SetDown>,
    shared: Arc<Shared>,
    site: Site,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok(stream) = accept(&port) => {
                connections.spawn(connection::serve(Wire::new(stream), Arc::clone(&shared), site));
            }
            Some(_) = connections.join_next() => {} // a client that left or misbehaved: not our concern
            command = commands.recv() => {
                let Some(SetDown { down, done }) = command else { return };
                if down {
                    connections.shutdown().await;
                    shared.change(|state| state.record(site).close_pending());
                }
                let (switched, result) = match switch(port, addr, down).await {
                    Ok(switched) => (Some(switched), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let _ = done.send(result); // whoever asked may have gone
                let Some(switched) = switched else { return };
                port = switched;
            }
        }
    }
}

async fn accept(port: &Port) -> io::Result<TcpStream> {
    match port {
        Port::Open(listener) => listener.accept().await.map(|(stream, _)| stream),
        Port::Closed(_) => std::future::pending().await,
    }
}

async fn switch(port: Port, addr: SocketAddr, down: bool) -> io::Result<Port> {
    Ok(match (port, down) {
        (Port::Open(listener), true) => {
            drop(listener);
            Port::Closed(when_free(|| bind(addr)).await?)
        }
        (Port::Closed(socket), false) => {
            drop(socket);
            Port::Open(when_free(|| bind(addr)?.listen(1024)).await?)
        }
        (unchanged, _) => unchanged,
    })
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// A child process that is being started holds our sockets from its fork to its exec: so a port may be taken for a moment.
async fn when_free<T>(take: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..1500 {
        match take() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(Duration::from_millis(20)).await,
            taken => return taken,
        }
    }
    take()
}
