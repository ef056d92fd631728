"""Sluice beside Polars, DuckDB and a naive pass through libraries on the same files, in one run.

usage: compare.py --sluice BINARY --work FOLDER [--rows 2000000,20000000] [--runs 5]
                  [--cases csv-parquet,csv-delta,json-delta,sales-parquet,sales-delta]
                  [--fsync both|on|off] [--retail FOLDER]

Each case runs everyone in turn, `runs` times. Printed are the versions that take part, medians of
seconds, the largest peak of resident memory, and for Sluice how its work divides into phases, over
all runs, as Markdown. Sluice's seconds are those of the whole process; the others' begin after their
imports. Rows, sums of the columns of numbers and partitions that everyone wrote must be those that
DuckDB finds in the CSV files, or the run ends with 1.
"""

import argparse
import functools
import glob
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

from works import WORKS, query

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RETAIL_TIMES = 50


def main():
    options = parse()
    os.makedirs(options.work, exist_ok=True)
    print(versions(options) + "\n")
    print("| case | rows | fsync | " + " | ".join(WHO) + " | Sluice / best | shares |")
    print("|---|---|---|" + "---|" * (len(WHO) + 2))
    for case in options.cases.split(","):
        work, decode, form = CASES[case]
        sizes = [int(n) for n in options.rows.split(",")] if work == "movements" else [None]
        for size in sizes:
            files, csv = inputs(options, work, decode, size)
            expected = found_in(work, csv)
            for fsync in {"both": [True, False], "on": [True], "off": [False]}[options.fsync]:
                compare(options, case, files, expected, fsync)


def versions(options):
    """Sluice as it names itself, the commit of this repository, and the packages of the others."""
    said = subprocess.check_output([options.sluice, "--version"], text=True).strip()
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True)
    packages = ["polars", "duckdb", "deltalake", "pyarrow"]
    others = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return ", ".join([f"{said} (repository at {commit.strip()})", *others])


def compare(options, case, files, expected, fsync):
    work, decode, form = CASES[case]
    seconds = {who: [] for who in WHO}
    peaks = {who: [] for who in WHO}
    phases = {}
    for run in range(options.runs):
        for who, command in WHO.items():
            output = os.path.join(options.work, "out")
            shutil.rmtree(output, ignore_errors=True)
            os.sync()
            line = command(options, work, files, output, decode, form, fsync)
            if line is None:
                continue
            taken, peak, said = measure(line, fsync)
            for phase, spent in said.items():
                phases[phase] = phases.get(phase, 0) + spent
            seconds[who].append(taken)
            peaks[who].append(peak)
            if run == 0:
                aside("check", who, work, output, form, expected)
    medians = {who: statistics.median(taken) for who, taken in seconds.items() if taken}
    shown = {who: f"{medians[who]:.2f} s, {max(peaks[who]):.0f} MiB" for who in medians}
    cells = [shown.get(who, "–") for who in WHO]
    # What nobody does who does not know that it can be done is told, and not the yardstick.
    best = min(medians[who] for who in ("Polars", "DuckDB", "libraries"))
    ratio = f"{medians['Sluice'] / best:.2f}"
    said = "yes" if fsync else "no"
    whole = sum(phases.values())
    shares = ", ".join(f"{phase} {spent / whole:.0%}" for phase, spent in phases.items())
    rows = json.loads(expected)[0]
    print(f"| {case} | {int(rows):,} | {said} | " + " | ".join(cells) + f" | {ratio} | {shares} |", flush=True)


def sluice(options, work, files, output, decode, form, fsync):
    settings = {"input": files, "lake": output, "decode": decode, "format": form}
    command = [options.sluice, "--json", "run", f"{HERE}/{work}.yaml"]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    return command


def peer(script, forms=None):
    """A script, which does only some `forms`, under other names, if they are given."""

    def command(options, work, files, output, decode, form, fsync):
        how = "fsync" if fsync else "plain"
        form = forms.get(form) if forms else form
        line = [sys.executable, f"{HERE}/{script}", work, files, output, decode, form, how]
        return line if form else None

    return command


WHO = {
    "Sluice": sluice,
    "Polars": peer("polars_work.py"),
    "DuckDB": peer("duckdb_work.py"),
    "libraries": peer("libraries_work.py"),
    "Polars, converted": peer("polars_work.py", {"delta": "converted"}),
}

CASES = {
    "csv-parquet": ("movements", "csv", "parquet"),
    "csv-delta": ("movements", "csv", "delta"),
    "json-delta": ("movements", "json", "delta"),
    "sales-parquet": ("sales", "csv", "parquet"),
    "sales-delta": ("sales", "csv", "delta"),
}


