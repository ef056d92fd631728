# What Sluice does in a bucket: list, read, create, replace, copy, delete; nothing about the bucket.

data "aws_iam_policy_document" "sluice" {
  # Names in all of the bucket. Limited to prefixes, S3 would answer 403 and not 404 for an object
  # that is not there, and Sluice asks for the manifest after the last one all the time.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake.arn]
  }

  statement {
    sid = "Lakes"
    actions = [
      "s3:GetObject",
      "s3:PutObject",
      "s3:DeleteObject",
      "s3:AbortMultipartUpload",
    ]
    resources = ["${aws_s3_bucket.lake.arn}/${var.lake_prefix}*"]
  }

  dynamic "statement" {
    for_each = length(var.readable_prefixes) > 0 ? [1] : []

    content {
      sid       = "Read"
      actions   = ["s3:GetObject"]
      resources = [for prefix in var.readable_prefixes : "${aws_s3_bucket.lake.arn}/${prefix}*"]
    }
  }
}

resource "aws_iam_policy" "sluice" {
  name   = "${var.bucket}-sluice"
  policy = data.aws_iam_policy_document.sluice.json
  tags   = var.tags
}

# Whoever may become this role: a service account of a cluster, an instance. There is no key that
# could leak.
resource "aws_iam_role" "sluice" {
  name               = "${var.bucket}-sluice"
  assume_role_policy = var.assume_role_policy
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "sluice" {
  role       = aws_iam_role.sluice.name
  policy_arn = aws_iam_policy.sluice.arn
}
