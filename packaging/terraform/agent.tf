# With `agent`: a bucket of its own for the agent and the startup script. The VMs may read it and not write: a job that could
# replace the agent would have every later VM. An object's name has the checksum of what is in it, so it never changes.

locals {
  startup_script = "${path.module}/../startup/startup-script.sh"
  has_agent      = var.agent != null
}

resource "google_storage_bucket" "agent" {
  count = local.has_agent ? 1 : 0

  project                     = var.project
  name                        = "${var.project}-${var.prefix}-agent"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  depends_on = [google_project_service.needed]
}

resource "google_storage_bucket_object" "agent" {
  count = local.has_agent ? 1 : 0

  bucket = google_storage_bucket.agent[0].name
  name   = "vmjob-agent-${filesha256(var.agent)}"
  source = var.agent
}

resource "google_storage_bucket_object" "startup_script" {
  count = local.has_agent ? 1 : 0

  bucket = google_storage_bucket.agent[0].name
  name   = "startup-script-${filesha256(local.startup_script)}.sh"
  source = local.startup_script
}

resource "google_storage_bucket_iam_member" "vm_reads_agent" {
  count = local.has_agent ? 1 : 0

  bucket = google_storage_bucket.agent[0].name
  role   = "roles/storage.objectViewer"
  member = google_service_account.vm.member
}
