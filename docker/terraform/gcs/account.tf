# What Sluice does in a bucket: list, read, create, replace, copy, delete; nothing about the bucket.
# Replacing is deleting and creating in Google's words.

resource "google_project_iam_custom_role" "sluice" {
  project = var.project
  role_id = "sluiceLake"
  title   = "Sluice, in its lake"
  permissions = [
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
    "storage.multipartUploads.abort",
    "storage.multipartUploads.create",
    "storage.multipartUploads.listParts",
  ]
}

# No key is made: a workload's identity becomes this account.
resource "google_service_account" "sluice" {
  project      = var.project
  account_id   = "sluice"
  display_name = "Sluice"
}

resource "google_storage_bucket_iam_member" "sluice" {
  bucket = google_storage_bucket.lake.name
  role   = google_project_iam_custom_role.sluice.id
  member = google_service_account.sluice.member
}

resource "google_service_account_iam_member" "sluice" {
  for_each = toset(var.workloads)

  service_account_id = google_service_account.sluice.name
  role               = "roles/iam.workloadIdentityUser"
  member             = each.value
}
