//! Counting messages again, for `audit`: what a range of offsets holds, and what the gaps in it are.
//!
//! In: ranges that epochs took. Out: per range the messages a reader gets, those of aborted
//! transactions, marks, compacted ones and tombstones that the source passes over, and positions
//! that retention deleted. Values are not decoded.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use sluice_core::{Advance, Error, Recount, Result};

use super::broker::Broker;
use super::config::{Isolation, Settings};
use super::connection::{ANSWER_WAIT_MS, Connection, failed};
use super::events::Events;
use super::partitions::{generation, parse_key};

/// Counts each range, without tombstones where the source passes them over. Blocks.
pub(super) fn recount(
    settings: &Settings,
    skip_tombstones: bool,
    ranges: &[Advance],
) -> Result<Vec<Recount>> {
    let connection = settings.connection.connection();
    let broker = Broker::new(&connection, Isolation::ReadUncommitted.name())?;
    // What an earlier topic of the same name held cannot be counted any more.
    let mut lives: BTreeMap<&str, u32> = BTreeMap::new();
    for range in ranges {
        let Some((topic, _)) = parse_key(&range.partition) else { continue };
        let newest = lives.entry(topic).or_default();
        *newest = generation(&range.partition).max(*newest);
    }
    let mut counted = Vec::new();
    for range in ranges {
        let (Some((topic, number)), Some(from), Some(to)) =
            (parse_key(&range.partition), range.from.at(), range.to.at())
        else {
            continue;
        };
        let begin = match lives.get(topic) == Some(&generation(&range.partition)) {
            true => from.max(broker.bounds(topic, number)?.low).min(to),
            false => to,
        };
        let count = |isolation: Isolation| -> Result<u64> {
            if begin >= to {
                return Ok(0);
            }
            count(&connection, (isolation, skip_tombstones), (topic, number), (begin, to))
        };
        let rows = count(settings.isolation)?;
        let all = match settings.isolation {
            Isolation::ReadCommitted => count(Isolation::ReadUncommitted)?,
            Isolation::ReadUncommitted => rows,
        };
        counted.push(Recount {
            partition: range.partition.clone(),
            from,
            to,
            rows,
            aborted: all.saturating_sub(rows),
            markers: (to - begin).saturating_sub(all),
            gone: begin - from,
            compacts: compacts(&connection, topic)?,
        });
    }
    Ok(counted)
}

/// How many messages a reader gets in a range that is there; tombstones may not count.
fn count(
    connection: &Connection,
    (isolation, skip_tombstones): (Isolation, bool),
    (topic, number): (&str, i32),
    (from, to): (u64, u64),
) -> Result<u64> {
    let what = format!("messages cannot be counted partition={topic}/{number}");
    let wrong = |e: &KafkaError| failed(&what, connection.bootstrap(), e);
    let consumer: BaseConsumer<Events> = connection
        .client()
        .set("group.id", "sluice-audit")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation.name())
        .create_with_context(Events::default())
        .map_err(|e| wrong(&e))?;
    let mut list = TopicPartitionList::new();
    let at = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
    list.add_partition_offset(topic, number, at).map_err(|e| wrong(&e))?;
    consumer.assign(&list).map_err(|e| wrong(&e))?;
    let mut rows = 0;
    loop {
        match consumer.poll(Duration::from_millis(ANSWER_WAIT_MS)) {
            Some(Ok(message)) if message.offset() >= i64::try_from(to).unwrap_or(i64::MAX) => break,
            Some(Ok(message)) if skip_tombstones && message.payload().is_none() => {}
            Some(Ok(_)) => rows += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(rdkafka::types::RDKafkaErrorCode::BrokerTransportFailure) => {}
                _ => return Err(wrong(&error)),
            },
            None => {
                return Err(Error::unavailable(what.clone()).because("the broker does not answer"));
            }
        }
        if rows == to - from {
            break;
        }
    }
    Ok(rows)
}

/// Whether the topic is compacted.
fn compacts(connection: &Connection, topic: &str) -> Result<bool> {
    let what = format!("the settings of a topic cannot be read topic={topic}");
    let wrong = |e: &KafkaError| failed(&what, connection.bootstrap(), e);
    let admin: AdminClient<Events> =
        connection.client().create_with_context(Events::default()).map_err(|e| wrong(&e))?;
    let options = AdminOptions::new().request_timeout(Some(Duration::from_millis(ANSWER_WAIT_MS)));
    let asked = [ResourceSpecifier::Topic(topic)];
    let told = futures::executor::block_on(admin.describe_configs(asked.iter(), &options));
    let told = told.map_err(|e| wrong(&e))?;
    let entries = told.into_iter().flatten().flat_map(|resource| resource.entries);
    let policy = entries.into_iter().find(|entry| entry.name == "cleanup.policy");
    Ok(policy.and_then(|p| p.value).is_some_and(|value| value.contains("compact")))
}
