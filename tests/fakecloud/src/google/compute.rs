//! The one call of the Compute Engine API that a VM makes on itself: `instances.delete`.
//!
//! In: `DELETE /compute/v1/projects/P/zones/Z/instances/NAME`, on the callback endpoint's port. Out: the operation, as
//! <https://cloud.google.com/compute/docs/reference/rest/v1/instances/delete> has it, or why not.

use serde_json::json;

use crate::config::Config;
use crate::http::{Reply, Request};
use crate::tokens::Tokens;

pub(crate) const PATH: &str = "/compute/v1/";

/// The VM, as the Compute Engine API sees it.
#[derive(Debug)]
pub(crate) struct Instance {
    path: String,
    /// Whether the VM's service account has `compute.instances.delete`.
    pub(crate) permitted: bool,
    pub(crate) deleted: bool,
}

impl Instance {
    pub(crate) fn new(config: &Config) -> Self {
        let Config { project_id, zone, instance_name, .. } = config;
        let path = format!("{PATH}projects/{project_id}/zones/{zone}/instances/{instance_name}");
        Self { path, permitted: true, deleted: false }
    }

    pub(crate) fn answer(&mut self, tokens: &Tokens, request: &Request) -> Reply {
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if bearer.and_then(|token| tokens.scopes_of(token)).is_none() {
            return Reply::api_error(401, "Request had invalid authentication credentials.");
        }
        if request.path() != self.path || self.deleted {
            return Reply::api_error(404, "The resource was not found.");
        }
        if request.method != "DELETE" {
            return Reply::api_error(405, "Only DELETE is served here.");
        }
        if !self.permitted {
            return Reply::api_error(403, "Required 'compute.instances.delete' permission for the instance.");
        }
        self.deleted = true;
        Reply::json(&json!({ "kind": "compute#operation", "operationType": "delete", "status": "RUNNING" }))
    }
}
