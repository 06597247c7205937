//! Connections: TCP, TLS over TCP, or a unix socket, all as one kind of stream.

use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use hyper::{
    Uri,
    rt::{Read, Write},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{Der, TrustAnchor},
};
use tokio::net::UnixStream;
use tower_service::Service;

use super::{chain, provider::provider};

/// A connection to speak HTTP on.
pub(super) trait Io: Read + Write + Unpin + Send {}
impl<T: Read + Write + Unpin + Send> Io for T {}

/// Connects to where a URL points. Cheap to clone; TLS and the trust store are set up when first needed.
#[derive(Clone, Default)]
pub(super) struct Connector {
    tls: Arc<OnceLock<HttpsConnector<HttpConnector>>>,
}

impl Connector {
    pub(super) async fn connect(&self, uri: Uri) -> Result<Box<dyn Io>, String> {
        if uri.scheme_str() == Some("https") {
            let stream = self.tls().clone().call(uri).await.map_err(|error| chain(&*error))?;
            return Ok(Box::new(stream));
        }
        let stream = HttpConnector::new().call(uri).await.map_err(|error| chain(&error))?;
        Ok(Box::new(stream))
    }

    fn tls(&self) -> &HttpsConnector<HttpConnector> {
        self.tls.get_or_init(|| {
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            HttpsConnectorBuilder::new().with_tls_config(tls_config()).https_only().enable_http1().wrap_connector(tcp)
        })
    }
}

/// Connects to the unix socket at `path`.
pub(super) async fn connect_unix(path: &Path) -> io::Result<Box<dyn Io>> {
    Ok(Box::new(TokioIo::new(UnixStream::connect(path).await?)))
}

/// The authorities of Google's own services: see `build.rs`.
static GOOGLE_ROOTS: &[TrustAnchor] = &include!(concat!(env!("OUT_DIR"), "/google_roots.rs"));

/// Trusts what the machine trusts (`SSL_CERT_FILE`, or `/etc/ssl/certs`), or Google's own authorities where that is empty.
fn tls_config() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(GOOGLE_ROOTS.iter().cloned());
    }
    // The versions are rustls's own choice, TLS 1.2 and 1.3: there are cipher suites of ours for both.
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("there are cipher suites for the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn google_s_authorities_are_there_and_nobody_else_s() {
        let names: Vec<_> = GOOGLE_ROOTS.iter().map(|root| String::from_utf8_lossy(&root.subject)).collect();
        for number in [1, 4] {
            assert!(names.iter().any(|name| name.ends_with(&format!("GTS Root R{number}"))), "{names:?}");
        }
        assert!(names.iter().all(|name| name.contains("Google Trust Services") || name.contains("GlobalSign")));
    }
}
