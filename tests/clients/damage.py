"""What a foreign hand can do to a Delta table. Arguments: what, and the table's path or URL.

optimize: compacts all files once, and fails when there is nothing to compact. sort: rewrites all
files in another order, a single one too. double: adds the rows of one data file a second time, as a
writer that lost its place would. lose: deletes one active data file. Prints what it touched.
"""

import json
import os
import shutil
import sys

from deltalake import DeltaTable

from storage import options

what, url = sys.argv[1:3]
table = DeltaTable(url, storage_options=options())


def last_add():
    """The newest add action of the log that is still active."""
    active = {os.path.basename(uri) for uri in table.file_uris()}
    for version in range(table.version(), -1, -1):
        with open(f"{url}/_delta_log/{version:020}.json") as log:
            for line in log:
                add = json.loads(line).get("add")
                if add and os.path.basename(add["path"]) in active:
                    return add
    raise SystemExit("the table has no active file")


def double():
    add = last_add()
    folder, name = os.path.split(add["path"])
    copy = os.path.join(folder, "copy-of-" + name)
    shutil.copyfile(os.path.join(url, add["path"]), os.path.join(url, copy))
    add["path"] = copy
    with open(f"{url}/_delta_log/{table.version() + 1:020}.json", "x") as log:
        log.write(json.dumps({"commitInfo": {"operation": "WRITE"}}) + "\n")
        log.write(json.dumps({"add": add}) + "\n")
    print(copy)


def lose():
    path = last_add()["path"]
    os.remove(os.path.join(url, path))
    print(path)


def optimize():
    done = table.optimize.compact()
    if done["numFilesRemoved"] == 0:
        raise SystemExit(f"nothing was compacted: {done}")
    print(done)


def sort():
    print(table.optimize.z_order([table.schema().fields[0].name]))


{"optimize": optimize, "sort": sort, "double": double, "lose": lose}[what]()
