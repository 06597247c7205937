//! HTTP by hand, so that nothing is smoothed over: one request a connection, the answer as it came.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use fakecloud::FakeCloud;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// The bytes that come back for a request, until the connection ends.
pub(crate) async fn exchange(addr: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// A request as bytes; `Connection: close` and `Content-Length` are added.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: fake\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n",
        headers.concat(),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

pub(crate) async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    parse(&exchange(addr, &request(method, path, headers, body)).await.expect("an answer"))
}

pub(crate) fn parse(bytes: &[u8]) -> Response {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let header = |line: &str| line.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()));
    Response {
        status: status.expect("a status line"),
        headers: lines.filter_map(header).collect(),
        body: bytes[end + 4..].to_vec(),
    }
}

/// A well-behaved metadata request below `/computeMetadata/v1/`.
pub(crate) async fn get(cloud: &FakeCloud, path: &str) -> Response {
    metadata(cloud, "GET", path, b"").await
}

pub(crate) async fn metadata(cloud: &FakeCloud, method: &str, path: &str, body: &[u8]) -> Response {
    let path = format!("/computeMetadata/v1/{path}");
    send(cloud.metadata_addr(), method, &path, &[("Metadata-Flavor", "Google")], body).await
}

/// A token of the VM's service account.
pub(crate) async fn token(cloud: &FakeCloud) -> String {
    let answer = get(cloud, "instance/service-accounts/default/token").await;
    answer.json()["access_token"].as_str().expect("access_token").to_owned()
}

/// The path of the callback endpoint.
pub(crate) fn callback_path(cloud: &FakeCloud) -> String {
    let url = cloud.callback_url();
    url[url.find("/v1/").expect("a path")..].to_owned()
}

/// A callback as bytes, with a good token.
pub(crate) async fn callback_request(cloud: &FakeCloud, body: &[u8]) -> Vec<u8> {
    let bearer = format!("Bearer {}", token(cloud).await);
    request("POST", &callback_path(cloud), &[("Authorization", &bearer)], body)
}

/// A callback with a good token.
pub(crate) async fn call_back(cloud: &FakeCloud, body: &[u8]) -> Response {
    let request = callback_request(cloud, body).await;
    parse(&exchange(cloud.callback_addr(), &request).await.expect("an answer"))
}

pub(crate) async fn start() -> FakeCloud {
    FakeCloud::start(fakecloud::Config::default()).await.expect("two free ports")
}
