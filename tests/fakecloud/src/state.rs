//! The state of the pretended cloud.

use std::collections::VecDeque;

use crate::callback::Endpoint;
use crate::config::Config;
use crate::google::compute::Instance;
use crate::google::secret_manager;
use crate::google::secret_manager::Secrets;
use crate::google::storage::Storage;
use crate::http::{Request, percent_decode};
use crate::metadata::{GuestAttributes, Tree};
use crate::record::Record;
use crate::recorded::{Answer, Recorded, Site};
use crate::script::{Action, Script, Step};
use crate::tokens::Tokens;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) tree: Tree,
    pub(crate) guest_attributes: GuestAttributes,
    pub(crate) tokens: Tokens,
    pub(crate) endpoint: Endpoint,
    pub(crate) instance: Instance,
    pub(crate) secrets: Secrets,
    pub(crate) storage: Storage,
    storage_record: Record,
    metadata_record: Record,
    callback_record: Record,
    metadata_scripts: Vec<(String, Script)>,
    callback_script: Script,
    secrets_script: Script,
    /// Accepted callbacks that `next_accepted` has not returned yet.
    news: VecDeque<u64>,
}

impl State {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            tree: Tree::new(&config),
            guest_attributes: GuestAttributes::default(),
            tokens: Tokens::default(),
            endpoint: Endpoint::new(&config),
            instance: Instance::new(&config),
            secrets: Secrets::new(config.numeric_project_id),
            storage: Storage::default(),
            storage_record: Record::default(),
            metadata_record: Record::default(),
            callback_record: Record::default(),
            metadata_scripts: Vec::new(),
            callback_script: Script::default(),
            secrets_script: Script::default(),
            news: VecDeque::new(),
            config,
        }
    }

    pub(crate) fn record(&mut self, site: Site) -> &mut Record {
        match site {
            Site::Metadata => &mut self.metadata_record,
            Site::Callback => &mut self.callback_record,
            Site::Storage => &mut self.storage_record,
        }
    }

    /// Notes that the workflow got the payload of this request.
    pub(crate) fn accept(&mut self, id: u64) {
        if let Some(request) = self.callback_record.get_mut(id) {
            request.accepted = true;
            self.news.push_back(id);
        }
    }

    /// The oldest accepted callback that has not been returned yet, once it is answered.
    pub(crate) fn next_accepted(&mut self) -> Option<Recorded> {
        let request = self.callback_record.get_mut(*self.news.front()?).map(|request| request.clone());
        if request.as_ref().is_some_and(|request| request.answer == Answer::Pending) {
            return None;
        }
        self.news.pop_front();
        request
    }

    pub(crate) fn script_metadata(&mut self, prefix: &str, script: Script) {
        self.metadata_scripts.push((below_v1(prefix).to_owned(), script));
    }

    pub(crate) fn script_callback(&mut self, script: Script) {
        self.callback_script = std::mem::take(&mut self.callback_script).then(script);
    }

    pub(crate) fn script_secrets(&mut self, script: Script) {
        self.secrets_script = std::mem::take(&mut self.secrets_script).then(script);
    }

    pub(crate) fn clear_scripts(&mut self) {
        self.metadata_scripts.clear();
        self.callback_script = Script::default();
        self.secrets_script = Script::default();
        self.storage.scripts.clear();
    }

    /// The step for this request; without a script, to behave normally.
    pub(crate) fn next_step(&mut self, site: Site, request: &Request) -> Step {
        let scripted = match site {
            Site::Callback if request.path().starts_with(secret_manager::PATH) => self.secrets_script.next_step(),
            Site::Callback => self.callback_script.next_step(),
            Site::Storage => {
                let line = percent_decode(&format!("{} {}", request.method, request.target));
                let matching =
                    |(text, script): &&mut (String, Script)| !script.is_empty() && line.contains(text.as_str());
                self.storage.scripts.iter_mut().find(matching).and_then(|(_, script)| script.next_step())
            }
            Site::Metadata => {
                let path = request.path();
                let matching = |(prefix, script): &&mut (String, Script)| {
                    !script.is_empty() && below_v1(&path).starts_with(prefix.as_str())
                };
                self.metadata_scripts.iter_mut().find(matching).and_then(|(_, script)| script.next_step())
            }
        };
        scripted.unwrap_or_else(|| Action::Pass.into())
    }
}

/// A path as scripts and `FakeCloud::set` name it: `instance/zone`.
fn below_v1(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    path.strip_prefix("computeMetadata/v1").map_or(path, |rest| rest.trim_start_matches('/'))
}
