output "lake" {
  description = "Where a job's lake goes, for --set lake=…"
  value       = "gs://${google_storage_bucket.lake.name}/${var.lake_prefix}"
}

output "service_account" {
  description = "The account that Sluice runs as."
  value       = google_service_account.sluice.email
}
