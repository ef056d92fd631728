"""1,000 changed rows into a keyed Delta table of many, beside MERGE of delta-rs on the same rows.

usage: upsert.py --sluice BINARY --work FOLDER [--rows 20000000] [--runs 3] [--memory 512MiB]

Both find the rows by their key, rewrite the files that hold them and leave the table durable. Each
run begins with a fresh copy of the table. Printed are medians of the seconds of whole processes
(delta-rs: from after its imports) and the largest peaks of resident memory, as Markdown.
"""

import os
import shutil
import sys

import measure
from measure import HERE, linked, median, run, sluice, write_changes

KEYS = 1000
JOB = f"{HERE}/changes.yaml"


def main():
    options = measure.options(rows=20_000_000, runs=3, memory="512MiB")
    lake, folder = filled(options)
    settings = {"lake": lake, "input": f"{folder}/*.csv"}
    changes = f"{folder}/changes.csv"
    # Manifests name files from the store's root: the lake works where it was made, and is put back.
    kept, copy = f"{lake}-kept", f"{lake}-copy"
    if not os.path.isdir(kept):
        shutil.copytree(lake, kept)
    ours, theirs = [], []
    for _ in range(options.runs):
        fresh(kept, lake)
        write_changes(changes, KEYS, options.rows)
        taken, peak, _ = run(sluice(options.sluice, "run", JOB, settings, "--memory", options.memory))
        ours.append((taken, peak))
        run([sys.executable, __file__, "check", f"{lake}/movements", str(options.rows)])
        fresh(kept, copy)
        table = f"{copy}/movements"
        _, peak, said = run([sys.executable, __file__, "merge", table, changes])
        theirs.append((float(said), peak))
        run([sys.executable, __file__, "check", table, str(options.rows)])
    os.remove(changes)
    (our_seconds, our_peak), (their_seconds, their_peak) = median(ours), median(theirs)
    print("| rows | Sluice | delta-rs MERGE | time | memory |")
    print("|---|---|---|---|---|")
    print(
        f"| {options.rows:,} | {our_seconds:.2f} s, {our_peak:.0f} MiB "
        f"| {their_seconds:.2f} s, {their_peak:.0f} MiB "
        f"| {our_seconds / their_seconds:.2f}× | {our_peak / their_peak:.2f}× |"
    )


def filled(options):
    """A lake whose table holds all rows, and the folder of its files; made once."""
    lake = os.path.join(options.work, f"keyed-{options.rows}")
    folder = linked(options.sluice, options.work, options.rows)
    if not os.path.isdir(f"{lake}-kept"):
        run(sluice(options.sluice, "run", JOB, {"lake": lake, "input": f"{folder}/*.csv"}))
    return lake, folder


def fresh(kept, place):
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(kept, place)
    os.sync()


def merge(place, changes):
    import time

    import pyarrow.csv
    from deltalake import DeltaTable

    from works import sync

    started = time.monotonic()
    table = DeltaTable(place)
    rows = pyarrow.csv.read_csv(changes).cast(pyarrow.schema(table.schema().to_arrow()))
    merged = table.merge(rows, "t.id_mouvement = s.id_mouvement", source_alias="s", target_alias="t")
    merged.when_matched_update_all().when_not_matched_insert_all().execute()
    sync(place)
    print(time.monotonic() - started, flush=True)
    os._exit(0)


def check(place, rows):
    # In a process of its own: a child is said to have had what its parent had when it began.
    import duckdb
    from deltalake import DeltaTable

    files = DeltaTable(place).file_uris()
    query = "SELECT count(*), count(DISTINCT id_mouvement), count_if(agence_id = 'AG_999')"
    [found] = duckdb.sql(f"{query} FROM read_parquet({files!r})").fetchall()
    if found != (rows, rows, KEYS):
        sys.exit(f"{place} holds {found}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["merge"]:
        merge(*sys.argv[2:4])
    elif sys.argv[1:2] == ["check"]:
        check(sys.argv[2], int(sys.argv[3]))
    else:
        main()
