//! The handle: starts the two servers, changes the world under them, and tells what they were asked.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::config::Config;
use crate::listener::Listener;
use crate::recorded::{Event, Recorded, Site};
use crate::script::Script;
use crate::shared::Shared;
use crate::state::State;

/// A pretended cloud. Dropping it stops the servers and closes their connections.
#[derive(Debug)]
pub struct FakeCloud {
    pub(crate) shared: Arc<Shared>,
    metadata: Listener,
    callback: Listener,
    pub(crate) storage: Listener,
}

impl FakeCloud {
    /// Starts the servers on the current tokio runtime. Fails when a port is taken.
    pub async fn start(config: Config) -> io::Result<Self> {
        let (metadata_addr, callback_addr, storage_addr) =
            (config.metadata_addr, config.callback_addr, config.storage_addr);
        let given = config.attributes.contains_key("callback-url");
        let shared = Arc::new(Shared::new(State::new(config)));
        let metadata = Listener::start(metadata_addr, Arc::clone(&shared), Site::Metadata).await?;
        let callback = Listener::start(callback_addr, Arc::clone(&shared), Site::Callback).await?;
        let storage = Listener::start(storage_addr, Arc::clone(&shared), Site::Storage).await?;
        let cloud = Self { shared, metadata, callback, storage };
        if !given {
            cloud.set_attribute("callback-url", cloud.callback_url());
        }
        Ok(cloud)
    }

    /// Where the metadata server listens.
    pub fn metadata_addr(&self) -> SocketAddr {
        self.metadata.addr
    }

    /// Where the callback endpoint listens.
    pub fn callback_addr(&self) -> SocketAddr {
        self.callback.addr
    }

    /// `HOST:PORT`, for `GCE_METADATA_HOST`.
    pub fn metadata_host(&self) -> String {
        self.metadata.addr.to_string()
    }

    /// The URL that the workflow would have put into the attribute `callback-url`.
    pub fn callback_url(&self) -> String {
        format!("http://{}{}", self.callback.addr, self.shared.with(|state| state.endpoint.path.clone()))
    }

    /// Sets `instance/attributes/KEY`; values are any bytes.
    pub fn set_attribute(&self, key: &str, value: impl Into<Vec<u8>>) {
        self.set(&format!("instance/attributes/{key}"), value);
    }

    /// Removes `instance/attributes/KEY`.
    pub fn remove_attribute(&self, key: &str) {
        self.remove(&format!("instance/attributes/{key}"));
    }

    /// Sets any value below `/computeMetadata/v1/`, as in `cloud.set("instance/preempted", "TRUE")`.
    pub fn set(&self, path: &str, value: impl Into<Vec<u8>>) {
        self.shared.change(|state| state.tree.set(path, value.into()));
    }

    /// Removes a value or a directory below `/computeMetadata/v1/`.
    pub fn remove(&self, path: &str) {
        self.shared.change(|state| state.tree.remove(path));
    }

    /// What the VM has written, by `NAMESPACE/KEY`.
    pub fn guest_attributes(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared.with(|state| state.guest_attributes.values.clone())
    }

    /// Adds steps for metadata requests whose path starts with `prefix`, as in `instance/attributes/`; an empty prefix
    /// is every request. Scripts added earlier come first.
    pub fn script_metadata(&self, prefix: &str, script: Script) {
        self.shared.with(|state| state.script_metadata(prefix, script));
    }

    /// Adds steps for requests to the callback endpoint.
    pub fn script_callback(&self, script: Script) {
        self.shared.with(|state| state.script_callback(script));
    }

    /// Drops all steps not taken yet.
    pub fn clear_scripts(&self) {
        self.shared.with(State::clear_scripts);
    }

    /// Every request to the metadata server; held ones are there with [`crate::Answer::Pending`].
    pub fn metadata_requests(&self) -> Vec<Recorded> {
        self.shared.with(|state| state.record(Site::Metadata).iter().cloned().collect())
    }

    /// Every request to the callback endpoint.
    pub fn callback_requests(&self) -> Vec<Recorded> {
        self.api_requests(false)
    }

    /// The callback requests whose payload the workflow got, answered or not.
    pub fn accepted(&self) -> Vec<Recorded> {
        self.shared.with(|state| state.record(Site::Callback).iter().filter(|r| r.accepted).cloned().collect())
    }

