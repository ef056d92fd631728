"""Creates a bucket. Arguments: the kind of store (s3, gs, az) and the bucket's name."""

import sys

from storage import arrow

kind, name = sys.argv[1:]


def by_boto():
    import boto3

    client = boto3.client("s3")
    client.meta.events.register(
        "before-sign.s3.*", lambda request, **_: request.headers.add_header("x-no-faults", "1")
    )
    client.create_bucket(Bucket=name)


if kind == "az":
    arrow(kind).create_dir(name)
else:
    # Google's is S3 behind a header map.
    by_boto()
