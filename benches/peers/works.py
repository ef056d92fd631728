"""What compare.py gives to everyone but Sluice, as data: columns with their types, what is derived,
the partitions, the same as in movements.yaml and sales.yaml, and whose sums are compared. Nothing
is run here."""

import os
import sys
import time

MOVEMENTS = {
    "columns": {
        "id_mouvement": "VARCHAR",
        "date_op": "DATE",
        "produit": "VARCHAR",
        "type_op": "VARCHAR",
        "montant": "DECIMAL(18,2)",
        "agence_id": "VARCHAR",
        "pays": "VARCHAR",
    },
    "rename": {},
    "month_of": ("date_op", "mois"),
    "partition_by": ["pays", "produit"],
    "sums": ["montant"],
}

SALES = {
    "columns": {
        "InvoiceNo": "VARCHAR",
        "StockCode": "VARCHAR",
        "Description": "VARCHAR",
        "Quantity": "BIGINT",
        "InvoiceDate": "TIMESTAMP",
        "UnitPrice": "DECIMAL(18,3)",
        "CustomerID": "VARCHAR",
        "Country": "VARCHAR",
    },
    "rename": {
        "InvoiceNo": "invoice",
        "StockCode": "stock_code",
        "Description": "description",
        "Quantity": "quantity",
        "InvoiceDate": "invoice_date",
        "UnitPrice": "unit_price",
        "CustomerID": "customer_id",
        "Country": "country",
    },
    "month_of": ("invoice_date", "month"),
    "partition_by": ["month"],
    "sums": ["quantity", "unit_price"],
}

WORKS = {"movements": MOVEMENTS, "sales": SALES}


def query(work, files, decode):
    """All rows of a work in the SQL of DuckDB."""
    dated, month = work["month_of"]
    columns = "{" + ", ".join(f"'{c}': '{t}'" for c, t in work["columns"].items()) + "}"
    named = ", ".join(f'"{c}" AS {work["rename"].get(c, c)}' for c in work["columns"])
    reader = (
        f"read_csv('{files}', header = true, columns = {columns})"
        if decode == "csv"
        else f"read_json('{files}', format = 'newline_delimited', columns = {columns})"
    )
    return f"""
        SELECT *, CAST(date_trunc('month', {dated}) AS DATE) AS {month}
        FROM (SELECT {named} FROM {reader})
    """


def arguments():
    """The work's name and definition, the files, the output folder, csv|json, parquet|delta, and
    whether what was written is to be durable in the end."""
    name, pattern, output, decode, form, fsync = sys.argv[1:7]
    return name, WORKS[name], pattern, output, decode, form, fsync == "fsync"


def measured(work, output, fsync):
    """Runs `work` and prints its seconds; imports and the interpreter's start are not counted."""
    started = time.monotonic()
    work()
    if fsync:
        sync(output)
    print(f"{time.monotonic() - started:.3f}", flush=True)
    # Threads of Arrow may abort the interpreter on its way out.
    os._exit(0)


def sync(folder):
    """What Sluice does as it goes: every file and every folder reaches the disk."""
    for place, _, files in os.walk(folder):
        for path in [os.path.join(place, file) for file in files] + [place]:
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
