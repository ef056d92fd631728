"""The insurance lake's two tables written by Polars: CSV files to a partitioned Parquet dataset,
and to a partitioned Delta table. Same files, same columns, same codec and partitions as
jobs/insurance-movements; without its views, expectations, manifests and fsync.

usage: polars_movements.py RAW_FOLDER OUTPUT_FOLDER parquet|delta
prints: seconds, rows, peak resident MiB
"""

import resource
import sys
import time

import polars as pl

raw, output, what = sys.argv[1:4]
started = time.monotonic()
movements = pl.scan_csv(
    f"{raw}/*.csv",
    try_parse_dates=True,
    schema_overrides={"montant": pl.Decimal(18, 2)},
)
by = ["pays", "produit"]
if what == "parquet":
    movements.sink_parquet(
        pl.PartitionBy(output, key=by), compression="zstd", compression_level=1, mkdir=True
    )
    rows = pl.scan_parquet(f"{output}/**/*.parquet").select(pl.len()).collect().item()
else:
    frame = movements.with_columns(pl.col("date_op").dt.truncate("1mo").alias("mois")).collect()
    rows = frame.height
    frame.write_delta(output, delta_write_options={"partition_by": by})
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{seconds:.1f} {rows} {peak:.0f}")
