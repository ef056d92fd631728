"""Lists the objects of a folder of a bucket, one name per line. Arguments: the bucket, the folder."""

import sys

import boto3

bucket, folder = sys.argv[1:]
pages = boto3.client("s3").get_paginator("list_objects_v2")
for page in pages.paginate(Bucket=bucket, Prefix=folder + "/", Delimiter="/"):
    for found in page.get("Contents", []):
        print(found["Key"].rsplit("/", 1)[1])
