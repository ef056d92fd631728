"""One of the works of works.py as a naive pass through libraries: batches of Arrow's readers to a
partitioned Parquet dataset of Arrow, or to delta-rs. Same files, columns, codec and partitions.

usage: libraries_work.py WORK FILES OUTPUT csv|json parquet|delta fsync|plain
"""

import glob

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset
import pyarrow.json
from deltalake import WriterProperties, write_deltalake

from works import arguments, measured

TYPES = {
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "BIGINT": pa.int64(),
    "TIMESTAMP": pa.timestamp("us"),
    "DECIMAL(18,2)": pa.decimal128(18, 2),
    "DECIMAL(18,3)": pa.decimal128(18, 3),
}
BLOCK = 8 << 20

name, work, files, output, decode, form, fsync = arguments()
types = {column: TYPES[kind] for column, kind in work["columns"].items()}
dated, month = work["month_of"]
by = work["partition_by"]
schema = pa.schema([(work["rename"].get(column, column), kind) for column, kind in types.items()])
whole = schema.append(pa.field(month, pa.date32()))


def opened(file):
    if decode == "csv":
        read = pa.csv.ReadOptions(block_size=BLOCK)
        nulls = {"null_values": [""], "strings_can_be_null": True}
        convert = pa.csv.ConvertOptions(column_types=types, **nulls)
        return pa.csv.open_csv(file, read, convert_options=convert)
    # It reads no dates from JSON: they come as midnights.
    midnights = {c: pa.timestamp("s") for c, kind in types.items() if pa.types.is_date(kind)}
    parse = pa.json.ParseOptions(explicit_schema=pa.schema({**types, **midnights}))
    return pa.json.open_json(file, pa.json.ReadOptions(block_size=BLOCK), parse)


def batches():
    for file in sorted(glob.glob(files)):
        for batch in opened(file):
            batch = batch.rename_columns(schema.names).cast(schema)
            day = batch.column(dated).cast(pa.date32())
            yield batch.append_column(month, pa.compute.floor_temporal(day, unit="month"))


def rows():
    return pa.RecordBatchReader.from_batches(whole, batches())


def parquet():
    zstd = {"compression": "zstd", "compression_level": 1}
    options = pa.dataset.ParquetFileFormat().make_write_options(**zstd)
    keys = pa.dataset.partitioning(pa.schema([whole.field(column) for column in by]), flavor="hive")
    # As many rows to a group as DuckDB writes: without it there is a group for each batch.
    groups = {"min_rows_per_group": 122_880, "max_rows_per_group": 122_880}
    pa.dataset.write_dataset(
        rows(), output, format="parquet", partitioning=keys, file_options=options, **groups
    )


def delta():
    properties = WriterProperties(compression="ZSTD", compression_level=1)
    write_deltalake(output, rows(), partition_by=by, writer_properties=properties)


measured(parquet if form == "parquet" else delta, output, fsync)
