//! Delivers the files of one outbox to a topic, a transaction per file.
//!
//! In: rows of a file. Out: messages that count from the commit on, together with the file's
//! position. It keeps one thing between attempts: rows that a broker was seen to refuse.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;
use sluice_core::{
    Delivery, Error, OutboxPosition, OutboxRows, OutletContext, Refused, Reservation, Result,
};

use super::columns::Columns;
use super::config::Settings;
use super::control::{self, Found, Held};
use super::limits::{self, Facts, Limits};
use super::producer::{Message, Producer};
use super::value::{self, EncodeMessages};
use crate::message::{Registry, SchemaType};

/// Messages that may be on their way, at most: a second of a fast broker.
const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// With less a producer waits for every batch.
const QUEUE_BYTES_MIN: usize = 4 * 1024 * 1024;

/// The part of the memory pool that messages on their way may take.
const QUEUE_SHARE: usize = 16;

/// Looks at the control topic that may find somebody else's transaction open, and the wait between
/// them. Others write there right before they commit, so that is soon over; where a runner died in
/// between, brokers end it after a minute.
const LOOKS_MAX: u32 = 400;
const LOOK_WAIT: Duration = Duration::from_millis(250);

/// Delivers one outbox.
pub(super) struct KafkaDelivery {
    settings: Settings,
    context: OutletContext,
    columns: Columns,
    /// The transactional id; also the key in the control topic.
    name: String,
    memory: Box<dyn Reservation>,
    queue_bytes: usize,
    connected: Option<(Producer, Limits)>,
    /// The number of the values' schema in the registry; 0 where there is none.
    schema_id: u32,
    /// What is being delivered.
    at: Option<OutboxPosition>,
    rows: u64,
    /// Rows of the file at `at` that a broker refused in an attempt before.
    refused: BTreeMap<u64, String>,
    /// A broker refused something: messages go one by one until it is known what.
    one_by_one: bool,
}

impl KafkaDelivery {
    /// Nobody is asked yet. Errors: `Config` when the rows do not go with the settings.
    pub(super) fn new(settings: Settings, context: OutletContext) -> Result<Self> {
        let columns = Columns::new(&settings, &context.schema)?;
        let name = format!("sluice/{}/{}/{}", context.context.job, context.sink, context.chain);
        let memory = &context.context.memory;
        let share = memory.bytes_max().map_or(usize::MAX, |bytes| bytes / QUEUE_SHARE);
        Ok(Self {
            columns,
            name,
            memory: memory.reserve(&format!("messages of sink {}", context.sink)),
            queue_bytes: share.clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX),
            settings,
            context,
            connected: None,
            schema_id: 0,
            at: None,
            rows: 0,
            refused: BTreeMap::new(),
            one_by_one: false,
        })
    }

    async fn connect(&mut self) -> Result<()> {
        // What the last one did not commit is void from here on, and its name is the next one's.
        self.disconnect().await?;
        let limits = limits::look(&self.settings).await?;
        self.schema_id = self.register().await?;
        self.memory.insist(self.queue_bytes)?;
        let (settings, of, name) = (self.settings.clone(), limits.clone(), self.name.clone());
        let (one_by_one, queue) = (self.one_by_one, self.queue_bytes);
        let producer =
            blocking(move || Producer::connect(&settings, &of, (&name, one_by_one, queue))).await?;
        self.connected = Some((producer, limits));
        Ok(())
    }

    /// Registers the schema of the values where they need one.
    async fn register(&self) -> Result<u32> {
        let schema = self.columns.value_schema(&self.context.schema);
        let (Some((config, subject)), Some(text)) =
            (&self.settings.registry, value::registered(&self.settings, &schema)?)
        else {
            return Ok(0);
        };
        let registry = Registry::new(config, self.context.context.clock.clone())?;
        registry.register(subject, &text, SchemaType::Avro).await
    }

    /// Dropping a producer waits for what it has on its way.
    async fn disconnect(&mut self) -> Result<()> {
        match self.connected.take() {
            None => Ok(()),
            Some((producer, _)) => {
                blocking(move || {
                    drop(producer);
                    Ok(())
                })
                .await
            }
        }
    }

    fn connected(&self) -> Result<(Producer, Limits)> {
        self.connected.clone().ok_or_else(|| Error::bug("a sink delivers before it is attached"))
    }

    async fn send_all(&mut self, mut rows: OutboxRows) -> Result<BTreeMap<u64, String>> {
        let (producer, limits) = self.connected()?;
        let begins = producer.clone();
        blocking(move || begins.begin()).await?;
        let mut sending = Sending {
            producer: producer.clone(),
            limits,
            topic: self.settings.topic.clone(),
            columns: self.columns.clone(),
            encoder: value::encoder(
                &self.settings,
                &self.columns.value_schema(&self.context.schema),
                self.schema_id,
            )?,
            known: self.refused.clone(),
            refused: self.refused.clone(),
            next: 0,
        };
        while let Some(batch) = rows.next().await {
            let (batch, now_ms) = (batch?, self.context.context.clock.wall_ms());
            sending = blocking(move || {
                sending.send(&batch, now_ms)?;
                Ok(sending)
            })
            .await?;
        }
        blocking(move || producer.flush()).await?;
        self.rows = sending.next - sending.refused.len() as u64;
        Ok(sending.refused)
    }
}

