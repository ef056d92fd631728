"""Writes tables as others do, for `sluice sql --table`. Arguments: what, and where.

What: delta (two versions, partitioned), unknown (a reader feature nobody has), deleted (a deletion
vector) and mapped (columns under other names in the file), whose logs are written here by hand, for
no client at hand writes them; file, hive, mixed and misfits are Parquet without a log.
"""

import json
import os
import struct
import sys

import polars

from storage import options

what, where = sys.argv[1], sys.argv[2]

ROWS = polars.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "country": ["FR", "CH", "FR", None],
        "Amount": polars.Series([1.5, 2.25, None, 4.0]),
        "day": ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"],
    }
).with_columns(polars.col("day").str.to_date())


def delta():
    partitioned = {"partition_by": ["country"]}
    reached = options() or None
    ROWS.head(2).write_delta(where, storage_options=reached, delta_write_options=partitioned)
    ROWS.tail(2).write_delta(where, mode="append", storage_options=reached)


def unknown():
    ROWS.write_delta(where)
    log = os.path.join(where, "_delta_log", f"{1:020}.json")
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["timeTravelToTheFuture"],
        "writerFeatures": ["timeTravelToTheFuture"],
    }
    with open(log, "w") as file:
        file.write(json.dumps({"protocol": protocol}) + "\n")


def by_hand(protocol, properties, fields, add):
    """A Delta table of one file, `1.parquet`, which is there."""
    schema = json.dumps({"type": "struct", "fields": fields})
    metadata = {
        "id": "00000000-0000-0000-0000-000000000001",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": [],
        "configuration": properties,
    }
    size = os.path.getsize(os.path.join(where, "1.parquet"))
    added = {"path": "1.parquet", "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": True}
    lines = [{"protocol": protocol}, {"metaData": metadata}, {"add": {**added, **add}}]
    os.makedirs(os.path.join(where, "_delta_log"))
    with open(os.path.join(where, "_delta_log", f"{0:020}.json"), "w") as log:
        log.writelines(json.dumps(line) + "\n" for line in lines)


def field(name, data_type, **metadata):
    return {"name": name, "type": data_type, "nullable": True, "metadata": metadata}


def z85(data):
    letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    groups = [int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4)]
    return "".join(letters[n // 85**k % 85] for n in groups for k in (4, 3, 2, 1, 0))


def deleted():
    """The second and the fourth row are deleted by a vector inside of the log: a magic number, one
    64-bit bitmap of one 32-bit one with the key 0, which has one array container."""
    rows = [1, 3]
    container = struct.pack("<HH", 0, len(rows) - 1) + struct.pack("<I", 16)
    container += struct.pack(f"<{len(rows)}H", *rows)
    bitmap = struct.pack("<II", 12346, 1) + container
    vector = struct.pack("<I", 1681511377) + struct.pack("<QI", 1, 0) + bitmap
    os.makedirs(where)
    ROWS.select("id").write_parquet(os.path.join(where, "1.parquet"))
    features = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    deletion = {
        "storageType": "i",
        "pathOrInlineDv": z85(vector),
        "sizeInBytes": len(vector),
        "cardinality": len(rows),
    }
    stats = json.dumps({"numRecords": 4})
    add = {"deletionVector": deletion, "stats": stats}
    by_hand(protocol, {"delta.enableDeletionVectors": "true"}, [field("id", "long")], add)


def mapped():
    os.makedirs(where)
    ROWS.select(polars.col("id").alias("col-1"), polars.col("country").alias("col-2")).write_parquet(
        os.path.join(where, "1.parquet")
    )

    def named(name, data_type, number):
        key = "delta.columnMapping."
        return field(name, data_type, **{key + "id": number, key + "physicalName": f"col-{number}"})

    fields = [named("id", "long", 1), named("land", "string", 2)]
    properties = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"}
    by_hand({"minReaderVersion": 2, "minWriterVersion": 5}, properties, fields, {})


def file():
    import pyarrow.parquet

    table = ROWS.with_columns(polars.col("country").cast(polars.Categorical)).to_arrow()
    pyarrow.parquet.write_table(table, where)


def hive():
    import duckdb

    rows = ROWS.to_arrow()
    months = "SELECT *, strftime(day, '%m') AS month, '2026' AS year FROM rows"
    duckdb.execute(
        f"COPY ({months}) TO '{where}' (FORMAT parquet, PARTITION_BY (year, month, country))"
    )
    # What others leave beside their files.
    os.makedirs(os.path.join(where, "_temporary"))
    for name in ["_SUCCESS", "_temporary/x.parquet", "notes.txt"]:
        open(os.path.join(where, name), "w").write("no parquet")


def mixed():
    """The second file has a column more and one less; the types of the first are other ones."""
    os.makedirs(where)
    first = ROWS.select("id", "country").with_columns(polars.col("country").cast(polars.Categorical))
    first.write_parquet(os.path.join(where, "1.parquet"))
    ROWS.select("id", "Amount").write_parquet(os.path.join(where, "2.parquet"))


def misfits():
    os.makedirs(where)
    ROWS.select("id").write_parquet(os.path.join(where, "1.parquet"))
    ROWS.select(polars.col("day").alias("id")).write_parquet(os.path.join(where, "2.parquet"))


globals()[what]()
