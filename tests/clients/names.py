"""Lists the objects of a folder of a lake, size and name of each on a line. Arguments: the lake, the folder."""

import sys

from deltalake.fs import DeltaStorageHandler
from pyarrow import fs

from storage import options

lake, folder = sys.argv[1:]
store = fs.PyFileSystem(DeltaStorageHandler(lake, options()))
for found in store.get_file_info(fs.FileSelector(folder)):
    if found.is_file:
        print(found.size, found.base_name)
