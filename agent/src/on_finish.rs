//! What the VM does with itself once the report is out or given up: nothing, power off, or delete itself. A VM whose caller is gone
//! must not go on costing money.

use std::{io, process::Stdio};

use tracing::{info, warn};

use crate::{google::Compute, job::OnFinish, metadata::Vm};

/// Why the VM is still there.
#[derive(Debug, thiserror::Error)]
#[error("failed to power the VM off: {0}")]
pub struct StillThere(#[from] io::Error);

/// Does it. A VM that cannot delete itself is powered off.
pub async fn carry_out(on_finish: OnFinish, vm: &Vm, compute: &Compute) -> Result<(), StillThere> {
    match on_finish {
        OnFinish::None => Ok(()),
        OnFinish::Poweroff => power_off(),
        OnFinish::Delete => {
            let Err(error) = compute.delete(vm).await else {
                info!("the VM is being deleted");
                return Ok(());
            };
            warn!(
                "the VM could not delete itself: {error}; powering it off instead. Its service account needs \
                 `compute.instances.delete` on itself, as in `roles/compute.instanceAdmin.v1`"
            );
            power_off()
        }
    }
}

fn power_off() -> Result<(), StillThere> {
    info!("powering the VM off");
    let status =
        std::process::Command::new("systemctl").arg("poweroff").stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => {
            warn!("`systemctl poweroff` did not work ({other:?}); asking the kernel");
            rustix::fs::sync();
            Ok(rustix::system::reboot(rustix::system::RebootCommand::PowerOff).map_err(io::Error::from)?)
        }
    }
}
