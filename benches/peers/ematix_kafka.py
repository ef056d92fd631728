"""What ematix-flow does with the topic of kafka.py: JSON → one Delta table, at least once. Arguments:
bootstrap, topic, rows, folder. Prints rows and seconds until the table holds the last row."""

import glob
import importlib.metadata
import json
import os
import subprocess
import sys
import time

bootstrap, topic, rows, folder = sys.argv[1:5]
os.makedirs(folder, exist_ok=True)
config = f"{folder}/pipeline.toml"
with open(config, "w") as file:
    file.write(f"""pipeline_name = "bench"
source_query = "{topic}"
idle_pause_ms = 50

[source]
kind = "kafka"
bootstrap_servers = "{bootstrap}"
group_id = "ematix-{os.getpid()}"
batch_size = 300000
batch_bytes = 67108864
batch_window_ms = 1000

[target]
kind = "delta_local"
path = "{folder}/lake"

[target.table]
schema = "bench"
name = "kept"
""")


def held():
    """Rows of all adds of the table's log."""
    total = 0
    for path in glob.glob(f"{folder}/lake/**/_delta_log/*.json", recursive=True):
        for line in open(path):
            add = json.loads(line).get("add")
            if add and add.get("stats"):
                total += json.loads(add["stats"])["numRecords"]
    return total


began = time.monotonic()
program = f"import ematix_flow; ematix_flow.run_pipeline(config={config!r})"
job = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
found = 0
while found < int(rows) and job.poll() is None and time.monotonic() - began < 600:
    time.sleep(0.2)
    found = held()
seconds = time.monotonic() - began
said = b""
if job.poll() is None:
    job.terminate()
    _, said = job.communicate()
else:
    said = job.stderr.read()
if found < int(rows):
    sys.exit(f"{found} rows of {rows} after {seconds:.0f} s: {said[-2000:].decode()}")
versions = len(glob.glob(f"{folder}/lake/**/_delta_log/*.json", recursive=True))
version = importlib.metadata.version("ematix-flow")
print(json.dumps({"rows": found, "seconds": seconds, "versions": versions, "version": version}))
