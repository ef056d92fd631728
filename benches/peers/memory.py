"""Peak memory of Sluice over few and many rows, with one limit.

usage: memory.py --sluice BINARY --work FOLDER [--rows 1000000,20000000] [--memory 512MiB]

The works: CSV into a Delta table of 20 partitions, the same into 5,000; an epoch into an empty keyed
table with another key in each row, then an epoch that changes a million of them; and a join of a
table with itself three times by key. Printed are the peaks of resident memory of whole processes and their seconds, as Markdown.
"""

import os
import shutil

import measure
from measure import linked, run, sluice, write_changes

WORKS = {
    "CSV → Delta, 20 partitions": "partition_by: [pays, produit]",
    "CSV → Delta, 5,000 partitions": "partition_by: [bucket]",
    "an epoch into an empty keyed table, each row another key": "key: [id_mouvement]",
    "an epoch that changes 1,000,000 of them": "key: [id_mouvement]",
    "CSV → Delta, then a join of it with itself three times by key": "",
}

FIELDS = [
    "{name: id_mouvement, type: string, required: true}",
    "{name: date_op, type: date, required: true}",
    "{name: produit, type: string}",
    "{name: type_op, type: string}",
    '{name: montant, type: "decimal(18, 2)"}',
    "{name: agence_id, type: string}",
    "{name: pays, type: string}",
]

JOIN = """
  joined:
    sql: >-
      SELECT a.id_mouvement, a.montant, b.agence_id, c.type_op FROM movements a
      JOIN movements b ON a.id_mouvement = b.id_mouvement
      JOIN movements c ON b.id_mouvement = c.id_mouvement
      WHERE a.montant + b.montant + c.montant < -100000000
"""


def main():
    options = measure.options(rows="1000000,20000000", memory="512MiB")
    sizes = [int(rows) for rows in options.rows.split(",")]
    print("| work | " + " | ".join(f"{rows:,} rows" for rows in sizes) + " | most / least |")
    print("|---|" + "---|" * (len(sizes) + 1))
    for work, how in WORKS.items():
        cells, peaks = [], []
        for rows in sizes:
            folder = linked(options.sluice, options.work, rows)
            job = written(options.work, how)
            lake = os.path.join(options.work, "memory-lake")
            changes = f"{folder}/changes.csv"
            shutil.rmtree(lake, ignore_errors=True)
            settings = {"lake": lake, "input": f"{folder}/*.csv"}
            line = sluice(options.sluice, "run", job, settings, "--memory", options.memory)
            seconds, peak, _ = run(line)
            if "changes" in work:
                write_changes(changes, 1_000_000, rows)
                seconds, peak, _ = run(line)
                os.remove(changes)
            peaks.append(peak)
            cells.append(f"{peak:.0f} MiB, {seconds:.1f} s")
            shutil.rmtree(lake)
        print(f"| {work} | " + " | ".join(cells) + f" | {max(peaks) / min(peaks):.2f}× |", flush=True)


def written(folder, how):
    """The job file of one work."""
    columns = "*"
    if "bucket" in how:
        columns = "*, CAST(substr(id_mouvement, 2) AS BIGINT) % 5000 AS bucket"
    text = (
        f'job: memory\nlake: "${{vars.lake}}"\nvars: {{lake: ./lake, input: ./input}}\n'
        f'sources:\n  raw:\n    connector: files\n    path: "${{vars.input}}"\n'
        f"    schema: {{fields: [{', '.join(FIELDS)}]}}\n"
        f"tables:\n  movements:\n    sql: SELECT {columns} FROM raw\n"
    )
    text += f"    {how}\n" if how else "views:" + JOIN
    path = os.path.join(folder, "memory.yaml")
    with open(path, "w") as file:
        file.write(text)
    return path


if __name__ == "__main__":
    main()
