//! What the VM does with itself once the report is out or given up: nothing, power off, or delete itself. A VM whose caller is gone
//! must not go on costing money.

use std::{process::Stdio, time::Duration};

use bytes::Bytes;
use hyper::{Request, Uri, header::AUTHORIZATION};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    google::check_endpoint,
    http::Http,
    job::{CallbackAuth, OnFinish},
    metadata::{Metadata, Vm},
    retry::Delays,
};

const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
const DELETE_TRIES: usize = 5;

/// Where the VM is deleted.
pub struct Compute<'a> {
    pub http: &'a Http,
    pub metadata: &'a Metadata,
    /// The Compute Engine API's base URL, ending in a slash.
    pub endpoint: &'a str,
    pub allowed_hosts: &'a [String],
}

/// Does it. A VM that cannot delete itself is powered off.
///
/// # Errors
/// Why the VM is still there.
pub async fn carry_out(on_finish: OnFinish, vm: &Vm, compute: &Compute<'_>) -> Result<(), String> {
    match on_finish {
        OnFinish::None => Ok(()),
        OnFinish::Poweroff => power_off(),
        OnFinish::Delete => {
            let Err(problem) = delete(vm, compute).await else { return Ok(()) };
            warn!(
                "the VM could not delete itself: {problem}; powering it off instead. Its service account needs \
                 `compute.instances.delete` on itself, as in `roles/compute.instanceAdmin.v1`"
            );
            power_off()
        }
    }
}

/// Source: <https://cloud.google.com/compute/docs/reference/rest/v1/instances/delete>.
async fn delete(vm: &Vm, compute: &Compute<'_>) -> Result<(), String> {
    let Vm { project, zone, name, .. } = vm;
    let url = format!("{}projects/{project}/zones/{zone}/instances/{name}", compute.endpoint);
    let url = check_endpoint("the Compute Engine API's URL", &url, &CallbackAuth::AccessToken, compute.allowed_hosts)?;
    let mut problem = String::new();
    for delay in Delays::new(Duration::from_secs(1), Duration::from_secs(15)).take(DELETE_TRIES) {
        match try_delete(&url, compute).await {
            Ok(()) => {
                info!("the VM is being deleted");
                return Ok(());
            }
            Err((reason, is_final)) => {
                problem = reason;
                if is_final {
                    break;
                }
            }
        }
        sleep(delay).await;
    }
    Err(problem)
}

/// One try; an error says whether it is the last word.
async fn try_delete(url: &Uri, compute: &Compute<'_>) -> Result<(), (String, bool)> {
    let again = |problem: String| (problem, false);
    let token = compute.metadata.access_token().await.map_err(|error| again(error.to_string()))?;
    let bearer = token.bearer().map_err(|error| again(error.to_string()))?;
    let request = Request::delete(url).header(AUTHORIZATION, bearer).body(Bytes::new());
    let request = request.map_err(|error| (error.to_string(), true))?;
    let answer =
        compute.http.send(request, REQUEST_DEADLINE, 64 * 1024).await.map_err(|error| again(error.to_string()))?;
    match answer.status.as_u16() {
        // 404 and 409: somebody else is faster.
        200..300 | 404 | 409 => Ok(()),
        code @ (400 | 403) => Err((format!("the Compute Engine API answered {code}"), true)),
        code => Err(again(format!("the Compute Engine API answered {code}"))),
    }
}

fn power_off() -> Result<(), String> {
    info!("powering the VM off");
    let status =
        std::process::Command::new("systemctl").arg("poweroff").stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => {
            warn!("`systemctl poweroff` did not work ({other:?}); asking the kernel");
            rustix::fs::sync();
            rustix::system::reboot(rustix::system::RebootCommand::PowerOff)
                .map_err(|error| format!("failed to power the VM off: {error}"))
        }
    }
}
