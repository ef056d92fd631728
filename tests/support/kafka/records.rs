//! Records written into a topic, alone or in a transaction.

use futures::executor::block_on;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::{ANSWER_MAX, Broker};

/// One record.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Where it goes; by its key without.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    /// None is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; now without.
    pub timestamp_ms: Option<i64>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Commit,
    Abort,
}

impl Record {
    /// A record of a partition.
    pub fn to(partition: i32, value: impl Into<Vec<u8>>) -> Self {
        Self { partition: Some(partition), value: Some(value.into()), ..Self::default() }
    }

    /// A record with a key and nothing else.
    pub fn tombstone(partition: i32, key: &str) -> Self {
        Self { partition: Some(partition), key: Some(key.into()), ..Self::default() }
    }

    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_string(), value.map(<[u8]>::to_vec)));
        self
    }

    pub fn at_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

impl Broker {
    /// Writes records, in order per partition, and gives where each of them lies.
    pub fn produce(&self, topic: &str, records: &[Record]) -> Vec<(i32, i64)> {
        let mut config = self.config();
        config.set("enable.idempotence", "true");
        config.set("message.max.bytes", "64000000");
        let producer: FutureProducer = config.create().unwrap();
        sent(&producer, topic, records)
    }

    /// Writes records in a transaction. Those of an aborted one have places too.
    pub fn transact(&self, topic: &str, records: &[Record], outcome: Outcome) -> Vec<(i32, i64)> {
        self.begin(topic, records).end(outcome)
    }

    /// Writes records in a transaction that stays open.
    pub fn begin(&self, topic: &str, records: &[Record]) -> Transaction {
        let mut config = self.config();
        config.set("transactional.id", self.name("transaction"));
        let producer: FutureProducer = config.create().unwrap();
        producer.init_transactions(ANSWER_MAX).unwrap();
        producer.begin_transaction().unwrap();
        let places = sent(&producer, topic, records);
        Transaction { producer, places }
    }
}

/// A transaction that is open.
pub struct Transaction {
    producer: FutureProducer,
    places: Vec<(i32, i64)>,
}

impl Transaction {
    /// Ends it, and gives where its records lie.
    pub fn end(self, outcome: Outcome) -> Vec<(i32, i64)> {
        match outcome {
            Outcome::Commit => self.producer.commit_transaction(ANSWER_MAX).unwrap(),
            Outcome::Abort => self.producer.abort_transaction(ANSWER_MAX).unwrap(),
        }
        self.places
    }
}

fn sent(producer: &FutureProducer, topic: &str, records: &[Record]) -> Vec<(i32, i64)> {
    let mut waited = Vec::with_capacity(records.len());
    // As many as the producer's queue surely takes.
    for some in records.chunks(10_000) {
        let sent: Vec<DeliveryFuture> = some.iter().map(|one| send(producer, topic, one)).collect();
        for delivery in sent {
            let delivered = block_on(delivery).unwrap().unwrap();
            waited.push((delivered.partition, delivered.offset));
        }
    }
    waited
}

fn send(producer: &FutureProducer, topic: &str, record: &Record) -> DeliveryFuture {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: value.as_ref() });
    }
    let sent = producer.send_result(FutureRecord {
        topic,
        partition: record.partition,
        payload: record.value.as_ref(),
        key: record.key.as_ref(),
        timestamp: record.timestamp_ms,
        headers: Some(headers),
    });
    sent.map_err(|(error, _)| error).unwrap()
}
