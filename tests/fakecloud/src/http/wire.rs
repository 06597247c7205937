//! The bytes of one connection: request heads and bodies in, whole or broken answers out.

use std::io;
use std::time::{Instant, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Reply, Request};

const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 64;

pub(crate) struct Wire {
    stream: TcpStream,
    /// Read, not used yet.
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next request without its body; `None` when the client has left.
    pub(crate) async fn read_head(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.parse_head()? {
                return Ok(Some(request));
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(invalid("the head is too long"));
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    fn parse_head(&mut self) -> io::Result<Option<Request>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = parsed.parse(&self.buffer).map_err(invalid)? else {
            return Ok(None);
        };
        let header = |header: &httparse::Header<'_>| {
            (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
        };
        let request = Request {
            at: Instant::now(),
            wall: SystemTime::now(),
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers: parsed.headers.iter().map(header).collect(),
            persistent: parsed.version == Some(1),
            body: Vec::new(),
            body_bytes: 0,
        };
        self.buffer.drain(..head_bytes);
        Ok(Some(request))
    }

    /// Reads the body that the head announced, and keeps at most `kept_bytes` of it.
    pub(crate) async fn read_body(&mut self, request: &mut Request, kept_bytes: usize) -> io::Result<()> {
        let chunked = request.header_contains("transfer-encoding", "chunked");
        let length = match request.header("content-length") {
            Some(length) => length.parse().map_err(invalid)?,
            None => 0,
        };
        if (chunked || length > 0) && request.header_contains("expect", "100-continue") {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if !chunked {
            return self.read_piece(request, length, kept_bytes).await;
        }
        loop {
            let length = self.read_chunk_size().await?;
            self.read_piece(request, length, kept_bytes).await?;
            self.read_line_end().await?; // trailers are not for us: no client here sends any
            if length == 0 {
                return Ok(());
            }
        }
    }

    async fn read_piece(&mut self, request: &mut Request, mut length: usize, kept_bytes: usize) -> io::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() && self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let here = length.min(self.buffer.len());
            let kept = here.min(kept_bytes.saturating_sub(request.body.len()));
            request.body.extend_from_slice(&self.buffer[..kept]);
            request.body_bytes += here;
            self.buffer.drain(..here);
            length -= here;
        }
        Ok(())
    }

    async fn read_chunk_size(&mut self) -> io::Result<usize> {
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((used, size))) => {
                    self.buffer.drain(..used);
                    return usize::try_from(size).map_err(invalid);
                }
                Ok(httparse::Status::Partial) => {}
                Err(_) => return Err(invalid("bad chunk size")),
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn read_line_end(&mut self) -> io::Result<()> {
        while self.buffer.len() < 2 {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.buffer.drain(..2);
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }

    /// A whole answer.
    pub(crate) async fn write(&mut self, reply: &Reply, request: &Request) -> io::Result<()> {
        let mut bytes = reply.head(reply.body.len(), request.keeps_alive()).into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(&reply.body);
        }
        self.stream.write_all(&bytes).await
    }

    /// Reads only the beginning of the body.
    pub(crate) async fn read_beginning(&mut self, request: &mut Request, bytes: usize) -> io::Result<()> {
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        self.read_piece(request, bytes.min(length), usize::MAX).await
    }

    /// Only the beginning of an answer's body.
    pub(crate) async fn write_beginning(&mut self, reply: &Reply, bytes: usize) -> io::Result<()> {
        let mut written = reply.head(reply.body.len(), false).into_bytes();
        written.extend_from_slice(&reply.body[..bytes.min(reply.body.len())]);
        self.stream.write_all(&written).await?;
        self.stream.flush().await
    }

    /// An answer that promises more than it brings; the connection is to be closed after it.
    pub(crate) async fn write_truncated(&mut self, reply: &Reply) -> io::Result<()> {
        let mut bytes = reply.head(reply.body.len() + 64, false).into_bytes();
        bytes.extend_from_slice(&reply.body);
        self.stream.write_all(&bytes).await?;
        self.stream.shutdown().await
    }

    /// Something that is not HTTP; the connection is to be closed after it.
    pub(crate) async fn write_garbage(&mut self) -> io::Result<()> {
        self.stream.write_all(b"\x15\x03\x01\x00\x02\x02\x28 not HTTP\r\n\r\n").await?;
        self.stream.shutdown().await
    }

    /// Ends the connection with a TCP reset.
    pub(crate) fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    /// Returns when the client has gone. What it may have sent already stays unread.
    pub(crate) async fn left(&self) {
        if let Ok(1..) = self.stream.peek(&mut [0]).await {
            std::future::pending::<()>().await;
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
