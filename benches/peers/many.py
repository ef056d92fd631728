"""Very many small files: taken once, then a run that finds nothing new.

usage: many.py --sluice BINARY --work FOLDER [--files 100000] [--runs 5]

Printed are seconds and peaks of resident memory of whole processes, the bytes of state and
manifests in the lake, and the files of the table before and after `maintain`, as Markdown.
"""

import glob
import os
import shutil
import statistics

import measure
from measure import run, sluice

ROWS = 10

JOB = """job: many
lake: "${vars.lake}"
vars: {lake: ./lake, input: ./input}
sources:
  lines:
    connector: files
    path: "${vars.input}"
    format: csv
    schema: {fields: [{name: id, type: int64}, {name: text, type: string}]}
tables:
  kept: {sql: SELECT * FROM lines, target_file_size: TARGET}
"""

TARGETS = ["1MiB", "128MiB"]


def main():
    options = measure.options(files=100_000, runs=5)
    folder, lake = f"{options.work}/many-{options.files}", f"{options.work}/many-lake"
    shutil.rmtree(lake, ignore_errors=True)
    if not os.path.isdir(folder):
        os.makedirs(folder)
        for at in range(options.files):
            lines = (f"{at * ROWS + row},text {at % 97} of {row}\n" for row in range(ROWS))
            with open(f"{folder}/{at:06d}.csv", "w") as file:
                file.write("id,text\n" + "".join(lines))
    job = f"{options.work}/many.yaml"
    write(job, TARGETS[0])
    settings = {"lake": lake, "input": folder}
    line = sluice(options.sluice, "run", job, settings)
    seconds, peak, _ = run(line)
    print("| work | figure |\n|---|---|")
    print(f"| {options.files:,} CSV files of {ROWS} rows, each taken once | {seconds:.1f} s, {peak:.0f} MiB |")
    print(f"| state, manifests | {size(lake, 'state')}, {size(lake, 'epochs')} |")
    again = [run(line)[:2] for _ in range(options.runs)]
    seconds, peak = statistics.median(a[0] for a in again), max(a[1] for a in again)
    print(f"| the same again, nothing new | {seconds:.2f} s, {peak:.0f} MiB |", flush=True)
    for target in TARGETS:
        write(job, target)
        before = sizes(lake)
        seconds, peak, _ = run(sluice(options.sluice, "maintain", job, settings))
        after = f"{shown(before)} to {shown(sizes(lake))}"
        print(f"| `maintain` to {target} | {seconds:.1f} s, {peak:.0f} MiB: {after} |", flush=True)


def size(lake, what):
    paths = glob.glob(f"{lake}/_sluice/**/{what}/**", recursive=True)
    whole = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
    return f"{what} {whole / 1024:.0f} KiB"


def write(job, target):
    with open(job, "w") as file:
        file.write(JOB.replace("TARGET", target))


def sizes(lake):
    from deltalake import DeltaTable

    return sorted(os.path.getsize(path) for path in DeltaTable(f"{lake}/kept").file_uris())


def shown(found):
    return f"{len(found)} files of {found[0] / 1024:.0f} to {found[-1] / 1024:.0f} KiB"


if __name__ == "__main__":
    main()
