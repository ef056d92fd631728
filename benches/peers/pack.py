"""All of jobs/insurance-movements beside polars_pack.py, in one run: generated rows to CSV, Parquet,
Delta and five views.

usage: pack.py --sluice BINARY --work FOLDER [--rows 10000000] [--runs 3]

Printed are medians of the seconds of whole processes (Polars: from after its imports) and the
largest peaks of resident memory, as Markdown. Both write without fsync.
"""

import os
import shutil
import sys

import measure
from measure import HERE, ROOT, median, run, sluice


def main():
    options = measure.options(rows=10_000_000, runs=3)
    ours, theirs = [], []
    for _ in range(options.runs):
        lake = os.path.join(options.work, "pack")
        shutil.rmtree(lake, ignore_errors=True)
        os.sync()
        settings = {"lake": lake, "rows": options.rows}
        line = sluice(options.sluice, "run", f"{ROOT}/jobs/insurance-movements", settings)
        ours.append(run(line, fsync=False)[:2])
        shutil.rmtree(lake)
        os.sync()
        line = [sys.executable, f"{HERE}/polars_pack.py", str(options.rows), lake]
        _, peak, said = run(line)
        theirs.append((float(said), peak))
        shutil.rmtree(lake)
    (our_seconds, our_peak), (their_seconds, their_peak) = median(ours), median(theirs)
    print("| rows | Sluice | Polars | time |")
    print("|---|---|---|---|")
    print(
        f"| {options.rows:,} | {our_seconds:.2f} s, {our_peak:.0f} MiB "
        f"| {their_seconds:.2f} s, {their_peak:.0f} MiB | {our_seconds / their_seconds:.2f}× |"
    )


if __name__ == "__main__":
    main()
