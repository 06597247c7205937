//! Whether the callback endpoint can be reached, and with a token that it takes. Nothing is sent to it: an endpoint takes one
//! request, and that is the report.

use std::time::Duration;

use hyper::Uri;

use super::Finding;
use crate::{
    delivery::Obstacle,
    http::Http,
    job::CallbackAuth,
    metadata::{Metadata, Vm},
};

/// Whether the VM has a token for the callback; a failure is for good.
pub(super) async fn account(metadata: &Metadata, vm: &Vm, auth: &CallbackAuth, patience: Duration) -> Finding {
    let subject = "service account";
    match Obstacle::find(metadata, auth, patience).await {
        Ok(None) if *auth == CallbackAuth::None => Finding::ok(subject, "the callback needs none"),
        Ok(None) => Finding::ok(subject, "it is there, with what a callback needs of the scopes"),
        Ok(Some(obstacle)) => Finding::fail(subject, obstacle.to_string(), obstacle.fix(vm)),
        Err(error) => Finding::warn(subject, error.to_string(), "it is asked again for each token"),
    }
}

/// Whether the endpoint's host is known, answers, and has a certificate that this machine trusts.
pub(super) async fn host(http: &Http, url: &Uri, deadline: Duration) -> Finding {
    let (subject, name) = ("callback host", url.host().unwrap_or_default());
    match http.reach(url, deadline).await {
        Ok(()) if url.scheme_str() == Some("https") => Finding::ok(subject, format!("{name} answers, by TLS")),
        Ok(()) => Finding::ok(subject, format!("{name} answers")),
        Err(error) => Finding::fail(
            subject,
            format!("failed to connect to {name}: {error}"),
            "check the VM's way out: an external address, Cloud NAT or Private Google Access; DNS; firewall rules; its clock",
        ),
    }
}
