"""The five views of the insurance pack, counted by Polars from the generated CSV files.

Argument: the folder of the files. Prints JSON: per view its rows, header first, every cell as
text, sorted by their keys. Money is exact; a mean has six digits behind the point.
"""

import json
import sys
from decimal import Decimal

import polars
from polars import col, len

# What is usual for a kind of operation; exceptional is more than thirty times that.
USUAL = {
    "cotisation": 180, "remboursement": 160, "commission": 45, "virement": 850, "frais_gestion": 18,
    "rétrocession": 120, "ajustement": 60, "régularisation": 90, "bonus_malus": 35, "correction": 75,
    "provision": 4200, "pénalité": 80, "annulation": 110, "indemnité": 1500, "franchise": 325,
    "réassurance": 9000, "intérêts": 22, "prime_exceptionnelle": 500, "recours": 2600,
}  # fmt: skip

rows = polars.read_csv(f"{sys.argv[1]}/*.csv", infer_schema=False).with_columns(
    cents=(col("montant").cast(polars.Decimal(18, 2)) * 100).cast(polars.Int64)
)
rows = rows.with_columns(
    exceptional=col("cents").abs() > col("type_op").replace_strict(USUAL) * 30 * 100,
    month=col("date_op").str.slice(0, 7) + "-01",
)


def of(kind):
    """The cents of one kind of operation, 0 of others."""
    return polars.when(col("type_op") == kind).then("cents").otherwise(0)


def count(kind):
    return (col("type_op") == kind).sum()


def money(cents):
    return str(Decimal(cents).scaleb(-2))


def mean(pair):
    return f"{Decimal(pair['sum']) / pair['n'] / 100:.6f}"


MEAN = polars.struct(sum=col("cents").sum(), n=len())


def view(of_rows, keys, **columns):
    """`columns` gives per column of the view what to compute and how to write it."""
    wanted = [expression.alias(name) for name, (expression, _) in columns.items()]
    found = of_rows.group_by(*keys.values()).agg(wanted).sort(*keys.values())
    write = dict.fromkeys(keys.values(), str) | {name: how for name, (_, how) in columns.items()}
    body = [[how(row[name]) for name, how in write.items()] for row in found.to_dicts()]
    return [[*keys, *columns], *body]


trends = rows.filter(col("type_op").is_in(["cotisation", "remboursement"]))
paid_in_and_out = of("cotisation").sum() - of("remboursement").sum()
print(json.dumps({
    "anomalies": view(
        rows, {"type_op": "type_op"},
        operations=(len(), str),
        montant_moyen=(MEAN, mean),
        ecart_type=((col("cents") / 100).std(), str),
        montant_min=(col("cents").min(), money),
        montant_max=(col("cents").max(), money),
        exceptionnels=(col("exceptional").sum(), str),
        montant_exceptionnel=(col("cents").filter("exceptional").sum(), money),
    ),
    "retrocessions": view(
        rows.filter(col("type_op") == "rétrocession"), {"agence_id": "agence_id", "pays": "pays"},
        operations=(len(), str),
        montant_total=(col("cents").sum(), money),
        montant_moyen=(MEAN, mean),
        montant_max=(col("cents").max(), money),
    ),
    "monthly_trends": view(
        trends, {"mois": "month"},
        cotisations=(count("cotisation"), str),
        montant_cotisations=(of("cotisation").sum(), money),
        remboursements=(count("remboursement"), str),
        montant_remboursements=(of("remboursement").sum(), money),
        solde=(paid_in_and_out, money),
    ),
    "agency_performance": view(
        rows, {"agence_id": "agence_id"},
        operations=(len(), str),
        cotisations=(of("cotisation").sum(), money),
        remboursements=(of("remboursement").sum(), money),
        commissions=(of("commission").sum(), money),
        frais_gestion=(of("frais_gestion").sum(), money),
        montant_moyen=(MEAN, mean),
        premiere_operation=(col("date_op").min(), str),
        derniere_operation=(col("date_op").max(), str),
    ),
    "conformity": view(
        rows, {"pays": "pays", "produit": "produit"},
        operations=(len(), str),
        penalites=(count("pénalité"), str),
        montant_penalites=(of("pénalité").sum(), money),
        corrections=(count("correction"), str),
        montant_corrections=(of("correction").sum(), money),
    ),
}))  # fmt: skip
