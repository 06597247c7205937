//! Why no callback of this VM can succeed, whatever is tried: what was given to the VM when it was made, and does not change
//! while it runs. Source: <https://cloud.google.com/compute/docs/access/service-accounts#accesscopesiam>.

use std::time::Duration;

use crate::{
    job::CallbackAuth,
    metadata::{Metadata, MetadataError, Vm},
};

/// The access scope that the Workflows API wants of a callback.
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    #[error("the VM has no service account: it has no token to send to the callback endpoint")]
    NoAccount,
    #[error("the VM's access scopes lack `cloud-platform`: the callback endpoint refuses its token")]
    NoScope { email: String },
}

impl Obstacle {
    /// Looks for one, for `patience` at most; nothing is in the way of a callback that needs no token.
    pub async fn find(
        metadata: &Metadata,
        auth: &CallbackAuth,
        patience: Duration,
    ) -> Result<Option<Self>, MetadataError> {
        if *auth == CallbackAuth::None {
            return Ok(None);
        }
        Ok(match metadata.account(patience).await? {
            None => Some(Self::NoAccount),
            // An identity token is not bounded by scopes.
            Some(account)
                if *auth == CallbackAuth::AccessToken
                    && !account.scopes.iter().any(|scope| scope == CLOUD_PLATFORM) =>
            {
                Some(Self::NoScope { email: account.email })
            }
            Some(_) => None,
        })
    }

    /// What mends it, for whoever made the VM.
    pub fn fix(&self, vm: &Vm) -> String {
        let account = match self {
            Self::NoAccount => "ACCOUNT",
            Self::NoScope { email } => email,
        };
        let flags = format!("--service-account={account} --scopes=cloud-platform");
        let role = match self {
            Self::NoAccount => "; ACCOUNT is a service account with the permission `workflows.callbacks.send`",
            Self::NoScope { .. } => "",
        };
        format!(
            "create the VM with `{flags}`, or stop this one, run `gcloud compute instances set-service-account {} \
             --project={} --zone={} {flags}`, and start it again{role}",
            vm.name, vm.project, vm.zone
        )
    }
}
