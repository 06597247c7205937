//! The handle's side of Cloud Storage: objects put there and looked at, faults, and what it was asked.

use std::io;
use std::sync::Arc;

use crate::cloud::FakeCloud;
use crate::google::storage::Object;
use crate::recorded::{Recorded, Site};
use crate::script::Script;

impl FakeCloud {
    /// Where Cloud Storage is, for the agent's `--storage-endpoint`.
    pub fn storage_endpoint(&self) -> String {
        format!("http://{}", self.storage.addr)
    }

    /// Puts an object into a bucket.
    pub fn put_object(&self, bucket: &str, name: &str, content: impl Into<Vec<u8>>) {
        let object = Object { content: Arc::new(content.into()), ..Object::default() };
        self.shared.change(|state| state.storage.put(bucket, name, object).generation);
    }

    /// An object as it is stored.
    pub fn object(&self, bucket: &str, name: &str) -> Option<Object> {
        self.shared.with(|state| state.storage.get(bucket, name).cloned())
    }

    /// The names of all objects of a bucket, sorted.
    pub fn objects(&self, bucket: &str) -> Vec<String> {
        self.shared.with(|state| state.storage.names(bucket))
    }

    /// From now on there is no such bucket.
    pub fn remove_bucket(&self, bucket: &str) {
        self.shared.change(|state| state.storage.remove_bucket(bucket));
    }

    /// What the VM's service account may do with objects.
    pub fn set_storage_permissions(&self, read: bool, write: bool) {
        self.shared.change(|state| (state.storage.may_read, state.storage.may_write) = (read, write));
    }

    /// How many objects a page of a list has.
    pub fn set_page_size(&self, objects: usize) {
        self.shared.change(|state| state.storage.page_size = objects);
    }

    /// Stores the next upload with a byte changed.
    pub fn damage_next_upload(&self) {
        self.shared.change(|state| state.storage.damage_next = true);
    }

    /// Forgets all uploads that are not done.
    pub fn forget_uploads(&self) {
        self.shared.change(|state| state.storage.forget_uploads());
    }

    /// How many uploads were completed.
    pub fn uploads_stored(&self) -> u64 {
        self.shared.with(|state| state.storage.stored)
    }

    /// Adds steps for requests to Cloud Storage whose `METHOD /path?query`, decoded, contains `text`; scripts added earlier come
    /// first.
    pub fn script_storage(&self, text: &str, script: Script) {
        self.shared.with(|state| state.storage.scripts.push((text.to_owned(), script)));
    }

    /// Every request to Cloud Storage.
    pub fn storage_requests(&self) -> Vec<Recorded> {
        self.shared.with(|state| state.record(Site::Storage).iter().cloned().collect())
    }

    /// Takes Cloud Storage down, or up again on the same port.
    pub async fn storage_down(&self, down: bool) -> io::Result<()> {
        self.storage.set_down(down).await
    }
}
