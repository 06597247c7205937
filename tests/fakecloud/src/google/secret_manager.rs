//! Secret Manager, as far as a VM reads it.
//!
//! In: `GET /secretmanager/v1/projects/P/secrets/S/versions/V:access`, on the callback endpoint's port. Out: the payload with its
//! checksum, as <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access> has it, or why not.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::config::CLOUD_PLATFORM;
use crate::http::{Reply, Request};
use crate::tokens::Tokens;

pub(crate) const PATH: &str = "/secretmanager/v1/";

/// The secrets of all projects, by `projects/P/secrets/S`: the values of their versions from 1 on, `None` where disabled.
#[derive(Debug)]
pub(crate) struct Secrets {
    versions: BTreeMap<String, Vec<Option<Vec<u8>>>>,
    /// Whether the VM's service account has `secretmanager.versions.access`.
    pub(crate) permitted: bool,
    number: u64,
}

impl Secrets {
    pub(crate) fn new(numeric_project_id: u64) -> Self {
        Self { versions: BTreeMap::new(), permitted: true, number: numeric_project_id }
    }

    pub(crate) fn add(&mut self, name: &str, value: Vec<u8>) {
        self.versions.entry(name.to_owned()).or_default().push(Some(value));
    }

    pub(crate) fn disable(&mut self, name: &str, version: usize) {
        if let Some(value) = self.versions.get_mut(name).and_then(|versions| versions.get_mut(version - 1)) {
            *value = None;
        }
    }

    /// A project may be named by its number: as the answers do it.
    fn find(&self, secret: &str) -> Option<&Vec<Option<Vec<u8>>>> {
        let by_number = secret.strip_prefix(&format!("projects/{}", self.number));
        let is_it = |name: &str| name == secret || by_number.is_some_and(|rest| name.ends_with(rest));
        self.versions.iter().find(|(name, _)| is_it(name)).map(|(_, versions)| versions)
    }

    pub(crate) fn answer(&self, tokens: &Tokens, request: &Request) -> Reply {
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let Some(scopes) = bearer.and_then(|token| tokens.scopes_of(token)) else {
            return Reply::api_error(401, "Request had invalid authentication credentials.");
        };
        if !scopes.iter().any(|scope| scope == CLOUD_PLATFORM) {
            return Reply::api_error(403, "Request had insufficient authentication scopes.");
        }
        let path = request.path();
        let name = path.strip_prefix(PATH).and_then(|name| name.strip_suffix(":access"));
        let Some((secret, version)) = name.and_then(|name| name.split_once("/versions/")) else {
            return Reply::api_error(404, "Method not found.");
        };
        if !self.permitted {
            let message = "Permission 'secretmanager.versions.access' denied on resource (or it may not exist).";
            return Reply::api_error(403, message);
        }
        let versions = self.find(secret);
        let number = match (versions, version) {
            (Some(versions), "latest") => versions.len(),
            _ => version.parse().unwrap_or_default(),
        };
        let resource =
            format!("projects/{}/{}/versions/{number}", self.number, secret.splitn(3, '/').nth(2).unwrap_or_default());
        match versions.and_then(|versions| versions.get(number.checked_sub(1)?)) {
            Some(Some(value)) => {
                let payload = json!({"data": STANDARD.encode(value), "dataCrc32c": crc32c(value).to_string()});
                Reply::json(&json!({"name": resource, "payload": payload}))
            }
            Some(None) => Reply::api_error(400, &format!("Secret Version [{resource}] is in DISABLED state.")),
            None => Reply::api_error(404, &format!("Secret [{resource}] not found or has no versions.")),
        }
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    })
}
