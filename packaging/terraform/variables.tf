variable "project" {
  description = "Id of the project."
  type        = string
}

variable "region" {
  description = "Where the workflows are; without `zones` the VMs are in its zones b and c."
  type        = string
}

variable "prefix" {
  description = "Of the names of the accounts, the role and the workflows, so that the module can stand twice in a project."
  type        = string
  default     = "vmjob"

  validation {
    # The longest name is that of an account, PREFIX-workflow, which ends at 30 characters.
    condition     = can(regex("^[a-z][a-z0-9-]{2,20}$", var.prefix))
    error_message = "The prefix has 3 to 21 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "agent" {
  description = "Path of the agent's binary, to be put into a bucket that the module makes; null where it is somewhere already."
  type        = string
  default     = null
}

variable "private_network" {
  description = "Makes a network for VMs without external addresses; false: the VMs use the network that a call names."
  type        = bool
  default     = false
}

variable "ip_range" {
  description = "The addresses of the private network: as many VMs as there are can run at a time."
  type        = string
  default     = "10.84.0.0/20"
}

variable "agent_bucket" {
  description = "Existing bucket with the agent, which the VMs may then read; null where `agent` or an image brings it."
  type        = string
  default     = null
}

variable "job_bucket" {
  description = "Bucket with job-specs, which the workflows may then read; null where jobs stand in the arguments."
  type        = string
  default     = null
}

variable "vm_roles" {
  description = "Further roles of the VMs' account in the project. A grant on one bucket, repository or secret is narrower."
  type        = list(string)
  default     = []
}

variable "reap_schedule" {
  description = "When VMs that were left behind are deleted, in Cloud Scheduler's form; null: never."
  type        = string
  default     = "17 * * * *"
}

variable "source_dir" {
  description = "Directory with run-job.yaml, run-array.yaml, reap.yaml and role.yaml; null for packaging/workflows beside the module."
  type        = string
  default     = null
}
