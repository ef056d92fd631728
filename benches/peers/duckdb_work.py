"""One of the works of works.py in DuckDB: files to a partitioned Parquet dataset by COPY, or, as no
package brings its extension for Delta, through Arrow into delta-rs. Same files, columns, codec and
partitions.

usage: duckdb_work.py WORK FILES OUTPUT csv|json parquet|delta fsync|plain
"""

import duckdb
from deltalake import WriterProperties, write_deltalake

from works import arguments, measured, query

name, work, files, output, decode, form, fsync = arguments()
by = work["partition_by"]
rows = query(work, files, decode)


def parquet():
    options = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY ({', '.join(by)})"
    duckdb.sql("SET preserve_insertion_order = false")
    duckdb.sql(f"COPY ({rows}) TO '{output}' ({options})")


def delta():
    properties = WriterProperties(compression="ZSTD", compression_level=1)
    duckdb.sql("SET preserve_insertion_order = false")
    # COPY and a conversion take a little less with 1 M rows, but with 20 M COPY alone takes more.
    write_deltalake(output, duckdb.sql(rows), partition_by=by, writer_properties=properties)


measured(parquet if form == "parquet" else delta, output, fsync)
