# With `private_network`: a network for VMs without an external address. Private Google Access reaches Google's APIs, Cloud NAT
# the rest (public images). There is no firewall rule, so nothing comes in.

resource "google_compute_network" "vmjob" {
  count = var.private_network ? 1 : 0

  project                 = var.project
  name                    = "${var.prefix}-network"
  auto_create_subnetworks = false

  depends_on = [google_project_service.needed]
}

resource "google_compute_subnetwork" "vmjob" {
  count = var.private_network ? 1 : 0

  project                  = var.project
  region                   = var.region
  name                     = "${var.prefix}-subnetwork"
  network                  = google_compute_network.vmjob[0].id
  ip_cidr_range            = var.ip_range
  private_ip_google_access = true
}

resource "google_compute_router" "vmjob" {
  count = var.private_network ? 1 : 0

  project = var.project
  region  = var.region
  name    = "${var.prefix}-router"
  network = google_compute_network.vmjob[0].id
}

resource "google_compute_router_nat" "vmjob" {
  count = var.private_network ? 1 : 0

  project                            = var.project
  region                             = var.region
  name                               = "${var.prefix}-nat"
  router                             = google_compute_router.vmjob[0].name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"
}
