"""Apache Spark reads a keyed Delta table again and again while somebody else changes it.

Arguments: the table's folder, the folder with Delta's jars for Spark. Prints `ready`, then for every read a
JSON list: rows, different ids, sum of scores. It reads once more when its standard input closes, and ends.
"""

import glob
import json
import select
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import count, countDistinct, sum as total

table, jars = sys.argv[1:3]
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.jars", ",".join(glob.glob(f"{jars}/*.jar")))
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    .config("spark.driver.memory", "768m")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.databricks.delta.snapshotPartitions", "1")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")


def read():
    rows = spark.read.format("delta").load(table)
    found = rows.agg(count("*"), countDistinct("id"), total("score")).collect()[0]
    print(json.dumps(list(found)), flush=True)


print("ready", flush=True)
over = False
while not over:
    over = bool(select.select([sys.stdin], [], [], 0)[0])
    read()
spark.stop()
