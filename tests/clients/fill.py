"""Copies a folder into a bucket of S3 or Azure, at the same path. Arguments: the bucket's URL, the folder."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from storage import arrow

# Uploads under way together; the store works on one core.
AT_ONCE = 8

url, folder = sys.argv[1:]
kind, bucket = url.split("://")
store = arrow(kind)


def put(path):
    with store.open_output_stream(f"{bucket}{path}") as stream:
        stream.write(path.read_bytes())


with ThreadPoolExecutor(AT_ONCE) as pool:
    list(pool.map(put, (path for path in Path(folder).rglob("*") if path.is_file())))
