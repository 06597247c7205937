# All that jobs need in a project: the workflows, the accounts that they and the VMs run as with a role each, and if wanted
# a bucket with the agent, and a network. `terraform apply`, and then:
#   gcloud workflows run vmjob-run-job --location=REGION --data='{"job": "docker run --rm busybox echo hi", '"$ARGS"'}'
# where ARGS=$(terraform output -raw arguments).

locals {
  files   = var.source_dir != null ? var.source_dir : "${path.module}/../workflows"
  role    = yamldecode(file("${local.files}/role.yaml"))
  vm_role = yamldecode(file("${local.files}/vm-role.yaml"))

  workflows = {
    run-job   = "Runs one job on a VM of its own"
    run-array = "Runs one job as many tasks"
    reap      = "Deletes the VMs of executions that are over"
  }
}

resource "google_project_service" "needed" {
  for_each = toset([
    "cloudscheduler.googleapis.com", "compute.googleapis.com", "iam.googleapis.com", "storage.googleapis.com",
    "workflows.googleapis.com", "workflowexecutions.googleapis.com"
  ])

  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

# The workflows: they make VMs, watch and delete them.
resource "google_service_account" "workflow" {
  project      = var.project
  account_id   = "${var.prefix}-workflow"
  display_name = "vmjob: the workflows"

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_custom_role" "workflow" {
  project     = var.project
  role_id     = "${replace(var.prefix, "-", "_")}Workflow"
  title       = local.role.title
  description = local.role.description
  stage       = local.role.stage
  permissions = local.role.includedPermissions

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "workflow" {
  project = var.project
  role    = google_project_iam_custom_role.workflow.id
  member  = google_service_account.workflow.member
}

# The VMs: they report to the workflow, pull the image, and fetch the agent.
resource "google_service_account" "vm" {
  project      = var.project
  account_id   = "${var.prefix}-vm"
  display_name = "vmjob: the jobs' VMs"

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_custom_role" "vm" {
  project     = var.project
  role_id     = "${replace(var.prefix, "-", "_")}Vm"
  title       = local.vm_role.title
  description = local.vm_role.description
  stage       = local.vm_role.stage
  permissions = local.vm_role.includedPermissions

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "vm_reports" {
  project = var.project
  role    = google_project_iam_custom_role.vm.id
  member  = google_service_account.vm.member
}

resource "google_project_iam_member" "vm" {
  for_each = toset(var.vm_roles)

  project = var.project
  role    = each.value
  member  = google_service_account.vm.member
}

# The workflows may make VMs that run as this account, and as no other.
resource "google_service_account_iam_member" "workflow_uses_vm" {
  service_account_id = google_service_account.vm.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.workflow.member
}

# Buckets that are there already.
resource "google_storage_bucket_iam_member" "agent" {
  count = var.agent_bucket != null ? 1 : 0

  bucket = var.agent_bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.vm.member
}

# The workflows read `job: "gs://…"` there.
resource "google_storage_bucket_iam_member" "jobs" {
  count = var.job_bucket != null ? 1 : 0

  bucket = var.job_bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.workflow.member
}

resource "google_workflows_workflow" "vmjob" {
  for_each = local.workflows

  project             = var.project
  region              = var.region
  name                = "${var.prefix}-${each.key}"
  description         = each.value
  service_account     = google_service_account.workflow.id
  source_contents     = file("${local.files}/${each.key}.yaml")
  deletion_protection = false

  depends_on = [google_project_service.needed]
}

# Starts reap.yaml, which deletes what was left behind.
resource "google_cloud_scheduler_job" "reap" {
  count = var.reap_schedule != null ? 1 : 0

  project          = var.project
  region           = var.region
  name             = "${var.prefix}-reap"
  description      = "Starts the workflow ${google_workflows_workflow.vmjob["reap"].name}"
  schedule         = var.reap_schedule
  attempt_deadline = "60s"

  http_target {
    http_method = "POST"
    uri         = "https://workflowexecutions.googleapis.com/v1/${google_workflows_workflow.vmjob["reap"].id}/executions"
    body        = base64encode("{}")
    headers     = { "Content-Type" = "application/json" }

    # The role has workflows.executions.create.
    oauth_token {
      service_account_email = google_service_account.workflow.email
    }
  }

  depends_on = [google_project_service.needed]
}
