"""A foreign compaction that goes on and on. Arguments: tables, as paths or URLs.

Ends when its standard input closes. A table that is not there yet, or a lost race, is no error:
the writer under test has to cope, not this one.
"""

import os
import sys
import threading
import time

from deltalake import DeltaTable

names = ["AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"]
options = {name: os.environ[name] for name in names if name in os.environ}


def work():
    while True:
        for url in sys.argv[1:]:
            try:
                DeltaTable(url, storage_options=options).optimize.compact()
            except Exception as error:
                print(error, file=sys.stderr)
        time.sleep(0.3)


threading.Thread(target=work, daemon=True).start()
sys.stdin.read()
os._exit(0)
