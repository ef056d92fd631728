"""A foreign compaction that goes on and on. Arguments: tables, as paths or URLs.

Says `committed <table> removed=<files>` for every compaction that went into a table's log, and
`lost <table>: <why>` for every one that another writer was faster than. A table that is not there
yet is no error either: the writer under test has to cope, not this one. Any other error ends it
with its traceback. It ends well after the round in which its standard input closes.
"""

import os
import sys
import threading

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from storage import options

closed = threading.Event()


def listen():
    sys.stdin.read()
    closed.set()


def compact(url):
    try:
        table = DeltaTable(url, storage_options=options())
    except TableNotFoundError:
        return
    before = table.version()
    try:
        removed = table.optimize.compact()["numFilesRemoved"]
    except CommitFailedError as error:
        print(f"lost {url}: {error}", flush=True)
        return
    if removed > 0 and DeltaTable(url, storage_options=options()).version() > before:
        print(f"committed {url} removed={removed}", flush=True)


threading.Thread(target=listen, daemon=True).start()
while not closed.wait(0.3):
    for url in sys.argv[1:]:
        compact(url)
# As in `totals.py`: whatever threads are left are not waited for.
sys.stdout.flush()
os._exit(0)
