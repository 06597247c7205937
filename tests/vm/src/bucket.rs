//! Cloud Storage, as far as a startup needs it: objects behind `https://storage.googleapis.com/BUCKET/OBJECT`, and
//! behind the JSON API for who has a token. In flow objects and scripted answers, out flows a record of every request.
//! It stands for all of googleapis.com: what is meant for Workflows is passed on to the callback endpoint.
//! Source: <https://cloud.google.com/storage/docs/json_api/v1/objects/get>.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Whose requests are passed on.
pub(crate) const WORKFLOWS: &str = "workflowexecutions.googleapis.com";
const DEADLINE: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A request, and what it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Path with its query, as sent.
    pub path: String,
    pub authorization: Option<String>,
    pub status: u16,
}

/// The bucket `agents`. Dropping it closes it.
#[derive(Debug)]
pub struct Bucket {
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// By their names, percent-encoded as the JSON API wants them.
    objects: BTreeMap<String, Vec<u8>>,
    /// What the next requests are answered instead.
    script: VecDeque<u16>,
    requests: Vec<Fetched>,
}

impl Bucket {
    /// Opens it on port 443, with the certificate in `dir`; `callback` is where Workflows listens.
    pub(crate) async fn open(dir: &Path, callback: SocketAddr) -> io::Result<Self> {
        let chain = vec![CertificateDer::from_pem_file(dir.join("ca.pem")).expect("the certificate was just made")];
        let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).expect("the key was just made");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let tls = TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")));
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443))).await?;
        let state = Arc::<Mutex<State>>::default();
        let server = tokio::spawn(serve(listener, tls, Arc::clone(&state), callback));
        Ok(Self { state, server })
    }

    /// Adds an object; `name` is percent-encoded.
    pub fn put(&self, name: &str, content: impl Into<Vec<u8>>) {
        lock(&self.state).objects.insert(name.to_owned(), content.into());
    }

    /// The next requests get these statuses.
    pub fn script(&self, statuses: impl IntoIterator<Item = u16>) {
        lock(&self.state).script.extend(statuses);
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Fetched> {
        lock(&self.state).requests.clone()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>, callback: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        // A client that goes away in the middle is the client's affair.
        tokio::spawn(async move { timeout(DEADLINE, answer(stream, tls, &state, callback)).await });
    }
}

/// One request on one connection.
async fn answer(stream: TcpStream, tls: TlsAcceptor, state: &Mutex<State>, callback: SocketAddr) -> io::Result<()> {
    let mut stream = tls.accept(stream).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    if header(&text, "host").is_some_and(|host| host == WORKFLOWS) {
        let mut endpoint = TcpStream::connect(callback).await?;
        endpoint.write_all(&head).await?;
        return copy_bidirectional(&mut stream, &mut endpoint).await.map(|_| ());
    }
    let (status, body) = lock(state).answer(&text);
    let head = format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// The value of a header.
fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let is_it = |line: &'a str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim())
    };
    head.lines().find_map(is_it)
}

impl State {
    fn answer(&mut self, head: &str) -> (u16, Vec<u8>) {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let authorization = header(head, "authorization").map(str::to_owned);
        let api = path.strip_prefix("/storage/v1/b/agents/o/").and_then(|rest| rest.strip_suffix("?alt=media"));
        let object = api.or_else(|| path.strip_prefix("/agents/")).and_then(|name| self.objects.get(name));
        let is_stranger = api.is_some() && !authorization.as_ref().is_some_and(|value| value.starts_with("Bearer "));
        let (status, body) = match (self.script.pop_front(), object) {
            (Some(status), _) => (status, Vec::new()),
            (None, _) if is_stranger => (401, Vec::new()),
            (None, Some(object)) => (200, object.clone()),
            (None, None) => (404, Vec::new()),
        };
        self.requests.push(Fetched { path, authorization, status });
        (status, body)
    }
}
