//! Output that is read ahead on a thread which waits for nothing else. A job whose output is attached stands still while nobody reads
//! it: so it would with every moment in which the run waits for the disk or for an answer of the engine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bollard::{container::LogOutput, errors::Error};
use futures_util::{StreamExt, stream};
use tokio::{
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::sleep,
};

use super::{EngineError, output::OutputStream};
use crate::threads::{self, block_on};

/// How much may be waiting for the run. With more the job is held up after all: memory is bounded.
const MOST_BYTES: usize = 2 * 1024 * 1024;
/// What a piece takes beside its bytes.
const PIECE_BYTES: usize = 128;
/// How soon the reader looks again whether there is room.
const PAUSE: Duration = Duration::from_millis(1);

type Piece = Result<LogOutput, Error>;

/// Opens a stream, and goes on reading it until nobody wants what it gives.
pub(super) async fn read_ahead(
    open: impl Future<Output = Result<OutputStream, EngineError>> + Send + 'static,
) -> Result<OutputStream, EngineError> {
    let (opened, answer) = oneshot::channel();
    let (pieces, mut queue) = unbounded_channel();
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let read_bytes = waiting_bytes.clone();
    threads::spawn(move || {
        // Where it cannot begin, the answer says that its reader is gone.
        let _ = block_on(async {
            let mut output = match open.await {
                Ok(output) => output,
                Err(error) => return drop(opened.send(Err(error))),
            };
            let _ = opened.send(Ok(()));
            tokio::select! {
                () = read(&mut output, &pieces, &read_bytes) => {}
                () = pieces.closed() => {}
            }
        });
    });
    answer.await.unwrap_or_else(|_| Err(EngineError::Unreachable("its reader is gone".into())))?;
    Ok(Box::pin(stream::poll_fn(move |context| {
        let piece = queue.poll_recv(context);
        if let Poll::Ready(Some(piece)) = &piece {
            waiting_bytes.fetch_sub(size(piece), Ordering::Relaxed);
        }
        piece
    })))
}

async fn read(output: &mut OutputStream, pieces: &UnboundedSender<Piece>, waiting_bytes: &AtomicUsize) {
    while let Some(piece) = output.next().await {
        while waiting_bytes.load(Ordering::Relaxed) > MOST_BYTES {
            sleep(PAUSE).await;
        }
        waiting_bytes.fetch_add(size(&piece), Ordering::Relaxed);
        let _ = pieces.send(piece);
    }
}

fn size(piece: &Piece) -> usize {
    piece.as_ref().map_or(0, |piece| piece.as_ref().len()) + PIECE_BYTES
}
