"""The 22 queries of TPC-H over Delta tables that Sluice wrote, beside DuckDB over the same files.

usage: tpch.py --sluice BINARY --work FOLDER [--scale 1] [--threads 2] [--memory 4GiB] [--runs 5]
               [--queries 1,2,…,22]

`tpchgen-cli` makes the rows, once; `sluice run` writes the tables (`tpch/`) anew each time. Then
one process each answers, warm: `sluice serve` over HTTP, which answers no statement of `/v1/sql`
from what is kept, and DuckDB in Python over the active files of the tables; the footers of files
are kept by both. Both have the same threads and memory, and both hand out Arrow. Sluice's seconds
are those of its client, request and decoded answer included; DuckDB's are taken in its process.

Query by query each answers once unmeasured, then `runs` times in turn. Printed are medians, and
DuckDB's time by Sluice's, above 1 where Sluice is faster, as Markdown. All answers to a query must
be the same rows in the same order, numbers but for rounding, or the run ends with 1.
"""

import contextlib
import http.client
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

import measure
from measure import HERE, ROOT, run, sluice

PACK = f"{HERE}/tpch"
TABLES = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"]
ARROW = "application/vnd.apache.arrow.stream"

# How long a server may take to begin, and one answer; far more than they do.
START_SECONDS = 60
ANSWER_SECONDS = 3600

# Averages are of type double in one and decimals of six digits in the other, quotients likewise.
ROUNDING = {"rel_tol": 1e-9, "abs_tol": 1e-5}


def main():
    asked = measure.options(
        scale="1", threads=2, memory="4GiB", runs=5, queries=",".join(str(n) for n in range(1, 23))
    )
    folder = os.path.join(asked.work, f"tpch-{asked.scale}")
    rows = made(asked, folder)
    tables = written(asked, folder, rows)
    with contextlib.ExitStack() as ending:
        who = {}
        for name, begin in {"Sluice": Sluice, "DuckDB": DuckDb}.items():
            who[name] = begin(asked, folder, tables)
            ending.callback(who[name].stop)
        versions = ", ".join(system.version for system in who.values())
        given = f"{asked.threads} threads, {asked.memory}"
        print(f"{versions}; scale {asked.scale}, {given}, medians of {asked.runs}\n")
        print("| query | rows | Sluice | DuckDB | DuckDB / Sluice |\n|---|---|---|---|---|")
        numbers = [int(number) for number in asked.queries.split(",")]
        ratios = {f"Q{number}": compared(who, number, asked.runs) for number in numbers}
        summary(ratios)
        peaks = (f"{name} {system.peak():.0f} MiB" for name, system in who.items())
        print("Peaks of resident memory: " + ", ".join(peaks))


def made(asked, folder):
    """A folder with one Parquet file per table; made once, kept in the work folder."""
    rows = f"{folder}/raw"
    if not os.path.isdir(rows):
        places = [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
        generator = shutil.which("tpchgen-cli", path=os.pathsep.join(places))
        if generator is None:
            sys.exit("no tpchgen-cli\nhint: pip install tpchgen-cli==4.0.0")
        shutil.rmtree(f"{rows}-begun", ignore_errors=True)
        run([generator, "parquet", "--quiet", "-s", asked.scale, "-o", f"{rows}-begun"])
        os.rename(f"{rows}-begun", rows)
    return rows


def written(asked, folder, rows):
    """Writes the tables, and gives the active files of each."""
    from deltalake import DeltaTable

    lake = f"{folder}/lake"
    shutil.rmtree(lake, ignore_errors=True)
    line = sluice(asked.sluice, "run", PACK, {"lake": lake, "input": rows}, *limits(asked))
    seconds, peak, _ = run(line)
    tables = {table: DeltaTable(f"{lake}/{table}").file_uris() for table in TABLES}
    files = [file for active in tables.values() for file in active]
    mib = sum(os.path.getsize(file) for file in files) / 2**20
    print(f"{len(tables)} tables written in {seconds:.1f} s, {peak:.0f} MiB: ", end="")
    print(f"{len(files)} files of {mib:.1f} MiB\n")
    return tables


def limits(asked):
    return ["--threads", str(asked.threads), "--memory", asked.memory]


def compared(who, number, runs):
    """Asks both a query, prints its row, and gives the ratio of the medians."""
    with open(f"{PACK}/q{number:02}.sql") as file:
        sql = file.read()
    expected = None
    seconds = {name: [] for name in who}
    for at in range(-1, runs):
        # Nobody is always second, who finds the processors awake and caches full.
        for name in sorted(who, reverse=at % 2 == 0):
            taken, rows = who[name].ask(sql)
            expected = rows if expected is None else expected
            check(number, name, rows, expected)
            if at >= 0:
                seconds[name].append(taken)
    ours, theirs = (statistics.median(seconds[name]) for name in ("Sluice", "DuckDB"))
    print(
        f"| Q{number} | {len(expected):,} | {ours * 1000:.1f} ms | {theirs * 1000:.1f} ms "
        f"| {theirs / ours:.2f}× |",
        flush=True,
    )
    return theirs / ours


def check(number, name, rows, expected):
    if len(rows) != len(expected):
        sys.exit(f"Q{number}: {name} answers {len(rows)} rows, not {len(expected)}")
    for at, (row, other) in enumerate(zip(rows, expected)):
        if len(row) != len(other) or not all(map(is_same, row, other)):
            sys.exit(f"Q{number}: row {at} of {name} is {row}, not {other}")


def is_same(value, other):
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, **ROUNDING)
    return value == other


