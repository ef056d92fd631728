"""A Delta table of another writer, version by version, and what is in a table. Arguments: what, where,
and for `rows` columns.

What: create (with a change data feed, partitioned), append, update, delete, merge, optimize, overwrite,
each one commit or none; rows prints the rows of columns, sorted, one JSON list a line.
"""

import json
import os
import sys

import pyarrow
from deltalake import DeltaTable, write_deltalake

from storage import options

what, where = sys.argv[1], sys.argv[2]
reached = options() or None


def people(ids, score):
    return pyarrow.table(
        {
            "id": pyarrow.array(ids, pyarrow.int64()),
            "name": [f"name {i}" if i % 5 else None for i in ids],
            "score": pyarrow.array([i * score for i in ids], pyarrow.int64()),
            "country": [["FR", "CH", "DE"][i % 3] for i in ids],
        }
    )


def table():
    return DeltaTable(where, storage_options=reached)


def create():
    write_deltalake(
        where,
        people(range(0, 100), 1),
        partition_by=["country"],
        configuration={"delta.enableChangeDataFeed": "true"},
        storage_options=reached,
    )


def append():
    # Never an id that was there before.
    first = max(table().to_pyarrow_table(columns=["id"])["id"].to_pylist()) + 1000
    write_deltalake(where, people(range(first, first + 30), 2), mode="append", storage_options=reached)


def update():
    table().update(predicate="id % 7 = 0", updates={"score": "score + 1000"})


def delete():
    table().delete("id % 11 = 3")


def merge():
    news = people([1, 2, 4, 5000, 5001, 5002], -1)
    merged = table().merge(news, predicate="t.id = s.id", source_alias="s", target_alias="t")
    merged.when_matched_update_all().when_not_matched_insert_all().execute()


def optimize():
    table().optimize.compact()


def overwrite():
    write_deltalake(where, people(range(200, 240), 3), mode="overwrite", storage_options=reached)


def rows():
    columns = sys.argv[3:]
    for row in sorted(table().to_pyarrow_table(columns=columns).to_pylist(), key=str):
        print(json.dumps([row[column] for column in columns], default=str))


globals()[what]()
sys.stdout.flush()
os._exit(0)
