//! What the pretended VM, its project and its workflow look like.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// The OAuth scope that a callback needs.
pub(crate) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The world before the first request. Every field has a default that looks like a real VM.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the metadata server listens; port 0 takes any free one.
    pub metadata_addr: SocketAddr,
    /// Where the callback endpoint listens; port 0 takes any free one.
    pub callback_addr: SocketAddr,
    /// Where Cloud Storage listens; port 0 takes any free one.
    pub storage_addr: SocketAddr,
    /// Name of the instance.
    pub instance_name: String,
    /// Numeric id of the instance; real ones exceed `i64::MAX`.
    pub instance_id: u64,
    /// Id of the project, as in `my-project`.
    pub project_id: String,
    /// Number of the project.
    pub numeric_project_id: u64,
    /// Zone, as in `europe-west1-b`.
    pub zone: String,
    /// Machine type, as in `e2-standard-4`.
    pub machine_type: String,
    /// Whether this is a Spot VM.
    pub preemptible: bool,
    /// Network tags.
    pub tags: Vec<String>,
    /// `instance/attributes/`. Values are bytes, as on Google's side. `callback-url` is added by the start, the way the
    /// workflow puts it there, unless it is already given.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// `project/attributes/`.
    pub project_attributes: BTreeMap<String, Vec<u8>>,
    /// `None`: a VM without a service account.
    pub service_account: Option<ServiceAccount>,
    /// The method that the workflow made its callback endpoint for (`http_callback_method`).
    pub callback_method: String,
    /// Longest body that the callback endpoint takes, in bytes; longer ones are answered 413.
    pub callback_max_bytes: usize,
    /// `Retry-After`, in seconds, of the 429 that a full queue answers.
    pub callback_retry_after_s: Option<u32>,
    /// Name of the workflow.
    pub workflow: String,
}

/// The service account of the VM.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    /// E-mail address: also a name in the metadata tree.
    pub email: String,
    /// OAuth scopes that the VM was made with.
    pub scopes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            metadata_addr: any_port,
            callback_addr: any_port,
            storage_addr: any_port,
            instance_name: "fake-vm".into(),
            instance_id: 17_446_744_073_709_551_557,
            project_id: "fake-project".into(),
            numeric_project_id: 123_456_789_012,
            zone: "europe-west1-b".into(),
            machine_type: "e2-standard-4".into(),
            preemptible: false,
            tags: vec!["vmjob".into()],
            attributes: BTreeMap::new(),
            project_attributes: BTreeMap::new(),
            service_account: Some(ServiceAccount::default()),
            callback_method: "POST".into(),
            callback_max_bytes: crate::http::MAX_BODY_BYTES,
            callback_retry_after_s: None,
            workflow: "fake-workflow".into(),
        }
    }
}

impl Default for ServiceAccount {
    fn default() -> Self {
        Self { email: "123456789012-compute@developer.gserviceaccount.com".into(), scopes: vec![CLOUD_PLATFORM.into()] }
    }
}

impl Config {
    /// The region that the zone lies in.
    pub(crate) fn region(&self) -> &str {
        self.zone.rsplit_once('-').map_or(&self.zone, |(region, _)| region)
    }
}
