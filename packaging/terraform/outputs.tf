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
