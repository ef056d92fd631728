"""A foreign OPTIMIZE that looked at the table long ago. Argument: the table, as path or URL.

Loads the table and says so; compacts what it saw then when its standard input ends. Says `refused`
and why, or `removed <files>`.
"""

import os
import sys

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from storage import options

table = DeltaTable(sys.argv[1], storage_options=options())
print("loaded", flush=True)
sys.stdin.read()
try:
    print("removed", table.optimize.compact()["numFilesRemoved"])
except CommitFailedError as error:
    print("refused:", error)
