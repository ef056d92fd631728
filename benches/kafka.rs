//! What a topic's records cost without an engine: fetched by librdkafka alone, and fetched and decoded
//! by the `kafka` source.
//!
//! In: a job file, whose first source is read as it says. Out: a line of JSON with rows, bytes of
//! values, seconds and seconds of processor time. Filling topics, and whole jobs beside others, are
//! `peers/kafka.py`'s.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::TryStreamExt as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice::environment::{Resources, environment};
use sluice_core::{Limit, Scan, Secrets, Start};
use sluice_runtime::epoch::Environment;
use sluice_runtime::job::{LoadOptions, load};

/// Rows and bytes of an intake: what an epoch of a second takes at full speed.
const LIMIT: Limit = Limit { rows: 500_000, bytes: 256 << 20, files: u64::MAX };

/// How long a broker may take to say what a topic has.
const WAIT: Duration = Duration::from_secs(30);
/// Messages of a partition before the next one's turn.
const ROUND: usize = 1024;
/// Where nothing is there.
const NAP: Duration = Duration::from_millis(1);

/// What was read.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    rows: u64,
    bytes: u64,
}

/// `kafka raw BOOTSTRAP TOPIC`, or `kafka decode JOB VARIABLE=VALUE…`; whether it was one of them.
pub fn main(arguments: &[String]) -> bool {
    let rest: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let env = environment(&Resources::default());
    let began = env.clock.monotonic();
    let read = match rest.as_slice() {
        ["kafka", "raw", bootstrap, topic, ..] => raw(bootstrap, topic),
        ["kafka", "decode", job, settings @ ..] => decode(&env, Path::new(job), settings),
        _ => return false,
    };
    let seconds = (env.clock.monotonic() - began).as_secs_f64();
    let Read { rows, bytes } = read;
    let cpu = cpu_seconds();
    println!(r#"{{"rows": {rows}, "bytes": {bytes}, "seconds": {seconds}, "cpu": {cpu}}}"#);
    true
}

/// All partitions from their beginnings to their ends, by one consumer that is set up as the source's
/// is: a queue for each partition, taken message by message in turn.
fn raw(bootstrap: &str, topic: &str) -> Read {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", "65536")
        .create()
        .expect("a consumer");
    let consumer = Arc::new(consumer);
    let metadata = consumer.fetch_metadata(Some(topic), WAIT).expect("a broker that answers");
    let partitions = metadata.topics()[0].partitions().len() as i32;
    let mut list = TopicPartitionList::new();
    let mut queues = Vec::new();
    for partition in 0..partitions {
        let added = list.add_partition_offset(topic, partition, Offset::Beginning);
        added.expect("a partition");
        queues.push(consumer.split_partition_queue(topic, partition).expect("a queue"));
    }
    consumer.assign(&list).expect("an assignment");
    let mut read = Read::default();
    while !queues.is_empty() {
        // What does not belong to a partition: connections, errors.
        if let Some(told) = consumer.poll(Duration::ZERO) {
            told.expect("a broker that answers");
        }
        let before = (read.rows, queues.len());
        queues.retain(|queue| !ended(queue, &mut read));
        if before == (read.rows, queues.len()) {
            thread::park_timeout(NAP);
        }
    }
    read
}

/// Takes some of what is there of a partition; whether it has ended.
fn ended(queue: &PartitionQueue<DefaultConsumerContext>, read: &mut Read) -> bool {
    for _ in 0..ROUND {
        match queue.poll(Duration::ZERO) {
            None => return false,
            Some(Err(KafkaError::PartitionEOF(_))) => return true,
            Some(message) => {
                read.rows += 1;
                read.bytes += message.expect("a record").payload_len() as u64;
            }
        }
    }
    false
}

/// What a bounded run would take, decoded on all cores and dropped.
fn decode(env: &Environment, job: &Path, settings: &[&str]) -> Read {
    let pairs = settings.iter().filter_map(|s| s.split_once('='));
    let set: BTreeMap<_, _> = pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let pack = load(job, &LoadOptions { target: None, set }, &env.registry).expect("a right job");
    let source = &pack.jobs[0].sources[0];
    let factory = env.registry.source(&source.connector).expect("its connector").clone();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let context = env.context("bench", &Secrets::default());
        let mut reads = factory.build(&source.config, &context).await.expect("a source");
        reads.seek(Start { bounded: true, ..Start::default() }).await.expect("a beginning");
        let mut read = Read::default();
        loop {
            let intake = reads.poll(LIMIT).await.expect("a poll");
            let reader = reads.reader();
            let tasks: Vec<_> = intake
                .splits
                .iter()
                .cloned()
                .map(|split| {
                    let stream = reader.open(split, &Scan::default());
                    tokio::spawn(stream.try_fold(0, |rows, decoded| async move {
                        Ok(rows + decoded.rows.num_rows() as u64)
                    }))
                })
                .collect();
            for task in tasks {
                read.rows += task.await.expect("a task").expect("decoded rows");
            }
            read.bytes += intake.splits.iter().map(|split| split.bytes).sum::<u64>();
            if intake.advances.is_empty() && !intake.more {
                return read;
            }
        }
    })
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |s| s.1).split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
