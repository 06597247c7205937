"""The role of the workflows' service account: enough for every call in the files, and nothing beyond."""

import yaml

from driver.connectors import RUN
from driver.execution import WORKFLOWS, checked
from test_files import FILES, steps

# By call. Source: the IAM section of each method's page, and for the body of instances.insert
# <https://cloud.google.com/compute/docs/instances/create-start-instance#permissions>.
NEEDED = {
    "googleapis.compute.v1.images.getFromFamily": set(),  # cos-cloud lets anybody; see the README for images of one's own
    "googleapis.compute.v1.instances.insert": {
        "compute.disks.create",
        "compute.images.useReadOnly",
        "compute.instances.create",
        "compute.instances.setLabels",
        "compute.instances.setMetadata",
        "compute.instances.setServiceAccount",
        "compute.subnetworks.use",
        "compute.subnetworks.useExternalIp",
        "compute.zoneOperations.get",
    },
    "googleapis.compute.v1.instances.delete": {"compute.instances.delete", "compute.zoneOperations.get"},
    "googleapis.compute.v1.instances.getGuestAttributes": {"compute.instances.getGuestAttributes"},
    "googleapis.compute.v1.instances.getSerialPortOutput": {"compute.instances.getSerialPortOutput"},
    RUN: {"workflows.executions.create", "workflows.executions.get"},
    "http.get": {"compute.instances.get"},  # the VM's status; for a job in Cloud Storage the bucket says who may read it
    "sys.log": {"logging.logEntries.create"},
}
WITHOUT_PERMISSION = {"events.create_callback_endpoint", "events.await_callback"}


def test_the_role_has_the_permissions_that_the_files_use_and_no_other() -> None:
    calls = set()
    for file in FILES:
        whole = checked(WORKFLOWS / file)
        for _, step in steps(whole):
            for call in (step, step.get("try", {})):
                if call.get("call", "main") not in whole:
                    calls.add(call["call"])
    assert calls == set(NEEDED) | WITHOUT_PERMISSION
    role = yaml.safe_load((WORKFLOWS / "role.yaml").read_text())
    assert set(role["includedPermissions"]) == set().union(*NEEDED.values())
