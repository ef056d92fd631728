"""The active files of a Delta table with their size, partition and bounds, one JSON object per line.

Argument: the table, as path or URL.
"""

import json
import os
import sys

import pyarrow
from deltalake import DeltaTable

names = ["AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"]
options = {name: os.environ[name] for name in names if name in os.environ}
table = DeltaTable(sys.argv[1], storage_options=options)
for file in pyarrow.table(table.get_add_actions(flatten=True)).to_pylist():
    print(json.dumps(file, default=str))
sys.stdout.flush()
os._exit(0)
