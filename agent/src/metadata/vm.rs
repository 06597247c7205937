//! Who this VM is: what the report's `vm` says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Metadata, MetadataError};

/// A VM's identity. `id` is a string: it does not fit a signed 64-bit number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    pub name: String,
    pub id: String,
    pub zone: String,
    pub project: String,
    pub machine_type: String,
}

impl Metadata {
    /// Reads the VM's identity; what the server does not know stays empty.
    pub async fn vm(&self, patience: Duration) -> Result<Vm, MetadataError> {
        let text = async |path| {
            let value = self.get(path, patience).await?.unwrap_or_default();
            Ok::<_, MetadataError>(String::from_utf8_lossy(&value).trim().to_owned())
        };
        let (id, name, zone, project, machine_type) = tokio::try_join!(
            text("instance/id"),
            text("instance/name"),
            text("instance/zone"),
            text("project/project-id"),
            text("instance/machine-type"),
        )?;
        Ok(Vm { id, name, project, zone: last_segment(&zone), machine_type: last_segment(&machine_type) })
    }
}

/// Zone and machine type come as paths: `projects/123/zones/europe-west4-a`.
fn last_segment(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}
