"""The whole of jobs/insurance-movements written by hand in Polars, without checks, manifests or
incremental views: generated rows to five CSV files, those to a Parquet dataset, that to a Delta
table, that to five views.

usage: polars_pack.py ROWS FOLDER
prints: seconds
"""

import datetime
import math
import os
import sys
import time

import numpy as np
import polars as pl
from deltalake import WriterProperties

rows, lake = int(sys.argv[1]), sys.argv[2]
BY = ["pays", "produit"]
PRODUCTS = {"auto": 40, "santé": 30, "habitation": 20, "vie": 10}
COUNTRIES = {"FR": 60, "ES": 15, "IT": 12, "DE": 8, "BE": 5}
# Kind: weight, what is usual, shape (l: log-normal, n: normal, u: uniform, e: exponential), spread.
KINDS = {
    "cotisation": (300, 180, "l", 0.6),
    "remboursement": (180, 160, "l", 0.9),
    "commission": (80, 45, "l", 0.6),
    "virement": (60, 850, "l", 0.8),
    "frais_gestion": (50, 18, "n", 4),
    "rétrocession": (40, 120, "l", 0.7),
    "ajustement": (40, 60, "n", 60),
    "régularisation": (40, 90, "n", 90),
    "bonus_malus": (35, 35, "n", 35),
    "correction": (30, 75, "n", 75),
    "provision": (30, 4200, "l", 0.9),
    "pénalité": (25, 80, "l", 0.7),
    "annulation": (25, 110, "n", 40),
    "indemnité": (25, 1500, "l", 1.0),
    "franchise": (20, 325, "u", 275),
    "réassurance": (15, 9000, "l", 0.8),
    "intérêts": (15, 22, "e", 22),
    "prime_exceptionnelle": (10, 500, "l", 0.5),
    "recours": (10, 2600, "l", 0.9),
}
TYPES = {
    "id_mouvement": pl.String,
    "date_op": pl.Date,
    "produit": pl.String,
    "type_op": pl.String,
    "montant": pl.Decimal(18, 2),
    "agence_id": pl.String,
    "pays": pl.String,
}


def generate():
    draw = np.random.default_rng(20240101)
    os.makedirs(f"{lake}/raw")

    def choice(weights, count):
        total = sum(weights.values())
        codes = draw.choice(len(weights), count, p=[w / total for w in weights.values()])
        return pl.Series(codes.astype(np.uint32)).replace_strict(
            dict(enumerate(weights)), return_dtype=pl.String
        )

    names = list(KINDS)
    share = np.array([k[0] for k in KINDS.values()], dtype=float)
    share /= share.sum()
    usual = np.array([k[1] for k in KINDS.values()], dtype=float)
    shape = np.array([k[2] for k in KINDS.values()])
    spread = np.array([k[3] for k in KINDS.values()], dtype=float)
    zipf = 1 / np.arange(1, 121) ** 0.4
    step = math.ceil(rows / 5)
    for part in range(5):
        first, last = part * step, min((part + 1) * step, rows)
        count = last - first
        kind = draw.choice(len(names), count, p=share)
        middle, width, how = usual[kind], spread[kind], shape[kind]
        normal = draw.standard_normal(count)
        amount = np.where(how == "l", middle * np.exp(normal * np.minimum(width, 2)), normal * width)
        amount = np.where(how == "u", middle + (draw.random(count) * 2 - 1) * width, amount)
        amount = np.where(how == "e", draw.exponential(middle), amount)
        amount = np.where(draw.random(count) < 0.0005, amount * 40, amount)
        frame = pl.DataFrame(
            {
                "id_mouvement": pl.Series(np.arange(first + 1, last + 1)),
                "date_op": pl.Series(draw.integers(0, 731, count).astype(np.int32)),
                "produit": choice(PRODUCTS, count),
                "type_op": pl.Series(kind.astype(np.uint32)).replace_strict(
                    dict(enumerate(names)), return_dtype=pl.String
                ),
                "montant": pl.Series(np.round(amount, 2)),
                "agence_id": pl.Series(draw.choice(120, count, p=zipf / zipf.sum()) + 1),
                "pays": choice(COUNTRIES, count),
            }
        ).with_columns(
            id_mouvement="M" + pl.col("id_mouvement").cast(pl.String).str.zfill(7),
            date_op=datetime.date(2024, 1, 1) + pl.duration(days=pl.col("date_op")),
            agence_id="AG_" + pl.col("agence_id").cast(pl.String).str.zfill(3),
        )
        frame.select(list(TYPES)).write_csv(f"{lake}/raw/{part}.csv", float_precision=2)


