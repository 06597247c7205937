//! Ways for TCP connections into a machine's network and out of it: a socket belongs to the network in which its thread
//! made it, so the two ends are made by threads on either side.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::mpsc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

type Answer = oneshot::Sender<io::Result<StdStream>>;

/// The network that the calling thread is in now, to be reached when it has moved into a machine's.
#[derive(Debug)]
pub struct Outside {
    listener: StdListener,
    dial: mpsc::Sender<(SocketAddr, Answer)>,
}

impl Outside {
    pub fn stay() -> io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let (dial, orders) = mpsc::channel::<(SocketAddr, Answer)>();
        std::thread::spawn(move || {
            for (address, answer) in orders {
                // Who asked may have gone.
                let _ = answer.send(StdStream::connect(address));
            }
        });
        Ok(Self { listener, dial })
    }

    /// Where connections into the machine are taken.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Leads what comes to [`Self::address`] on to `inside`, and what comes to `outwards` in the machine's network to the
    /// same address outside. To be called in the machine's network; runs until it is dropped.
    pub async fn relay(self, inside: SocketAddr, outwards: SocketAddr) -> io::Result<()> {
        let (into, out) = (TcpListener::from_std(self.listener)?, TcpListener::bind(outwards).await?);
        loop {
            tokio::select! {
                taken = into.accept() => {
                    let (near, _) = taken?;
                    tokio::spawn(async move { join(near, TcpStream::connect(inside).await?).await });
                }
                taken = out.accept() => {
                    let (near, _) = taken?;
                    let (answer, connected) = oneshot::channel();
                    let _ = self.dial.send((outwards, answer));
                    tokio::spawn(async move {
                        let far = connected.await.map_err(io::Error::other)??;
                        far.set_nonblocking(true)?;
                        join(near, TcpStream::from_std(far)?).await
                    });
                }
            }
        }
    }
}

async fn join(mut one: TcpStream, mut other: TcpStream) -> io::Result<()> {
    copy_bidirectional(&mut one, &mut other).await.map(drop)
}