def plain(table):
    """The rows of an Arrow table as both systems can be said to have them: numbers of any type as
    floats, dates as text."""
    from decimal import Decimal

    def cell(value):
        if isinstance(value, (int, float, Decimal)):
            return float(value)
        return value if value is None else str(value)

    columns = [[cell(value) for value in column.to_pylist()] for column in table.columns]
    return [list(row) for row in zip(*columns)]


def summary(ratios):
    least = min(ratios, key=ratios.get)
    faster = sum(ratio >= 1 for ratio in ratios.values())
    mean = statistics.geometric_mean(ratios.values())
    print(f"\n≥ 1×: {faster} of {len(ratios)}; least {ratios[least]:.2f}× ({least}); ", end="")
    print(f"geometric mean {mean:.2f}×")


class Sluice:
    """`sluice serve`, asked over one connection that stays open."""

    def __init__(self, asked, folder, _tables):
        said = subprocess.check_output([asked.sluice, "--version"], text=True).strip()
        commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT)
        self.version = f"{said} (repository at {commit.decode().strip()})"
        settings = {"lake": f"{folder}/lake", "input": f"{folder}/raw", "memory": asked.memory}
        shutil.rmtree(f"{folder}/state", ignore_errors=True)
        places = ["--http", "127.0.0.1:0", "--state", f"{folder}/state"]
        line = sluice(asked.sluice, "serve", PACK, settings, *limits(asked), *places)
        self.log = f"{folder}/serve.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(line, cwd=ROOT, stdout=log, stderr=log)
        host, port = self.address()
        self.connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)

    def address(self):
        """Where it serves, when it says so."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            with open(self.log) as log:
                said = re.search(r"serving \S+ at http://([\d.]+):(\d+)\n", log.read())
            if said:
                return said[1], int(said[2])
            time.sleep(0.05)
        self.process.kill()
        with open(self.log) as log:
            sys.exit(f"sluice does not serve\n{log.read()}")

    def ask(self, sql):
        import pyarrow.ipc

        started = time.monotonic()
        headers = {"Content-Type": "text/plain", "Accept": ARROW}
        self.connection.request("POST", "/v1/sql", sql.encode(), headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            sys.exit(f"{answer.status} {body.decode()}\n{sql}")
        table = pyarrow.ipc.open_stream(body).read_all()
        return time.monotonic() - started, plain(table)

    def peak(self):
        return peak(self.process)

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.wait()


class DuckDb:
    """DuckDB in a Python process of its own, that answers lines with lines."""

    def __init__(self, asked, folder, tables):
        settings = {
            "threads": asked.threads,
            "memory_limit": asked.memory,
            "temp_directory": f"{folder}/spilled",
        }
        line = [sys.executable, __file__, "duckdb", json.dumps(settings), json.dumps(tables)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True)
        self.version = self.line()

    def ask(self, sql):
        self.process.stdin.write(json.dumps(sql) + "\n")
        self.process.stdin.flush()
        return self.line()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("DuckDB failed")
        return json.loads(line)

    def peak(self):
        return peak(self.process)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def duckdb_process(settings, tables):
    """Views of the tables, then an answer to each line."""
    import warnings

    import duckdb

    # The way that is advised for Arrow spares a copy of the rows, and plans twice, which is more.
    warnings.simplefilter("ignore")
    connection = duckdb.connect(config=json.loads(settings))
    connection.execute("SET parquet_metadata_cache = true")
    for table, files in json.loads(tables).items():
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet({files!r})")
    print(json.dumps(f"DuckDB {duckdb.__version__}"), flush=True)
    for line in sys.stdin:
        sql = json.loads(line)
        started = time.monotonic()
        found = connection.execute(sql).to_arrow_table()
        taken = time.monotonic() - started
        print(json.dumps([taken, plain(found)]), flush=True)


def peak(process):
    """The most resident memory of a process that is still there, in MiB. `wait4` would count what
    its parent had when it began."""
    with open(f"/proc/{process.pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["duckdb"]:
        duckdb_process(*sys.argv[2:4])
    else:
        main()
