"""One of the works of works.py in Polars, streaming: files to a partitioned Parquet dataset, or to a
Delta table by Polars' own sink; or `converted`: to Parquet files that delta-rs makes a Delta table
of, by hand the fastest way. Same files, columns, codec and partitions as Sluice; no manifests.

usage: polars_work.py WORK FILES OUTPUT csv|json parquet|delta|converted fsync|plain
"""

import polars as pl
from deltalake import Field, Schema, WriterProperties, convert_to_deltalake

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


def sink(target):
    rows().sink_parquet(target, compression="zstd", compression_level=1, mkdir=True)


def parquet():
    sink(pl.PartitionBy(output, key=by))


def delta():
    properties = WriterProperties(compression="ZSTD", compression_level=1)
    options = {"partition_by": by, "writer_properties": properties}
    rows().sink_delta(output, delta_write_options=options)


def converted():
    # Plain names of folders: of escaped ones a conversion commits paths that no reader finds again.
    sink(pl.PartitionBy(output, key=by, include_key=False, file_path_provider=place))
    keys = Schema([Field(column, "date" if column == month else "string") for column in by])
    convert_to_deltalake(output, partition_by=keys, partition_strategy="hive")


def place(file):
    [values] = file.partition_keys.rows()
    folders = "/".join(f"{column}={value}" for column, value in zip(by, values))
    return f"{folders}/{file.index_in_partition}.parquet"


ways = {"parquet": parquet, "delta": delta, "converted": converted}
measured(ways[form], output, fsync)
