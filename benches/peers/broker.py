"""An Apache Kafka broker of one's own on loopback, from the jars of tests/setup, and topics full of
JSON records. `KAFKA_BOOTSTRAP` names another broker."""

import json
import os
import subprocess
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from measure import ROOT

PORT = 29192
SETTINGS = f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{PORT + 1}
listeners=PLAINTEXT://127.0.0.1:{PORT},CONTROLLER://127.0.0.1:{PORT + 1}
advertised.listeners=PLAINTEXT://127.0.0.1:{PORT}
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.retention.ms=-1
"""


class Broker:
    """A node in a folder; it goes on with what the folder has."""

    def __init__(self, work):
        self.process = None
        self.bootstrap = os.environ.get("KAFKA_BOOTSTRAP")
        if self.bootstrap is None:
            self.bootstrap = f"127.0.0.1:{PORT}"
            self.start(os.path.join(work, "kafka"))
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        self.ready()

    def start(self, folder):
        os.makedirs(folder, exist_ok=True)
        settings = os.path.join(folder, "server.properties")
        with open(settings, "w") as file:
            file.write(f"{SETTINGS}log.dirs={folder}/log\n")
        java = ["java", "-Xmx1g", "-cp", f"{ROOT}/tests/.kafka/*"]
        out = open(os.path.join(folder, "output"), "w")
        if not os.path.isdir(f"{folder}/log"):
            tool = [*java, "kafka.tools.StorageTool", "format", "-t", "c2x1aWNlLXRlc3RzLXh4eA", "-c", settings]
            subprocess.run(tool, check=True, stdout=out, stderr=out)
        self.process = subprocess.Popen([*java, "kafka.Kafka", settings], stdout=out, stderr=out)

    def ready(self):
        for _ in range(120):
            try:
                return self.admin.list_topics(timeout=1)
            except Exception:
                time.sleep(0.5)
        raise SystemExit("the broker does not answer")

    def cpu(self):
        """Seconds of processor time it has used; none where it is somebody else's."""
        return cpu(self.process.pid) if self.process else float("nan")

    def topic(self, name, partitions):
        """A new, empty topic."""
        wanted = NewTopic(name, partitions, 1)
        for made in self.admin.create_topics([wanted]).values():
            made.result()
        time.sleep(0.5)

    def full(self, rows, partitions):
        """The name of a topic with so many records; made once."""
        name = f"bench-{rows}-{partitions}"
        if name not in self.admin.list_topics(timeout=10).topics:
            self.topic(name, partitions)
            fill(self.bootstrap, name, rows, partitions)
        found = sum(self.rows(TopicPartition(name, p)) for p in range(partitions))
        if found != rows:
            raise SystemExit(f"{name} has {found} records, not {rows}: empty the work folder")
        return name

    def rows(self, partition):
        """Records of a partition; one that was just started on may have no leader yet."""
        ends = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "bench", "log_level": 0})
        for _ in range(60):
            try:
                low, high = ends.get_watermark_offsets(partition)
                return high - low
            except KafkaException:
                time.sleep(0.5)
        raise SystemExit(f"no leader of {partition}")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


def cpu(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def record(number, at):
    """About 110 bytes of JSON."""
    return json.dumps(
        {
            "id": number,
            "site": f"S{number % 7:02d}",
            "line": f"L{number % 3}",
            "score": (number * 37 % 1000) / 10,
            "ok": number % 11 != 0,
            "at": at,
        }
    ).encode()


def producer(bootstrap, **more):
    settings = {"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 1_000_000, "log_level": 0}
    return Producer(settings | {"acks": "all", "compression.type": "lz4"} | more)


def fill(bootstrap, topic, rows, partitions):
    to = producer(bootstrap, **{"linger.ms": 50, "batch.size": 1 << 20})
    for number in range(rows):
        at = f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000Z"
        while True:
            try:
                to.produce(topic, record(number, at), partition=number % partitions)
                break
            except BufferError:
                to.poll(0.1)
        if number % 10_000 == 0:
            to.poll(0)
    to.flush()