    /// The next accepted request that this method has not returned yet, when it has been answered (or, scripted, has not);
    /// `None` when `timeout` ends first.
    pub async fn next_accepted(&self, timeout: Duration) -> Option<Recorded> {
        let mut changes = self.shared.changes();
        let next = async {
            loop {
                if let Some(request) = self.shared.with(State::next_accepted) {
                    return Some(request);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(timeout, next).await.ok().flatten()
    }

    /// Every request to any of the servers, once it is dealt with.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events()
    }

    /// Base URL of the Compute Engine API, for the agent's `--compute-endpoint`.
    pub fn compute_endpoint(&self) -> String {
        format!("http://{}{}", self.callback_addr(), crate::google::compute::PATH)
    }

    /// Whether the VM has deleted itself.
    pub fn is_deleted(&self) -> bool {
        self.shared.with(|state| state.instance.deleted)
    }

    /// Gives or takes the permission `compute.instances.delete`.
    pub fn set_delete_permission(&self, permitted: bool) {
        self.shared.change(|state| state.instance.permitted = permitted);
    }

    /// Base URL of the Secret Manager API, for the agent's `--secretmanager-endpoint`.
    pub fn secretmanager_endpoint(&self) -> String {
        format!("http://{}{}", self.callback_addr(), crate::google::secret_manager::PATH)
    }

    /// Adds a version to the secret `projects/P/secrets/S`.
    pub fn add_secret(&self, name: &str, value: impl Into<Vec<u8>>) {
        self.shared.change(|state| state.secrets.add(name, value.into()));
    }

    /// Disables a version, from 1 on.
    pub fn disable_secret(&self, name: &str, version: usize) {
        self.shared.change(|state| state.secrets.disable(name, version));
    }

    /// Gives or takes the permission `secretmanager.versions.access`.
    pub fn set_secret_permission(&self, permitted: bool) {
        self.shared.change(|state| state.secrets.permitted = permitted);
    }

    /// Adds steps for requests to Secret Manager.
    pub fn script_secrets(&self, script: Script) {
        self.shared.with(|state| state.script_secrets(script));
    }

    /// Every request to Secret Manager.
    pub fn secret_requests(&self) -> Vec<Recorded> {
        self.api_requests(true)
    }

    fn api_requests(&self, of_secrets: bool) -> Vec<Recorded> {
        let is_wanted =
            |request: &&Recorded| request.path.starts_with(crate::google::secret_manager::PATH) == of_secrets;
        self.shared.with(|state| state.record(Site::Callback).iter().filter(is_wanted).cloned().collect())
    }

    /// The workflow awaits the callback: takes the queued payload, or lets the next one through at once.
    pub fn consume_callback(&self) -> Option<Vec<u8>> {
        self.shared.change(|state| state.endpoint.consume())
    }

    /// The execution is over: its callbacks are gone (404).
    pub fn end_execution(&self) {
        self.shared.change(|state| state.endpoint.ended = true);
    }

    /// Grants or takes the permission `workflows.callbacks.send`.
    pub fn set_permission(&self, permitted: bool) {
        self.shared.change(|state| state.endpoint.permitted = permitted);
    }

    /// Sets the longest body that the callback endpoint takes, in bytes.
    pub fn set_callback_max_bytes(&self, bytes: usize) {
        self.shared.change(|state| state.endpoint.max_bytes = bytes);
    }

    /// Refuses every token that is out (401); the metadata server hands out a new one from now on.
    pub fn revoke_tokens(&self) {
        self.shared.change(|state| state.tokens.revoke());
    }

    /// Makes the metadata server hand out a new token from now on; those that are out stay good.
    pub fn rotate_tokens(&self) {
        self.shared.change(|state| state.tokens.rotate());
    }

    /// Lets time pass for the tokens that are out: they expire sooner by that much.
    pub fn age_tokens(&self, by: Duration) {
        self.shared.change(|state| state.tokens.age(by));
    }

    /// Takes the metadata server down (its connections are closed, new ones refused), or up again on the same port.
    pub async fn metadata_down(&self, down: bool) -> io::Result<()> {
        self.metadata.set_down(down).await
    }

    /// Takes the callback endpoint down, or up again on the same port.
    pub async fn callback_down(&self, down: bool) -> io::Result<()> {
        self.callback.set_down(down).await
    }
}
