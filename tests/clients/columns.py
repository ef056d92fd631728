"""Counts rows, then the values of columns that are not null, as another client reads a Delta table; on one line.

Arguments: the client (deltalake, polars, duckdb), the table's path, columns. DuckDB reads the files that the log
names, by the columns' names.
"""

import os
import sys

client, url, columns = sys.argv[1], sys.argv[2], sys.argv[3:]


def by_deltalake():
    import pyarrow
    from deltalake import DeltaTable

    table = pyarrow.table(DeltaTable(url).to_pyarrow_table())
    return [table.num_rows] + [table.num_rows - table.column(c).null_count for c in columns]


def by_polars():
    import polars

    frame = polars.scan_delta(url)
    wanted = [polars.len().alias("_rows")] + [polars.col(c).count() for c in columns]
    return list(frame.select(wanted).collect().row(0))


def by_duckdb():
    import duckdb
    from deltalake import DeltaTable

    files = DeltaTable(url).file_uris()
    counts = ", ".join(["count(*)"] + [f"count({c})" for c in columns])
    return duckdb.sql(f"SELECT {counts} FROM read_parquet({files!r}, union_by_name = true)").fetchall()[0]


read = {"deltalake": by_deltalake, "polars": by_polars, "duckdb": by_duckdb}[client]
print(*read(), flush=True)
# The libraries' threads are not waited for: one that still ends on a busy machine would abort the exit.
os._exit(0)
