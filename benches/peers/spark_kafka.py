"""What Spark Structured Streaming does with the topic of kafka.py: JSON → one Delta table by site, a
micro-batch each second. Arguments: bootstrap, topic, rows, folder, jars. Prints rows and seconds from
the start of the query to the commit that holds the last row; the JVM is up by then."""

import glob
import json
import os
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, from_json

bootstrap, topic, rows, folder, jars = sys.argv[1:6]
SCHEMA = "id BIGINT, site STRING, line STRING, score DOUBLE, ok BOOLEAN, at TIMESTAMP"

builder = SparkSession.builder.master("local[2]").config("spark.jars", ",".join(glob.glob(f"{jars}/*.jar")))
builder = builder.config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
builder = builder.config("spark.driver.memory", "4g").config("spark.sql.shuffle.partitions", "2")
spark = builder.config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")

stream = spark.readStream.format("kafka").option("kafka.bootstrap.servers", bootstrap)
stream = stream.option("subscribe", topic).option("startingOffsets", "earliest")
# What it takes in a second at full speed, so that it commits about that often.
stream = stream.option("maxOffsetsPerTrigger", "300000").load()
parsed = stream.select(from_json(col("value").cast("string"), SCHEMA).alias("r"), col("partition").alias("part"), col("offset").alias("off"))
wanted = parsed.select("r.*", "part", "off")

began = time.monotonic()
query = wanted.writeStream.format("delta").partitionBy("site").option("checkpointLocation", f"{folder}/checkpoint")
query = query.trigger(processingTime="1 second").start(f"{folder}/kept")
taken = 0
while taken < int(rows):
    time.sleep(0.05)
    if query.exception():
        raise SystemExit(str(query.exception()))
    ends = (query.lastProgress or {}).get("sources") or []
    taken = sum(sum(json.loads(s["endOffset"])[topic].values()) if isinstance(s["endOffset"], str) else sum(s["endOffset"][topic].values()) for s in ends)
seconds = time.monotonic() - began
query.stop()
found = spark.read.format("delta").load(f"{folder}/kept").count()
versions = len(glob.glob(f"{folder}/kept/_delta_log/*.json"))
# Its JVM is nobody's child who would be asked what it spent.
jvm = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()
ticks = open(f"/proc/{jvm}/stat").read().rsplit(") ")[1].split()
cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
print(json.dumps({"cpu": cpu, "rows": found, "seconds": seconds, "versions": versions, "version": spark.version}))
