"""One of the works of works.py in DuckDB: files to a partitioned Parquet dataset by COPY, or, as it
does not write Delta, through Arrow into delta-rs. Same files, columns, codec and partitions.

usage: duckdb_work.py WORK FILES OUTPUT csv|json parquet|delta fsync|plain
"""

import duckdb
from deltalake import WriterProperties, write_deltalake

from works import arguments, measured

name, work, files, output, decode, form, fsync = arguments()
dated, month = work["month_of"]
by = work["partition_by"]
columns = "{" + ", ".join(f"'{c}': '{t}'" for c, t in work["columns"].items()) + "}"
named = ", ".join(f'"{c}" AS {work["rename"].get(c, c)}' for c in work["columns"])
reader = (
    f"read_csv('{files}', header = true, columns = {columns})"
    if decode == "csv"
    else f"read_json('{files}', format = 'newline_delimited', columns = {columns})"
)
query = f"""
    SELECT *, CAST(date_trunc('month', {dated}) AS DATE) AS {month}
    FROM (SELECT {named} FROM {reader})
"""


def parquet():
    options = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY ({', '.join(by)})"
    duckdb.sql("SET preserve_insertion_order = false")
    duckdb.sql(f"COPY ({query}) TO '{output}' ({options})")


def delta():
    properties = WriterProperties(compression="ZSTD", compression_level=1)
    duckdb.sql("SET preserve_insertion_order = false")
    batches = duckdb.sql(query).to_arrow_reader(100_000)
    write_deltalake(output, batches, partition_by=by, writer_properties=properties)


measured(parquet if form == "parquet" else delta, output, fsync)