def measure(command, fsync):
    """Seconds, peak MiB and seconds per phase of a command: its own word for the seconds and the
    phases when it gives one."""
    environment = dict(os.environ, SLUICE_FSYNC="on" if fsync else "off")
    started = time.monotonic()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=ROOT
    )
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    taken = time.monotonic() - started
    if status != 0:
        sys.exit(f"failed: {' '.join(command)}\n{said.decode()}")
    said = json.loads(said)
    phases = said["jobs"][0]["phases"] if isinstance(said, dict) else {}
    return taken if phases else said, usage.ru_maxrss / 1024, phases


@functools.cache
def found_in(work, csv):
    """What DuckDB finds in CSV files, as JSON: rows, sums, partitions."""
    return aside("expect", work, csv).strip()


def expect(work, csv):
    print(facts(work, f"({query(WORKS[work], csv, 'csv')})"))


def check(who, work, output, form, expected):
    """A Delta table is read through delta-rs, so that what its log says counts."""
    if form == "delta":
        from deltalake import DeltaTable

        [log] = glob.glob(f"{output}/**/_delta_log", recursive=True)
        found = facts(work, "written", DeltaTable(os.path.dirname(log)).to_pyarrow_dataset())
    else:
        files = glob.glob(f"{output}/**/*.parquet", recursive=True)
        files = [file for file in files if "_sluice" not in file]
        found = facts(work, f"read_parquet({files!r}, hive_partitioning = true)")
    if found != expected:
        sys.exit(f"{who} wrote {found}, not {expected}")


def facts(work, source, written=None):
    import duckdb

    sums = ", ".join(f"sum({column})" for column in WORKS[work]["sums"])
    partitions = f"count(DISTINCT ({', '.join(WORKS[work]['partition_by'])},))"
    [found] = duckdb.sql(f"SELECT count(*), {sums}, {partitions} FROM {source}").fetchall()
    return json.dumps([str(value) for value in found])


def inputs(options, work, decode, size):
    """The files of a case and the CSV files they come from; made once, kept in the work folder."""
    if work == "sales":
        return [retail(options)] * 2
    lake = os.path.join(options.work, f"movements-{size}")
    csv = f"{lake}/raw/*.csv"
    if not glob.glob(csv):
        job = f"{ROOT}/jobs/insurance-movements/1-generate.yaml"
        settings = ["--set", f"lake={lake}", "--set", f"rows={size}"]
        subprocess.run([options.sluice, "run", job, *settings], check=True, stdout=2, cwd=ROOT)
    if decode == "csv":
        return csv, csv
    lines = f"{lake}/raw-json"
    if not os.path.isdir(lines):
        os.makedirs(lines)
        aside("to_json", csv, lines)
    return f"{lines}/*.jsonl", csv


def retail(options):
    folder = os.path.join(options.work, "sales")
    days = sorted(glob.glob(f"{options.retail}/*.csv"))
    if not days:
        sys.exit(f"no retail files in {options.retail}")
    if not os.path.isdir(folder):
        os.makedirs(folder)
        for at, day in enumerate(days):
            with open(day, "rb") as source, open(f"{folder}/{at % 5}.csv", "ab") as target:
                header, body = source.read().split(b"\n", 1)
                if target.tell() == 0:
                    target.write(header + b"\n")
                target.write((body.rstrip(b"\n") + b"\n") * RETAIL_TIMES)
    return f"{folder}/*.csv"


def to_json(files, lines):
    import duckdb

    for path in sorted(glob.glob(files)):
        target = f"{lines}/{os.path.basename(path)}l".replace(".csvl", ".jsonl")
        reader = f"read_csv('{path}', header = true, types = {{'montant': 'DECIMAL(18,2)'}})"
        duckdb.sql(f"COPY (SELECT * FROM {reader}) TO '{target}' (FORMAT json)")


def aside(work, *arguments):
    """Runs a function of this file in a process of its own, and gives what it prints: a child is
    said to have had the memory that its parent had when it began."""
    done = subprocess.run([sys.executable, __file__, work, *arguments], stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(1)
    return done.stdout.decode()


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--rows", default="2000000,20000000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--fsync", default="both")
    parser.add_argument("--retail", default=f"{ROOT}/../shared/data/retail/by-day")
    options = parser.parse_args()
    options.sluice = os.path.abspath(options.sluice)
    options.work = os.path.abspath(options.work)
    return options


if __name__ == "__main__":
    works = {"check": check, "to_json": to_json, "expect": expect}
    if sys.argv[1:2] and sys.argv[1] in works:
        works[sys.argv[1]](*sys.argv[2:])
    else:
        main()
