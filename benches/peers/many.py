"""Very many small files: taken once, then a run that finds nothing new, then compaction.

usage: many.py --sluice BINARY --work FOLDER [--files 100000] [--runs 5]

Printed are seconds and peaks of resident memory of whole processes, the bytes of state and
manifests in the lake, and the files of the tables before and after `maintain`, as Markdown. One
table gets all of it in few epochs; the other an epoch for each of 2,000 files of 20,000 rows that
hardly compress, so that there is enough to make files of the target size.
"""

import glob
import os
import random
import shutil
import statistics
import subprocess
import sys

import measure
from measure import run, sluice

ROWS = 10
BIG_FILES = 2_000
BIG_ROWS = 20_000

JOB = """job: many
lake: "${vars.lake}"
vars: {lake: ./lake, input: ./input}
sources:
  lines:
    connector: files
    path: "${vars.input}"
    format: csv
    schema: {fields: [{name: id, type: int64}, {name: text, type: string}]}
EPOCH
tables:
  kept: {sql: SELECT * FROM lines, target_file_size: TARGET}
"""

SIZES = """
import os, sys, deltalake
print(*(os.path.getsize(file) for file in deltalake.DeltaTable(sys.argv[1]).file_uris()))
"""

TARGETS = ["32MiB", "128MiB"]


def main():
    options = measure.options(files=100_000, runs=5)
    lake, job = f"{options.work}/many-lake", f"{options.work}/many.yaml"
    print("| work | figure |\n|---|---|")
    take(options, job, lake)
    compact(options, job, lake)


def take(options, job, lake):
    """Many small files, then the same again."""
    folder = f"{options.work}/many-{options.files}"
    if not os.path.isdir(folder):
        os.makedirs(folder)
        for at in range(options.files):
            lines = (f"{at * ROWS + row},text {at % 97} of {row}\n" for row in range(ROWS))
            with open(f"{folder}/{at:06d}.csv", "w") as file:
                file.write("id,text\n" + "".join(lines))
    shutil.rmtree(lake, ignore_errors=True)
    write(job, TARGETS[0])
    line = sluice(options.sluice, "run", job, {"lake": lake, "input": folder})
    seconds, peak, _ = run(line)
    print(f"| {options.files:,} CSV files of {ROWS} rows, each taken once | {seconds:.1f} s, {peak:.0f} MiB |")
    print(f"| state, manifests | {size(lake, 'state')}, {size(lake, 'epochs')} |")
    again = [run(line)[:2] for _ in range(options.runs)]
    seconds, peak = statistics.median(a[0] for a in again), max(a[1] for a in again)
    print(f"| the same again, nothing new | {seconds:.2f} s, {peak:.0f} MiB |", flush=True)


def compact(options, job, lake):
    """An epoch per file, then files of the target size."""
    folder = f"{options.work}/many-big"
    if not os.path.isdir(folder):
        os.makedirs(folder)
        noise = random.Random(1)
        for at in range(BIG_FILES):
            lines = (f"{at * BIG_ROWS + row},{noise.getrandbits(64):016x}\n" for row in range(BIG_ROWS))
            with open(f"{folder}/{at:06d}.csv", "w") as file:
                file.write("id,text\n" + "".join(lines))
    shutil.rmtree(lake, ignore_errors=True)
    settings = {"lake": lake, "input": folder}
    write(job, "1MiB", "epoch: {files: 10}")
    seconds, peak, _ = run(sluice(options.sluice, "run", job, settings))
    rows = BIG_FILES * BIG_ROWS
    print(f"| {rows:,} rows in {BIG_FILES:,} files, ten per epoch | {seconds:.1f} s, {peak:.0f} MiB: {shown(lake)} |")
    for target in TARGETS:
        write(job, target)
        seconds, peak, _ = run(sluice(options.sluice, "maintain", job, settings))
        print(f"| `maintain` to {target} | {seconds:.1f} s, {peak:.0f} MiB: {shown(lake)} |", flush=True)


def size(lake, what):
    paths = glob.glob(f"{lake}/_sluice/**/{what}/**", recursive=True)
    whole = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
    return f"{what} {whole / 1024:.0f} KiB"


def write(job, target, epoch=""):
    with open(job, "w") as file:
        file.write(JOB.replace("TARGET", target).replace("EPOCH", epoch))


def shown(lake):
    """The sizes of the table's active files."""
    # In a process of its own: children are said to have had the memory of their parent.
    found = subprocess.check_output([sys.executable, "-c", SIZES, f"{lake}/kept"])
    mib = sorted(int(size) / 2**20 for size in found.split())
    return f"{len(mib)} files of {mib[0]:.1f} to {mib[-1]:.1f} MiB, median {statistics.median(mib):.1f}"


if __name__ == "__main__":
    main()
