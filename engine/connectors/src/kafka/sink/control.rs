//! The control topic: how far each sink is, written in the transactions that give it its rows.
//!
//! In: the name of a delivery. Out: the last position that was committed under it. The topic is
//! compacted: of each key only the newest message counts.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use sluice_core::{Error, OutboxPosition, Result};

use super::super::connection::{Connection, failed};
use super::super::events::Events;
use super::limits::ANSWER_WAIT;

/// How far a sink is: a message's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// The last file of the outbox that was committed.
    #[serde(flatten)]
    pub at: OutboxPosition,
    /// The rows that went with it.
    pub rows: u64,
}

/// What reading the topic's end found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The newest committed position under the key, or none.
    Held(Option<OutboxPosition>),
    /// Somebody else's transaction is open: what is behind it cannot be seen yet.
    Hidden,
}

/// Reads the topic to where it ends now. Blocks.
///
/// Readers of committed messages see nothing behind the first transaction that is open, whoever's it
/// is: only when they are let as far as the topic reached at the beginning, our own position cannot
/// be hidden behind another's.
pub(super) fn read(connection: &Connection, topic: &str, key: &str) -> Result<Found> {
    let bootstrap = connection.bootstrap();
    let wrong = |e: KafkaError| failed("cannot read the control topic", bootstrap, &e);
    let consumer = |isolation: &str| -> Result<BaseConsumer<Events>> {
        let mut client = connection.client();
        client.set("isolation.level", isolation).set("enable.partition.eof", "true");
        client.set("group.id", "sluice-control").set("enable.auto.commit", "false");
        client.create_with_context(Events::default()).map_err(wrong)
    };
    let (all, committed) = (consumer("read_uncommitted")?, consumer("read_committed")?);
    let metadata = all.fetch_metadata(Some(topic), ANSWER_WAIT).map_err(wrong)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let partitions: Vec<i32> = found.iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
    if partitions.is_empty() {
        return Err(Error::unavailable(format!("the control topic is not there topic={topic}"))
            .hint("create it with `cleanup.policy=compact`, or let the sink create topics"));
    }
    let mut wanted = TopicPartitionList::new();
    let mut left = BTreeSet::new();
    for partition in partitions {
        let bounds = |c: &BaseConsumer<Events>| c.fetch_watermarks(topic, partition, ANSWER_WAIT);
        let (low, end) = bounds(&all).map_err(wrong)?;
        let (_, visible) = bounds(&committed).map_err(wrong)?;
        if visible < end {
            return Ok(Found::Hidden);
        }
        if low < end {
            let added = wanted.add_partition_offset(topic, partition, Offset::Beginning);
            added.map_err(wrong)?;
            left.insert(partition);
        }
    }
    if left.is_empty() {
        return Ok(Found::Held(None));
    }
    committed.assign(&wanted).map_err(wrong)?;
    newest(&committed, key, left).map(Found::Held).map_err(wrong)
}

/// The newest position under `key` up to the ends of all partitions.
fn newest(
    consumer: &BaseConsumer<Events>,
    key: &str,
    mut left: BTreeSet<i32>,
) -> Result<Option<OutboxPosition>, KafkaError> {
    let mut held: Option<OutboxPosition> = None;
    let mut silent = Duration::ZERO;
    while !left.is_empty() {
        const STEP: Duration = Duration::from_millis(100);
        match consumer.poll(STEP) {
            Some(Ok(message)) => {
                silent = Duration::ZERO;
                let found = message.payload().filter(|_| message.key() == Some(key.as_bytes()));
                let found = found.and_then(|p| serde_json::from_slice::<Held>(p).ok());
                // A topic of several partitions has no order but the positions' own.
                held = held.max(found.map(|found| found.at));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                left.remove(&partition);
            }
            Some(Err(error)) => return Err(error),
            None => {
                silent += STEP;
                if silent >= ANSWER_WAIT {
                    return Err(KafkaError::NoMessageReceived);
                }
            }
        }
    }
    Ok(held)
}
