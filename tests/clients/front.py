"""What front ends of the packs share: they ask, and compare what is said with tables as another reader has them. A
pack lets a client ask a hundred times a minute, so they ask once a second."""

import json
import math
import os
import sys
import time
from datetime import datetime
from decimal import Decimal

import pyarrow
from deltalake import DeltaTable
from served import READER, call, sql


def post(path, body, token=None, **headers):
    """The status and the JSON of an answer."""
    answer = call(path, token, "POST", json.dumps(body).encode(), Content_Type="application/json", **headers)
    return answer[0], json.loads(answer[2])


def rows(statement, **params):
    """The rows of a query; none where it cannot be asked yet."""
    status, _, body = sql(statement, **params)
    return json.loads(body)["rows"] if status == 200 else None


def found(look, why):
    """The first that is something."""
    for _ in range(90):
        one = look()
        if one:
            return one
        time.sleep(1)
    raise AssertionError(f"waited in vain for {why}")


def table(lake, name):
    """All rows of a table, as another reader has them; none before it is there."""
    path = f"{lake}/{name}"
    if not DeltaTable.is_deltatable(path):
        return []
    return pyarrow.table(DeltaTable(path).to_pyarrow_table()).to_pylist()


def same(told, expected):
    """Whether JSON says what values say: figures up to rounding, decimals and times exactly."""
    if isinstance(expected, dict):
        return isinstance(told, dict) and told.keys() == expected.keys() and all(same(told[key], expected[key]) for key in told)
    if isinstance(expected, list):
        return isinstance(told, list) and len(told) == len(expected) and all(map(same, told, expected))
    if expected is None or told is None:
        return told is expected
    if isinstance(expected, float):
        return math.isclose(told, expected, rel_tol=1e-9)
    if isinstance(expected, Decimal):
        return isinstance(told, str) and Decimal(told) == expected
    if isinstance(expected, datetime):
        return datetime.fromisoformat(told) == expected
    return told == expected


def agrees(path, expected):
    """Waits until the last epoch can be read at a path, and gives the answer's headers."""
    assert expected, path
    for _ in range(60):
        status, headers, body = call(path, READER)
        if status == 200 and same(json.loads(body), expected):
            return headers
        time.sleep(1)
    raise AssertionError(f"{path} says {status}\n{body.decode()}\nand not\n{expected}")


def mean(values):
    return sum(values) / len(values) if values else None


def day(moment):
    return moment.date().isoformat()


def leave():
    """Arrow's threads may outlive a scan (apache/arrow#39862): leave without the interpreter's own way out."""
    sys.stdout.flush()
    os._exit(0)
