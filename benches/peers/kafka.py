"""Kafka → Delta, exactly once: how fast, how fresh, how soon again after a kill, for how long.

    tests/.venv/bin/python benches/peers/kafka.py --sluice target/release/sluice --work FOLDER \
        --bench target/release/deps/main-… --what throughput,fresh,recovery,long

Broker, producer and job share the machine's cores; their shares are told. Each figure is a row for
benches/README.md. Where `--python` names one that has `pyspark` 4.0.0 and `ematix-flow` 1.0.0, and `--jars`
a folder with what `kafka-jars.xml` names, they do the same in turn (spark_kafka.py, ematix_kafka.py);
where `--laminar` names the program that `cargo build --release --manifest-path
benches/peers/laminar/Cargo.toml` makes, LaminarDB does too."""

import collections
import glob
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

from broker import Broker, cpu, producer, record
from measure import HERE, ROOT, options, sluice

JOB = f"{HERE}/kafka.yaml"
PARTITIONS = 4
# How often the newest version of a table is looked for.
POLL_S = 0.02


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def child(command, **more):
    """What a command prints, its seconds and its seconds of processor time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **more)
    taken, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(command)}\n{done.stdout}{done.stderr}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, taken, spent


def fresh_lake(work):
    lake = os.path.join(work, "lake")
    shutil.rmtree(lake, ignore_errors=True)
    return lake


def whole(asked):
    """The job with a table that is not partitioned."""
    path = os.path.join(asked.work, "kafka-whole.yaml")
    with open(JOB) as file, open(path, "w") as out:
        out.write(file.read().replace("    partition_by: [site]\n", ""))
    return path


def settings(broker, lake, topic, **more):
    return {"lake": lake, "bootstrap": broker.bootstrap, "topic": topic} | more


def work(asked, broker, topic, name):
    """What one of them says of its work on all records of a topic: rows, seconds, processor time."""
    lake = fresh_lake(asked.work)
    use = settings(broker, lake, topic)
    arguments = [broker.bootstrap, topic, str(asked.rows), lake]
    if name == "raw":
        return json.loads(child([asked.bench, "kafka", "raw", broker.bootstrap, topic])[0])
    if name == "decode":
        pairs = [f"{key}={value}" for key, value in use.items()]
        return json.loads(child([asked.bench, "kafka", "decode", JOB, *pairs])[0])
    if name == "spark":
        out, _, spent = child([asked.python, f"{HERE}/spark_kafka.py", *arguments, asked.jars])
        said = json.loads(out.splitlines()[-1])
        return said | {"cpu": said["cpu"] + spent}
    if name == "ematix":
        out, _, spent = child([asked.python, f"{HERE}/ematix_kafka.py", *arguments])
        return json.loads(out) | {"cpu": spent}
    if name == "laminar":
        out, _, spent = child([asked.laminar, *arguments])
        return json.loads(out) | {"cpu": spent}
    _, taken, spent = child(sluice(asked.sluice, "run", JOB, use))
    query = [asked.sluice, "sql", "SELECT count(*) AS n FROM kept", "--format", "csv", "--table", f"kept={lake}/kept"]
    versions = len(glob.glob(f"{lake}/kept/_delta_log/*.json"))
    return {"rows": int(child(query)[0].split()[-1]), "seconds": taken, "cpu": spent, "versions": versions}


def throughput(asked, broker):
    topic = broker.full(asked.rows, PARTITIONS)
    names = ["raw", "decode", "sluice"] + (["spark", "ematix"] if asked.python else [])
    names += ["laminar"] if asked.laminar else []
    runs, size = collections.defaultdict(list), 0
    # A broker that was just started is slow at first.
    work(asked, broker, topic, "raw")
    for turn in range(asked.repeat):
        for name in names if turn < asked.peers else names[:3]:
            found = work(asked, broker, topic, name)
            print(name, found, file=sys.stderr)
            if found["rows"] != asked.rows:
                sys.exit(f"{name}: {found['rows']} rows instead of {asked.rows}")
            size = size or found["bytes"]
            runs[name].append(found | {"bytes": size})
    rates = {name: statistics.median(r["rows"] / r["seconds"] for r in all) for name, all in runs.items()}
    print("| what | MB/s | rows/s | rows/s per core used | of consume + decode | commits |\n|---|---|---|---|---|---|")
    for name, all in runs.items():
        megabytes = statistics.median(r["bytes"] / r["seconds"] / 1e6 for r in all)
        per_core = statistics.median(r["rows"] / r["cpu"] for r in all)
        share, commits = rates[name] / rates["decode"], all[0].get("versions", "")
        print(f"| {name} | {megabytes:.0f} | {rates[name]:,.0f} | {per_core:,.0f} | {share:.2f}× | {commits} |")


class Versions(threading.Thread):
    """When each version of a table came, and the last offset it holds, looked at every 20 ms."""

    def __init__(self, table):
        super().__init__(daemon=True)
        self.log, self.found, self.done = f"{table}/_delta_log", [], False

    def run(self):
        version, last = 0, -1
        while not self.done:
            path = f"{self.log}/{version:020d}.json"
            if not os.path.exists(path):
                time.sleep(POLL_S)
                continue
            at = time.time()
            for line in open(path):
                add = json.loads(line).get("add")
                if add and add.get("stats"):
                    last = max(last, json.loads(add["stats"])["maxValues"]["off"])
            self.found.append((at, last))
            version += 1

    def stop(self):
        self.done = True
        self.join()
        return self.found


class Flood(threading.Thread):
    """So many records a second into partition 0, and when each was handed to the producer."""

    def __init__(self, broker, topic, rate):
        super().__init__(daemon=True)
        self.to, self.topic, self.rate, self.sent, self.done = producer(broker.bootstrap, **{"linger.ms": 5}), topic, rate, [], False
        self.cpu = 0.0

    def run(self):
        began, number = time.time(), 0
        while not self.done:
            now = time.time()
            due = int((now - began) * self.rate)
            while number < due:
                self.to.produce(self.topic, record(number, "2026-01-01T00:00:00.000Z"), partition=0)
                self.sent.append(now)
                number += 1
            self.to.poll(0)
            time.sleep(0.002)
        self.to.flush()
        self.cpu = time.thread_time()

    def stop(self):
        self.done = True
        self.join()
        return self.sent


def following(asked, job, use, *more):
    command = [*sluice(asked.sluice, "run", job, use), "--follow", *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def fresh(asked, broker):
    topic = f"fresh-{int(time.time())}"
    broker.topic(topic, 1)
    lake = fresh_lake(asked.work)
    use = settings(broker, lake, topic, every="250ms")
    flood = Flood(broker, topic, asked.rate)
    flood.start()
    job, versions = following(asked, whole(asked), use), Versions(f"{lake}/kept")
    versions.start()
    time.sleep(5)
    ours = time.process_time()
    before = {"broker": broker.cpu(), "sluice": cpu(job.pid)}
    began = time.time()
    time.sleep(asked.seconds)
    ended = time.time()
    after = {"broker": broker.cpu(), "sluice": cpu(job.pid)}
    shares = {name: (after[name] - before[name]) / (ended - began) for name in after}
    shares["producer and watcher"] = (time.process_time() - ours) / (ended - began)
    sent = flood.stop()
    time.sleep(2)
    job.send_signal(signal.SIGTERM)
    job.communicate()
    found, ages, at = versions.stop(), [], 0
    for came, last in found:
        while at <= last:
            if began <= sent[at] <= ended:
                ages.append(came - sent[at])
            at += 1
    if at != len(sent):
        sys.exit(f"{at} rows of {len(sent)}")
    told = ", ".join(f"{name} {share * 100:.0f} %" for name, share in shares.items())
    print(f"fresh: {len(ages):,} rows at {asked.rate:,}/s, p50 {quantile(ages, 0.5) * 1000:.0f} ms, "
          f"p99 {quantile(ages, 0.99) * 1000:.0f} ms, most {max(ages) * 1000:.0f} ms; of a core: {told}")


def recovery(asked, broker):
    topic = f"recovery-{int(time.time())}"
    broker.topic(topic, PARTITIONS)
    lake = fresh_lake(asked.work)
    use = settings(broker, lake, topic, every="250ms")
    flood = Flood(broker, topic, 2000)
    flood.start()
    job, versions = following(asked, JOB, use), Versions(f"{lake}/kept")
    versions.start()
    time.sleep(5)
    waits = []
    for _ in range(asked.kills):
        time.sleep(1.5)
        job.kill()
        job.communicate()
        killed, had = time.time(), len(versions.found)
        job = following(asked, JOB, use)
        while len(versions.found) <= had:
            time.sleep(0.005)
        waits.append(versions.found[had][0] - killed)
    flood.stop()
    job.send_signal(signal.SIGTERM)
    job.communicate()
    versions.stop()
    print(f"recovery: {len(waits)} kills, median {statistics.median(waits) * 1000:.0f} ms, most {max(waits) * 1000:.0f} ms")


def long(asked, broker):
    topic = f"long-{int(time.time())}"
    broker.topic(topic, PARTITIONS)
    flood = Flood(broker, topic, asked.rate)
    flood.start()
    lake = fresh_lake(asked.work)
    use = settings(broker, lake, topic, every="10ms")
    command = [*sluice(asked.sluice, "run", whole(asked), use), "--follow", "--epochs", str(asked.epochs)]
    command += ["--log", "info", "--log-format", "json"]
    job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    commits, resident, files = [], [], []
    for line in job.stderr:
        said = json.loads(line)
        said = said.get("fields", said)
        if said.get("message") != "epoch published":
            continue
        commits.append(said["seconds"])
        if len(commits) % 50 == 0:
            status = open(f"/proc/{job.pid}/status").read()
            resident.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024)
            files.append(len(os.listdir(f"/proc/{job.pid}/fd")))
    if job.wait() != 0:
        sys.exit("the long run failed")
    flood.stop()
    tenth = len(resident) // 10
    second, last = resident[tenth : 2 * tenth], resident[-tenth:]
    early, late = commits[1000:2000], commits[-1000:]
    print(f"long: {len(commits):,} epochs; resident second tenth {statistics.mean(second):.0f} MiB, last "
          f"{statistics.mean(last):.0f} MiB ({statistics.mean(last) / statistics.mean(second):.2f}×); commit p99 epochs "
          f"1,000–2,000 {quantile(early, 0.99) * 1000:.1f} ms, last 1,000 {quantile(late, 0.99) * 1000:.1f} ms "
          f"({quantile(late, 0.99) / quantile(early, 0.99):.2f}×); open files {statistics.mean(files[tenth:2 * tenth]):.0f} "
          f"and {statistics.mean(files[-tenth:]):.0f}")
    checkpoints = glob.glob(f"{lake}/kept/_delta_log/*.checkpoint*.parquet")
    print(f"long: {len(checkpoints)} checkpoints, {len(glob.glob(f'{lake}/kept/**/*.parquet', recursive=True))} Parquet files on disk")


def main():
    asked = options(bench="", python="", jars="", laminar="", peers=2, what="throughput,fresh,recovery,long", rows=5_000_000, repeat=3, rate=20_000, seconds=60, kills=20, epochs=10_000)
    broker = Broker(asked.work)
    try:
        for what in asked.what.split(","):
            {"throughput": throughput, "fresh": fresh, "recovery": recovery, "long": long}[what](asked, broker)
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
