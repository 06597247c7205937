//! Cloud Storage, as far as a VM needs it: objects, lists, resumable uploads, compositions. Every bucket is there unless it is taken
//! away, and keeps the real one's rules: generations, preconditions, checksums, 256 KiB steps of an upload that broke off.
//!
//! In: requests of the JSON API. Out: what <https://cloud.google.com/storage/docs/json_api/v1> says.

mod api;
mod object;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};

use crate::script::Script;

pub use object::Object;
use sessions::Session;

/// All buckets.
#[derive(Debug)]
pub(crate) struct Storage {
    /// By bucket and name.
    objects: BTreeMap<(String, String), Object>,
    missing_buckets: BTreeSet<String>,
    sessions: BTreeMap<String, Session>,
    next_generation: u64,
    /// Objects in a page of a list, at most.
    pub(crate) page_size: usize,
    pub(crate) may_read: bool,
    pub(crate) may_write: bool,
    /// Steps for requests whose `METHOD /path?query`, decoded, contains the text.
    pub(crate) scripts: Vec<(String, Script)>,
    /// What is stored of the next upload has a byte changed.
    pub(crate) damage_next: bool,
    /// Uploads that were completed, repeats included.
    pub(crate) stored: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            missing_buckets: BTreeSet::new(),
            sessions: BTreeMap::new(),
            next_generation: 1_700_000_000_000_000,
            page_size: 1000,
            may_read: true,
            may_write: true,
            scripts: Vec::new(),
            damage_next: false,
            stored: 0,
        }
    }
}

impl Storage {
    pub(crate) fn put(&mut self, bucket: &str, name: &str, mut object: Object) -> &Object {
        self.next_generation += 1;
        object.generation = self.next_generation;
        let key = (bucket.to_owned(), name.to_owned());
        self.objects.insert(key.clone(), object);
        &self.objects[&key]
    }

    pub(crate) fn get(&self, bucket: &str, name: &str) -> Option<&Object> {
        self.objects.get(&(bucket.to_owned(), name.to_owned()))
    }

    pub(crate) fn names(&self, bucket: &str) -> Vec<String> {
        self.objects.keys().filter(|(of, _)| of == bucket).map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn remove_bucket(&mut self, bucket: &str) {
        self.missing_buckets.insert(bucket.to_owned());
    }
}
