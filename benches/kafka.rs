//! What a topic's records cost without an engine: fetched by librdkafka alone, and fetched and decoded
//! by the `kafka` source.
//!
//! In: a job file, whose first source is read as it says. Out: a line of JSON with rows, bytes of
//! values, seconds and seconds of processor time. Filling topics, and whole jobs beside others, are
//! `peers/kafka.py`'s.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice::environment::{Resources, environment};
use sluice_core::{Limit, Scan, Secrets, Start};
use sluice_runtime::epoch::Environment;
use sluice_runtime::job::{LoadOptions, load};

/// Rows and bytes of an intake: what an epoch of a second takes at full speed.
const LIMIT: Limit = Limit { rows: 500_000, bytes: 256 << 20, files: u64::MAX };

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

/// All partitions from their beginnings to their ends, by one consumer as the source sets it up.
fn raw(bootstrap: &str, topic: &str) -> Read {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", "65536")
        .create()
        .expect("a consumer");
    let wait = Duration::from_secs(30);
    let metadata = consumer.fetch_metadata(Some(topic), wait).expect("a broker that answers");
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let added = list.add_partition_offset(topic, partition as i32, Offset::Beginning);
        added.expect("a partition");
    }
    consumer.assign(&list).expect("an assignment");
    let (mut read, mut ended) = (Read::default(), 0);
    while ended < partitions {
        let polled = consumer.poll(wait).expect("something that comes in time");
        if let Err(KafkaError::PartitionEOF(_)) = polled {
            ended += 1;
            continue;
        }
        read.rows += 1;
        read.bytes += polled.expect("a record").payload_len() as u64;
    }
    read
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
