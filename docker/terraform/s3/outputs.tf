output "lake" {
  description = "Where a job's lake goes, for --set lake=…"
  value       = "s3://${aws_s3_bucket.lake.id}/${var.lake_prefix}"
}

output "role_arn" {
  description = "The role that Sluice runs as: AWS_ROLE_ARN."
  value       = aws_iam_role.sluice.arn
}
