"""One of the works of works.py in Polars: files to a partitioned Parquet dataset, streaming, or to
a partitioned Delta table. Same files, columns, codec and partitions as Sluice; no manifests.

usage: polars_work.py WORK FILES OUTPUT csv|json parquet|delta fsync|plain
"""

import polars as pl
from deltalake import WriterProperties

from works import arguments, measured

TYPES = {
    "VARCHAR": pl.String,
    "DATE": pl.Date,
    "BIGINT": pl.Int64,
    "TIMESTAMP": pl.Datetime("us"),
    "DECIMAL(18,2)": pl.Decimal(18, 2),
    "DECIMAL(18,3)": pl.Decimal(18, 3),
}

name, work, files, output, decode, form, fsync = arguments()
schema = {column: TYPES[kind] for column, kind in work["columns"].items()}
dated, month = work["month_of"]
by = work["partition_by"]


def rows():
    if decode == "csv":
        frame = pl.scan_csv(files, schema=schema)
    else:
        # It reads no decimals from JSON: they come through a double.
        read = {c: pl.Float64 if kind == pl.Decimal else kind for c, kind in schema.items()}
        frame = pl.scan_ndjson(files, schema=read).cast(schema)
    frame = frame.rename(work["rename"])
    return frame.with_columns(pl.col(dated).cast(pl.Date).dt.truncate("1mo").alias(month))


def parquet():
    target = pl.PartitionBy(output, key=by)
    rows().sink_parquet(target, compression="zstd", compression_level=1, mkdir=True)


def delta():
    properties = WriterProperties(compression="ZSTD", compression_level=1)
    options = {"partition_by": by, "writer_properties": properties}
    rows().collect().write_delta(output, delta_write_options=options)


measured(parquet if form == "parquet" else delta, output, fsync)
