# A bucket for lakes on Google Cloud Storage, and an account that may do in it what Sluice does and
# nothing else.
#
# Lifecycle rules know prefixes and ages; they do not know what a manifest or a Delta log names. So
# none of them deletes or moves anything in a lake: not tables, and not `_sluice/`, without which a
# job does not know what it has. Sluice deletes there itself what nothing needs any more.

terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }
}

resource "google_storage_bucket" "lake" {
  name                        = var.bucket
  project                     = var.project
  location                    = var.location
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false
  labels                      = var.labels

  # Sluice replaces and deletes small objects all the time, and never reads an older version of one.
  versioning {
    enabled = var.versioned
  }

  # What was deleted is paid for this long all the same.
  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  # No object: parts of uploads whose writer died.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = 7
    }
  }

  # What people put down for a while, outside of lakes.
  dynamic "lifecycle_rule" {
    for_each = var.temporary_prefixes

    content {
      action {
        type = "Delete"
      }

      condition {
        age            = var.temporary_days
        matches_prefix = [lifecycle_rule.value]
        with_state     = "ANY"
      }
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}
