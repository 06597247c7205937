# An image of Compute Engine for job VMs: Debian with the agent, Docker, and container images that need not be pulled.
#   packer plugins install github.com/hashicorp/googlecompute     # once; Packer before 1.10 brings it along
#   packer build -var project=PROJECT -var zone=ZONE -var agent=dist/vmjob-agent_0.1.0-1_amd64.deb packaging/image/vmjob.pkr.hcl
# The image's family is vmjob, so that `gcloud compute instances create --image-family=vmjob` takes the newest.

variable "project" {
  type        = string
  description = "Where the image is built and kept."
}

variable "zone" {
  type        = string
  description = "The zone of the machine that builds it."
}

variable "agent" {
  type        = string
  description = "The package vmjob-agent_*.deb, or the binary, for the machine type's architecture."
}

variable "images" {
  type        = string
  default     = ""
  description = "A file with the container images to preload, one a line, or the path of a tar that docker load reads; default: images.txt here."
}

variable "tars" {
  type        = list(string)
  default     = []
  description = "The tars that the list names, if it does."
}

variable "machine_type" {
  type        = string
  default     = "e2-standard-2"
  description = "For arm64 take one such as t2a-standard-2, with source_image_family debian-12-arm64."
}

variable "source_image_family" {
  type    = string
  default = "debian-12"
}

variable "disk_gb" {
  type        = number
  default     = 10
  description = "The smallest disk of the VMs made of the image."
}

variable "service_account" {
  type        = string
  default     = ""
  description = "Reads the registry of the preloaded images (roles/artifactregistry.reader); default: the project's own."
}

locals {
  images = var.images != "" ? var.images : "${path.root}/images.txt"
}

source "googlecompute" "vmjob" {
  project_id              = var.project
  zone                    = var.zone
  source_image_family     = var.source_image_family
  source_image_project_id = ["debian-cloud"]
  machine_type            = var.machine_type
  disk_size               = var.disk_gb
  disk_type               = "pd-balanced"
  service_account_email   = var.service_account
  scopes                  = ["https://www.googleapis.com/auth/cloud-platform"]
  ssh_username            = "packer"
  image_name              = "vmjob-{{timestamp}}"
  image_family            = "vmjob"
  image_description       = "Debian with vmjob-agent: runs the job in its metadata and reports how it ended"
  image_labels            = { vmjob = "image" }
  state_timeout           = "15m"
}

build {
  sources = ["source.googlecompute.vmjob"]

  provisioner "shell" {
    inline = ["mkdir /tmp/vmjob"]
  }

  provisioner "file" {
    sources     = concat([var.agent, local.images, "${path.root}/provision.sh"], var.tars)
    destination = "/tmp/vmjob/"
  }

  # The names on the machine are those of the files given.
  provisioner "shell" {
    inline = [
      "set -e",
      "cd /tmp/vmjob",
      "sudo bash ./provision.sh --docker --images './${basename(local.images)}' './${basename(var.agent)}'",
      "rm -rf /tmp/vmjob",
    ]
    timeout = "1h"
  }
}
