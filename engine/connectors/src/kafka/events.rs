//! What librdkafka says besides messages: its log goes to ours.
//!
//! In: callbacks. Out: log lines, whether all brokers are away, why a broker will not have us, and how
//! far a partition was read whose end came. It decides nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The context of a client.
#[derive(Debug, Default)]
pub(super) struct Events {
    down: AtomicBool,
    refusal: Mutex<Option<Refusal>>,
    passed: Mutex<Option<u64>>,
}

/// Why a broker will not have us: calls that wait for it only tell that nobody answers.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub code: RDKafkaErrorCode,
    pub reason: String,
}

impl Events {
    /// Whether no broker could be reached when one was last tried.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Says whether a broker answered.
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// What a broker refused, unless all was well since.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().clone()
    }

    /// Says that brokers have us.
    pub(super) fn set_welcome(&self) {
        *self.refusal.lock() = None;
    }

    /// The offset before which a partition was read, once: of the one whose end came from its queue just
    /// now. None where librdkafka did not say.
    pub(super) fn passed(&self) -> Option<u64> {
        self.passed.lock().take()
    }

    /// Takes note of an error that belongs to no message.
    pub(super) fn met(&self, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.set_down(true);
        }
        tracing::debug!(%error, "kafka");
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Brokers come and go; what that means for the job is said by the job.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "kafka: {message}");
            }
            _ => tracing::debug!(facility, "kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            *self.passed.lock() = offset_of(reason);
            return;
        }
        self.met(&error);
        if let Some(code @ (RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)) = code {
            *self.refusal.lock() = Some(Refusal { code, reason: reason.to_string() });
        }
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Events {}

/// The offset of an end, which comes in words only: the Rust client leaves out where it is.
fn offset_of(reason: &str) -> Option<u64> {
    let (_, offset) = reason.split_once(" at offset ")?;
    offset.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_where_librdkafka_says() {
        let cases = [
            (
                "Fetch from broker 1 reached end of partition at offset 17 (HighwaterMark 20)",
                Some(17),
            ),
            ("Fetch from broker 1 reached end of partition at offset 0 (HighwaterMark 0)", Some(0)),
            ("Fetch from broker 1 reached end of partition", None),
            ("reached end at offset -1001 (HighwaterMark -1)", None),
        ];
        for (reason, offset) in cases {
            assert_eq!(offset_of(reason), offset, "{reason}");
        }
    }
}