#[async_trait]
impl Delivery for KafkaDelivery {
    async fn attach(&mut self) -> Result<Option<OutboxPosition>> {
        self.connect().await?;
        let clock = self.context.context.clock.clone();
        for _ in 0..LOOKS_MAX {
            let (connection, key) = (self.settings.connection.clone(), self.name.clone());
            let topic = self.settings.control_topic.clone();
            match blocking(move || control::read(&connection, &topic, &key)).await? {
                Found::Held(at) => return Ok(at),
                Found::Hidden => clock.sleep(LOOK_WAIT).await,
            }
        }
        let topic = &self.settings.control_topic;
        Err(Error::unavailable(format!(
            "a transaction on the control topic stays open topic={topic}"
        ))
        .hint("brokers end it after its time-out; `kafka-transactions.sh` shows whose it is"))
    }

    async fn deliver(&mut self, at: OutboxPosition, rows: OutboxRows) -> Result<Vec<Refused>> {
        if self.at != Some(at) {
            self.at = Some(at);
            self.refused.clear();
            if std::mem::take(&mut self.one_by_one) {
                self.connect().await?;
            }
        }
        let sent = self.send_all(rows).await;
        if sent.is_err()
            && let Some((producer, _)) = &self.connected
        {
            let refused = producer.refused();
            // In a batch of several the broker does not say which it means.
            if !refused.is_empty() && std::mem::replace(&mut self.one_by_one, true) {
                self.refused.extend(refused);
            }
        }
        let refused = sent?.into_iter();
        Ok(refused.map(|(row, reason)| Refused { row, reason }).collect())
    }

    async fn commit(&mut self) -> Result<()> {
        let at = self.at.ok_or_else(|| Error::bug("a sink commits what it was not given"))?;
        let (producer, _) = self.connected()?;
        let held = Held { at, rows: self.rows };
        let json = |e| Error::bug("cannot write a position as json").because(e);
        let value = serde_json::to_vec(&held).map_err(json)?;
        let (topic, key) = (self.settings.control_topic.clone(), self.name.clone());
        blocking(move || {
            producer.send_position(&topic, &key, &value)?;
            producer.commit()
        })
        .await
    }
}

/// The rows of a file on their way.
struct Sending {
    producer: Producer,
    limits: Limits,
    topic: String,
    columns: Columns,
    encoder: Box<dyn EncodeMessages>,
    /// Refused by a broker before.
    known: BTreeMap<u64, String>,
    refused: BTreeMap<u64, String>,
    /// The number of the next row.
    next: u64,
}

impl Sending {
    fn send(&mut self, batch: &RecordBatch, now_ms: i64) -> Result<()> {
        let parts = self.columns.of(batch)?;
        let values = self.encoder.encode(&parts.value)?;
        let first = self.next;
        for (row, reason) in &values.refused {
            // A tombstone needs no value.
            if !parts.is_tombstone(*row) {
                self.refused.insert(first + *row as u64, reason.clone());
            }
        }
        for row in 0..batch.num_rows() {
            let number = first + row as u64;
            self.next = number + 1;
            if self.known.contains_key(&number) || self.refused.contains_key(&number) {
                continue;
            }
            let key = parts.key(row)?;
            let value = (!parts.is_tombstone(row)).then(|| values.get(row));
            let headers = parts.headers(row)?;
            let bytes = key.as_ref().map_or(0, Vec::len)
                + value.map_or(0, <[u8]>::len)
                + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            let (partition, timestamp) = (parts.partition(row), parts.timestamp(row));
            let facts = Facts { bytes, has_key: key.is_some(), partition, timestamp };
            if let Some(reason) = self.limits.refuse(facts, now_ms) {
                self.refused.insert(number, reason);
                continue;
            }
            let message = Message {
                row: usize::try_from(number).unwrap_or(usize::MAX - 1),
                key: key.as_deref(),
                value,
                partition: partition.and_then(|n| i32::try_from(n).ok()),
                timestamp,
                headers,
            };
            self.producer.send(&self.topic, message)?;
        }
        Ok(())
    }
}

/// Runs what waits for brokers on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let work = tokio::task::spawn_blocking(work);
    work.await.map_err(|e| Error::bug("a talk with brokers broke off").because(e))?
}
