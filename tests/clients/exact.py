"""Holds a Delta table against the topics it was made from, record by record, with nothing of ours in between.

Arguments: the brokers, the table's URL, the URL of the rejected rows or "-", columns to compare (with commas
between them, or "-"), topics. The table has the columns topic, part, off; a value is a JSON object, or
none, which is nulls. Prints as JSON
how many records a reader of committed transactions gets, how many of them are rows and how many rejected, and
the first of those that are lost, doubled, of nowhere, or have other values.
"""

import json
import sys
from collections import Counter

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from kafka import consumed
from storage import options

SHOWN = 10

brokers, table, rejected, columns, *topics = sys.argv[1:]
columns = [] if columns == "-" else columns.split(",")


def rows(url, names):
    try:
        read = DeltaTable(url, storage_options=options())
    except TableNotFoundError:
        return []
    found = read.to_pyarrow_table(columns=names).to_pydict()
    return list(zip(*(found[name] for name in names), strict=True))


def held():
    """Values by place, and how often each place was found."""
    values, times = {}, Counter()
    for topic, part, off, *rest in rows(table, ["topic", "part", "off", *columns]):
        values[topic, part, off] = [None if value is None else str(value) for value in rest]
        times[topic, part, off] += 1
    return values, times


def refused():
    times = Counter()
    for where, position in [] if rejected == "-" else rows(rejected, ["source_file", "position"]):
        topic, _, part = where.rpartition("/")
        times[topic, int(part), position] += 1
    return times


values, kept = held()
refused = refused()
seen, differ = set(), []
for message in consumed(brokers, topics):
    place = message.topic(), message.partition(), message.offset()
    seen.add(place)
    if columns and place in values:
        row = {} if message.value() is None else json.loads(message.value())
        wanted = [None if row.get(name) is None else str(row[name]) for name in columns]
        if wanted != values[place]:
            differ.append([place, wanted, values[place]])
both = kept + refused
lost = sorted(seen - both.keys())
doubled = sorted(place for place, times in both.items() if times > 1)
foreign = sorted(both.keys() - seen)
told = {
    "consumed": len(seen),
    "kept": kept.total(),
    "rejected": refused.total(),
    "lost": len(lost),
    "doubled": len(doubled),
    "foreign": len(foreign),
    "differ": len(differ),
    "shown": {"lost": lost[:SHOWN], "doubled": doubled[:SHOWN], "foreign": foreign[:SHOWN], "differ": differ[:SHOWN]},
}
print(json.dumps(told), flush=True)
