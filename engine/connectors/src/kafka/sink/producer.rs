//! A transactional producer: messages of one transaction at a time, and what became of them.
//!
//! Everything here blocks; callers run it on threads for that. After any error but a full queue the
//! producer is dropped, and with it what was not committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use sluice_core::{Error, Result};

use super::super::connection::failed;
use super::super::events::Events;
use super::config::Settings;
use super::limits::{ANSWER_WAIT, Limits};

/// How long a commit may take: brokers that lead its partitions may just be elected. What was begun
/// when it runs out happened or not.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// The number that the message with the position has among the rows.
const POSITION: usize = usize::MAX;

/// What became of messages that were handed over.
#[derive(Debug, Default)]
struct Reports {
    events: Events,
    failed: Mutex<BTreeMap<usize, RDKafkaErrorCode>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, row: usize) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(row, code);
        }
    }
}

/// One row's message.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    pub row: usize,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
    pub headers: Vec<(&'a str, Vec<u8>)>,
}

/// A producer whose transactions nobody else of its name can commit any more.
#[derive(Clone)]
pub(super) struct Producer {
    inner: Arc<BaseProducer<Reports>>,
    bootstrap: String,
}

impl Producer {
    /// Connects, fences whoever had the name before, and aborts what that one left open.
    pub(super) fn connect(
        settings: &Settings,
        limits: &Limits,
        (name, one_by_one, queue_bytes): (&str, bool, usize),
    ) -> Result<Self> {
        let mut client = settings.connection.client();
        client.set("transactional.id", name).set("enable.idempotence", "true").set("acks", "all");
        client.set("compression.codec", settings.compression.name());
        // As Java's producers choose it, so that readers who join topics find keys together.
        client.set("partitioner", "murmur2_random");
        client.set("message.max.bytes", limits.bytes_max.max(1_000).to_string());
        // Brokers hold a batch against the limit of a message.
        let batch = limits.bytes_max.clamp(1_000, 1_000_000);
        client.set("batch.size", batch.to_string());
        client.set("queue.buffering.max.kbytes", (queue_bytes / 1024).max(1).to_string());
        client.set("queue.buffering.max.messages", "1000000");
        // One option by two names: with both it is left to chance which of them counts.
        let lingers = ["linger.ms", "queue.buffering.max.ms"];
        if lingers.iter().all(|name| settings.connection.option(name).is_none()) {
            client.set("linger.ms", "20");
        }
        if one_by_one {
            client.set("batch.num.messages", "1");
        }
        let bootstrap = settings.connection.bootstrap().to_string();
        let wrong = |e| failed("cannot make a producer", &bootstrap, &e);
        let inner = client.create_with_context(Reports::default()).map_err(wrong)?;
        let producer = Self { inner: Arc::new(inner), bootstrap };
        let begun = producer.inner.init_transactions(ANSWER_WAIT);
        begun.map_err(|e| producer.wrong("cannot begin transactions", e))?;
        Ok(producer)
    }

    /// Begins a transaction.
    pub(super) fn begin(&self) -> Result<()> {
        let begun = self.inner.begin_transaction();
        begun.map_err(|e| self.wrong("cannot begin a transaction", e))
    }

    /// Hands a message over; waits while the queue is full.
    pub(super) fn send(&self, topic: &str, message: Message<'_>) -> Result<()> {
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(topic, message.row);
        record.key = message.key;
        record.payload = message.value;
        record.partition = message.partition;
        record.timestamp = message.timestamp;
        if !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
            for (key, value) in &message.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            record.headers = Some(headers);
        }
        loop {
            match self.inner.send(record) {
                Ok(()) => {
                    self.inner.poll(Duration::ZERO);
                    return self.ensure_well();
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.inner.poll(Duration::from_millis(100));
                    self.ensure_well()?;
                }
                Err((error, _)) => return Err(self.wrong("a message is not taken", error)),
            }
        }
    }

    /// The position's message, in the same transaction.
    pub(super) fn send_position(&self, topic: &str, key: &str, value: &[u8]) -> Result<()> {
        let (key, value) = (Some(key.as_bytes()), Some(value));
        self.send(topic, Message { row: POSITION, key, value, ..Message::default() })
    }

    /// Waits until the brokers have everything that was handed over.
    pub(super) fn flush(&self) -> Result<()> {
        let flushed = self.inner.flush(COMMIT_WAIT);
        self.ensure_well()?;
        flushed.map_err(|e| self.wrong("messages are on their way for too long", e))
    }

    /// Commits.
    pub(super) fn commit(&self) -> Result<()> {
        let committed = self.inner.commit_transaction(COMMIT_WAIT);
        committed.map_err(|e| self.wrong("a transaction was not committed", e))
    }

    /// Rows that a broker refused for what they are, by their numbers; taken away.
    pub(super) fn refused(&self) -> Vec<(u64, String)> {
        let failed = self.failed();
        let refused = failed.iter().filter(|(row, code)| **row != POSITION && is_of_row(**code));
        refused.map(|(row, code)| (*row as u64, format!("the broker refuses it: {code}"))).collect()
    }

    fn failed(&self) -> BTreeMap<usize, RDKafkaErrorCode> {
        let failed = &self.inner.context().failed;
        failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Errors when a message failed: with it the transaction.
    fn ensure_well(&self) -> Result<()> {
        let failed = self.failed();
        // What a broker says of a row is worth more than that others were thrown away with it.
        let worst = failed.values().find(|code| is_of_row(**code));
        let worst = worst.or_else(|| failed.values().next());
        match worst {
            None => Ok(()),
            Some(code) => {
                let error = KafkaError::MessageProduction(*code);
                Err(self.wrong("a message was not delivered", error))
            }
        }
    }

    /// Our error. Somebody else has the name now, or it may pass.
    fn wrong(&self, what: &str, error: KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        let fenced = matches!(
            error.rdkafka_error_code(),
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
        );
        // librdkafka tells a fatal error of idempotence by one code and why by another.
        let fatal = self.inner.client().fatal_error().map(|(code, _)| code);
        if fenced || matches!(fatal, Some(Code::Fenced | Code::ProducerFenced)) {
            return Error::fenced(format!(
                "another runner delivers now bootstrap={}",
                self.bootstrap
            ))
            .because(error.to_string())
            .hint("the other runner goes on; stop it before you start this one again");
        }
        failed(what, &self.bootstrap, &error)
    }
}

/// Whether it is the row's fault, whenever it is sent.
fn is_of_row(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidTimestamp
            | Code::InvalidRecord
            | Code::InvalidMessage
    )
}
