//! The Compute Engine API: the one call that a VM makes on itself.

use std::time::Duration;

use hyper::Method;

use super::{CallError, Client, Limits};
use crate::{
    http::Http,
    metadata::{Metadata, Vm},
};

const LIMITS: Limits = Limits { deadline: Duration::from_secs(30), max_answer_bytes: 64 * 1024 };
/// How long a VM tries to delete itself.
const DELETE_PATIENCE: Duration = Duration::from_mins(1);

/// The API's client.
pub struct Compute(Client);

impl Compute {
    pub fn new(http: &Http, metadata: &Metadata, endpoint: &str, allowed_hosts: &[String]) -> Self {
        Self(Client::new(http, metadata, "the Compute Engine API", endpoint, allowed_hosts))
    }

    /// Deletes the VM. One that somebody else deletes is fine.
    /// Source: <https://cloud.google.com/compute/docs/reference/rest/v1/instances/delete>.
    pub async fn delete(&self, vm: &Vm) -> Result<(), CallError> {
        let Vm { project, zone, name, .. } = vm;
        let path = format!("/projects/{project}/zones/{zone}/instances/{name}");
        let mut patience = self.0.patience(DELETE_PATIENCE);
        loop {
            let error = match self.0.call(Method::DELETE, &path, LIMITS).await {
                Ok(_) | Err(CallError::Answered { status: 404 | 409, .. }) => return Ok(()),
                Err(error) => error,
            };
            if !patience.lasts(&error, error.retry()).await {
                return Err(error);
            }
        }
    }
}
