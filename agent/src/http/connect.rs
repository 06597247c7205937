//! Connections: TCP, TLS over TCP, or a unix socket, all as one kind of stream.

use std::{
    io,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use hyper::{
    Uri,
    rt::{Read, Write},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{Der, TrustAnchor, UnixTime},
    time_provider::TimeProvider,
};
use tokio::net::UnixStream;
use tower_service::Service;

use super::{chain::chain, provider::provider};
use crate::clock;

/// A connection to speak HTTP on.
pub(super) trait Io: Read + Write + Unpin + Send {}
impl<T: Read + Write + Unpin + Send> Io for T {}

/// Connects to where a URL points. Cheap to clone; TLS and the trust store are set up when first needed.
#[derive(Clone, Default)]
pub(super) struct Connector {
    tls: Arc<OnceLock<HttpsConnector<HttpConnector>>>,
    time: Arc<TrustedTime>,
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

    /// What time it is, as somebody tells whose clock the job cannot set.
    pub(super) fn set_time(&self, now: Timestamp) {
        self.time.set(now);
    }

    fn tls(&self) -> &HttpsConnector<HttpConnector> {
        self.tls.get_or_init(|| {
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            HttpsConnectorBuilder::new()
                .with_tls_config(tls_config(self.time.clone()))
                .https_only()
                .enable_http1()
                .wrap_connector(tcp)
        })
    }
}

/// Connects to the unix socket at `path`.
pub(super) async fn connect_unix(path: &Path) -> io::Result<Box<dyn Io>> {
    Ok(Box::new(TokioIo::new(UnixStream::connect(path).await?)))
}

/// The time by which certificates are judged: the metadata server's, carried on by the time since boot, as a job may set the VM's
/// clock. Until there is one, the VM's own.
#[derive(Debug, Default)]
struct TrustedTime {
    /// When the machine was booted, in seconds since 1970; 0 where it is not known.
    booted_at_s: AtomicI64,
}

impl TrustedTime {
    fn set(&self, now: Timestamp) {
        if let Some(since_boot_s) = since_boot_s() {
            self.booted_at_s.store(now.as_second().saturating_sub(since_boot_s), Ordering::Relaxed);
        }
    }
}

fn since_boot_s() -> Option<i64> {
    i64::try_from(clock::since_boot().ok()?.as_secs()).ok()
}

impl TimeProvider for TrustedTime {
    fn current_time(&self) -> Option<UnixTime> {
        let known = match self.booted_at_s.load(Ordering::Relaxed) {
            0 => None,
            booted_at_s => since_boot_s().and_then(|since_boot_s| u64::try_from(booted_at_s + since_boot_s).ok()),
        };
        Some(known.map_or_else(UnixTime::now, |now_s| UnixTime::since_unix_epoch(Duration::from_secs(now_s))))
    }
}

/// The authorities of Google's own services: see `build.rs`.
static GOOGLE_ROOTS: &[TrustAnchor] = &include!(concat!(env!("OUT_DIR"), "/google_roots.rs"));

/// Trusts what the machine trusts (`SSL_CERT_FILE`, or `/etc/ssl/certs`), or Google's own authorities where that is empty.
fn tls_config(time: Arc<TrustedTime>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(GOOGLE_ROOTS.iter().cloned());
    }
    // The versions are rustls's own choice, TLS 1.2 and 1.3: there are cipher suites of ours for both.
    ClientConfig::builder_with_details(Arc::new(provider()), time)
        .with_safe_default_protocol_versions()
        .expect("there are cipher suites for the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_judged_by_the_time_that_was_told() {
        let (time, now_s) = (TrustedTime::default(), || UnixTime::now().as_secs());
        let told_s = |time: &TrustedTime| time.current_time().unwrap().as_secs();
        assert!(told_s(&time).abs_diff(now_s()) <= 1);
        for told in [2_000_000_000, 1_000_000_000] {
            time.set(Timestamp::from_second(told).unwrap());
            assert!(told_s(&time).abs_diff(told.unsigned_abs()) <= 1);
        }
        // Before 1970, and beyond what a clock shows: the VM's own.
        for told in [-377_705_023_201, 0] {
            time.set(Timestamp::from_second(told).unwrap());
            let _ = told_s(&time);
        }
    }

    #[test]
    fn google_s_authorities_are_there_and_nobody_else_s() {
        let names: Vec<_> = GOOGLE_ROOTS.iter().map(|root| String::from_utf8_lossy(&root.subject)).collect();
        for number in [1, 4] {
            assert!(names.iter().any(|name| name.ends_with(&format!("GTS Root R{number}"))), "{names:?}");
        }
        assert!(names.iter().all(|name| name.contains("Google Trust Services") || name.contains("GlobalSign")));
    }
}