def stage():
    raw = pl.scan_csv(f"{lake}/raw/*.csv", schema=TYPES)
    target = pl.PartitionBy(f"{lake}/staging", key=BY)
    raw.sink_parquet(target, compression="zstd", compression_level=1, mkdir=True)


def load():
    usual = {kind: facts[1] for kind, facts in KINDS.items()}
    staged = pl.scan_parquet(f"{lake}/staging/**/*.parquet", hive_partitioning=True)
    frame = staged.with_columns(
        pl.col("date_op").dt.truncate("1mo").alias("mois"),
        (
            pl.col("montant").abs().cast(pl.Float64)
            > 30 * pl.col("type_op").replace_strict(usual, default=1000)
        ).alias("exceptionnel"),
    ).filter(pl.col("montant").is_not_null() & pl.col("type_op").is_in(list(KINDS)))
    properties = WriterProperties(compression="ZSTD", compression_level=1)
    options = {"partition_by": BY, "writer_properties": properties}
    frame.sink_delta(f"{lake}/delta", delta_write_options=options)


def views():
    table = pl.scan_delta(f"{lake}/delta")
    kind, amount, one = pl.col("type_op"), pl.col("montant"), pl.len()

    def of(*kinds):
        return amount.filter(kind.is_in(kinds)).sum()

    made = {
        "anomalies": table.group_by("type_op").agg(
            one.alias("operations"),
            amount.mean().alias("moyen"),
            amount.cast(pl.Float64).std().alias("ecart"),
            amount.min().alias("min"),
            amount.max().alias("max"),
            pl.col("exceptionnel").sum().alias("exceptionnels"),
            amount.filter(pl.col("exceptionnel")).sum().alias("montant"),
        ),
        "retrocessions": table.filter(kind == "rétrocession")
        .group_by("agence_id", "pays")
        .agg(
            one.alias("n"), amount.sum().alias("s"), amount.mean().alias("m"), amount.max().alias("x")
        ),
        "monthly_trends": table.filter(kind.is_in(["cotisation", "remboursement"]))
        .group_by("mois")
        .agg(
            (kind == "cotisation").sum().alias("cotisations"),
            of("cotisation").alias("montant_cotisations"),
            (kind == "remboursement").sum().alias("remboursements"),
            of("remboursement").alias("montant_remboursements"),
        ),
        "agency_performance": table.group_by("agence_id").agg(
            one.alias("n"),
            of("cotisation").alias("c"),
            of("remboursement").alias("r"),
            of("commission").alias("k"),
            of("frais_gestion").alias("f"),
            amount.mean().alias("m"),
            pl.col("date_op").min().alias("first"),
            pl.col("date_op").max().alias("last"),
        ),
        "conformity": table.group_by("pays", "produit").agg(
            one.alias("n"),
            (kind == "pénalité").sum().alias("penalites"),
            of("pénalité").alias("p"),
            (kind == "correction").sum().alias("corrections"),
            of("correction").alias("c"),
        ),
    }
    for name, frame in made.items():
        frame.collect().write_delta(f"{lake}/views/{name}")


started = time.monotonic()
for step in (generate, stage, load, views):
    step()
print(f"{time.monotonic() - started:.3f}", flush=True)
os._exit(0)
