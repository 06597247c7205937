output "workflow_service_account" {
  description = "Runs the workflows."
  value       = google_service_account.workflow.email
}

output "vm_service_account" {
  description = "For the argument `service_account` of a job."
  value       = google_service_account.vm.email
}
