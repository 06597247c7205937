output "workflow_service_account" {
  description = "Runs the workflows."
  value       = google_service_account.workflow.email
}

output "vm_service_account" {
  description = "For the argument `service_account` of a job."
  value       = google_service_account.vm.email
}

output "workflows" {
  description = "The names of the workflows, by file."
  value       = { for file, workflow in google_workflows_workflow.vmjob : file => workflow.name }
}

locals {
  arguments = merge(
    { service_account = google_service_account.vm.email },
    local.has_agent ? {
      agent = {
        startup_script = "gs://${google_storage_bucket.agent[0].name}/${google_storage_bucket_object.startup_script[0].name}"
        url            = "gs://${google_storage_bucket.agent[0].name}/${google_storage_bucket_object.agent[0].name}"
        sha256         = filesha256(var.agent)
      }
    } : {},
    var.private_network ? { network = { subnetwork = google_compute_subnetwork.vmjob[0].id } } : {},
  )
}

output "arguments" {
  description = "The arguments of run-job that this module knows, as members of a JSON object: --data='{\"job\": …, '\"$ARGS\"'}'."
  value       = trimsuffix(trimprefix(jsonencode(local.arguments), "{"), "}")
}
