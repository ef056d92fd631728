"""Creates a bucket. Argument: its name."""

import sys

import boto3

client = boto3.client("s3")
client.meta.events.register(
    "before-sign.s3.*", lambda request, **_: request.headers.add_header("x-no-faults", "1")
)
client.create_bucket(Bucket=sys.argv[1])
