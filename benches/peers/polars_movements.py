"""The table of movements.yaml written by Polars: CSV files to a partitioned Parquet dataset, or to
a partitioned Delta table. Same files, columns, codec and partitions; without manifests and fsync.

usage: polars_movements.py RAW_FOLDER OUTPUT_FOLDER parquet|delta
prints: seconds, rows, peak resident MiB
"""

import resource
import sys
import time

import polars as pl
from deltalake import WriterProperties

raw, output, what = sys.argv[1:4]
started = time.monotonic()
movements = pl.scan_csv(
    f"{raw}/*.csv",
    try_parse_dates=True,
    schema_overrides={"montant": pl.Decimal(18, 2)},
).with_columns(pl.col("date_op").dt.truncate("1mo").alias("mois"))
by = ["pays", "produit"]
if what == "parquet":
    movements.sink_parquet(
        pl.PartitionBy(output, key=by), compression="zstd", compression_level=1, mkdir=True
    )
    rows = pl.scan_parquet(f"{output}/**/*.parquet").select(pl.len()).collect().item()
else:
    frame = movements.collect()
    rows = frame.height
    properties = WriterProperties(compression="ZSTD", compression_level=1)
    options = {"partition_by": by, "writer_properties": properties}
    frame.write_delta(output, delta_write_options=options)
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{seconds:.1f} {rows} {peak:.0f}")
