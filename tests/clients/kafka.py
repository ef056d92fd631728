"""Another client of Kafka: writes and reads JSON lines. Arguments: the brokers, what to do, and with what.

consume TOPIC... reads what there is, committed transactions only, and prints a line per record: topic,
partition, offset, key and value (base64 or null), timestamp (milliseconds), headers (pairs).
produce TOPIC writes a record per line of standard input (partition, key and value as text, headers, all of
them optional) and prints partition and offset of each.
flood TOPIC RATE SEED writes records of running numbers, about so many a second, until standard input
closes, and prints how many. A broker that is away is waited for.
committed GROUP TOPIC prints partition and offset as committed to a group; commit GROUP TOPIC PARTITION
OFFSET moves it; forget GROUP deletes the group.
"""

import base64
import json
import random
import sys
import threading
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions as GroupOffsets
from confluent_kafka.admin import AdminClient

SECONDS = 60


def consumed(brokers, topics):
    """Every record of the topics that a reader of committed transactions gets, up to what is there now."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"witness-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 64_000_000,
            "receive.message.max.bytes": 128_000_000,
        }
    )
    partitions = []
    for topic in topics:
        known = consumer.list_topics(topic, SECONDS).topics[topic].partitions
        partitions += [TopicPartition(topic, number, OFFSET_BEGINNING) for number in known]
    consumer.assign(partitions)
    left = len(partitions)
    while left:
        message = consumer.poll(SECONDS)
        if message is None:
            raise SystemExit(f"nothing more comes, {left} partitions have not ended")
        if message.error() is None:
            yield message
        elif message.error().name() == "_PARTITION_EOF":
            left -= 1
        else:
            raise SystemExit(str(message.error()))
    consumer.close()


def text(some):
    return None if some is None else base64.b64encode(some).decode()


def consume(brokers, *topics):
    for message in consumed(brokers, topics):
        line = {
            "topic": message.topic(),
            "partition": message.partition(),
            "offset": message.offset(),
            "key": text(message.key()),
            "value": text(message.value()),
            "timestamp": message.timestamp()[1],
            "headers": [[name, text(value)] for name, value in message.headers() or []],
        }
        print(json.dumps(line))


def produce(brokers, topic):
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    failed = []

    def delivered(error, message):
        if error is not None:
            failed.append(error)
        else:
            print(json.dumps({"partition": message.partition(), "offset": message.offset()}))

    for line in sys.stdin:
        producer.produce(topic, on_delivery=delivered, **json.loads(line))
        producer.poll(0)
    producer.flush(SECONDS)
    if failed:
        raise SystemExit(str(failed[0]))


def flood(brokers, topic, rate, seed):
    # No record is given up: what is in doubt is tried again until it is there.
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "message.timeout.ms": 0})
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    chosen = random.Random(int(seed))
    count = 0
    # Ten times a second, a tenth of the rate, more or less.
    while not ended.wait(0.1):
        for _ in range(chosen.randint(0, int(rate) // 5)):
            row = {"id": count, "site": chosen.choice(["north", "south", "west"]), "amount": chosen.randint(0, 9999)}
            value = json.dumps(row) if chosen.random() > 0.002 else f"junk {count}"
            try:
                producer.produce(topic, key=str(row["site"]), value=value)
            except BufferError:
                break
            count += 1
        producer.poll(0)
    producer.flush()
    print(count)


def committed(brokers, group, topic):
    admin = AdminClient({"bootstrap.servers": brokers})
    told = admin.list_consumer_group_offsets([GroupOffsets(group)])[group].result(SECONDS)
    for partition in told.topic_partitions:
        if partition.topic == topic:
            print(json.dumps({"partition": partition.partition, "offset": partition.offset}))


def commit(brokers, group, topic, partition, offset):
    admin = AdminClient({"bootstrap.servers": brokers})
    moved = GroupOffsets(group, [TopicPartition(topic, int(partition), int(offset))])
    done = admin.alter_consumer_group_offsets([moved])[group].result(SECONDS)
    for told in done.topic_partitions:
        if told.error:
            raise SystemExit(str(told.error))


def forget(brokers, group):
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.delete_consumer_groups([group])[group].result(SECONDS)


COMMANDS = [consume, produce, flood, committed, commit, forget]

if __name__ == "__main__":
    brokers, command, *rest = sys.argv[1:]
    {known.__name__: known for known in COMMANDS}[command](brokers, *rest)
