//! What a topic takes: asked once per connection, so that a row that it never takes is refused
//! before it makes a transaction fail.
//!
//! In: a topic's settings, as far as they may be seen. Out: whether a message fits.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::types::RDKafkaErrorCode;
use sluice_core::{Error, Result};

use super::super::broker::Broker;
use super::super::config::Isolation;
use super::super::connection::failed;
use super::super::events::Events;
use super::config::Settings;

/// A broker that does not answer for this long is tried again later.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// What librdkafka counts with a message besides key and value, at most: brokers count it too.
const OVERHEAD_BYTES: usize = 70;

/// What messages of a topic may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Partitions.
    pub partitions: i64,
    /// Bytes of a message, all of it.
    pub bytes_max: u64,
    /// Whether each message needs a key.
    pub compacted: bool,
    /// How far a message's time may be behind the broker's, and ahead of it, milliseconds; none
    /// where the broker sets the time itself.
    pub times: Option<(i64, i64)>,
}

/// A message, as far as limits are about it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    pub bytes: usize,
    pub has_key: bool,
    pub partition: Option<i64>,
    pub timestamp: Option<i64>,
}

impl Limits {
    /// Why a message will never be taken; none when it will. `now_ms` is the time.
    pub(super) fn refuse(&self, message: Facts, now_ms: i64) -> Option<String> {
        let bytes = message.bytes + OVERHEAD_BYTES;
        if u64::try_from(bytes).unwrap_or(u64::MAX) > self.bytes_max {
            return Some(format!("the message is too large bytes={bytes} max={}", self.bytes_max));
        }
        if self.compacted && !message.has_key {
            return Some("the topic is compacted and the message has no key".to_string());
        }
        if let Some(partition) = message.partition
            && !(0..self.partitions).contains(&partition)
        {
            let partitions = self.partitions;
            return Some(format!(
                "the topic has no such partition partition={partition} partitions={partitions}"
            ));
        }
        let (behind, ahead) = self.times?;
        let age = now_ms.saturating_sub(message.timestamp?);
        let negative = message.timestamp? < 0;
        (negative || age > behind || age.saturating_neg() > ahead)
            .then(|| "the topic takes no message of this time".to_string())
    }

    /// What a topic's settings say; `wanted` bytes a message may have by the sink's own.
    fn of(settings: Option<&ConfigResource>, partitions: i64, wanted: u64) -> Self {
        let value = |name: &str| settings?.get(name)?.value.clone();
        let number = |name: &str| value(name)?.parse::<i64>().ok();
        let bytes = number("max.message.bytes").and_then(|n| u64::try_from(n).ok());
        let of_broker = value("message.timestamp.type").as_deref() == Some("LogAppendTime");
        let both = number("message.timestamp.difference.max.ms").unwrap_or(i64::MAX);
        let behind = number("message.timestamp.before.max.ms").unwrap_or(both);
        let ahead = number("message.timestamp.after.max.ms").unwrap_or(both);
        Self {
            partitions,
            bytes_max: bytes.map_or(wanted, |bytes| bytes.min(wanted)),
            compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            times: (!of_broker).then_some((behind, ahead)),
        }
    }
}

type Admin = AdminClient<Events>;

/// Looks at the topic, and makes the control topic where there is none. Errors: `Config` when the
/// topic is not there.
pub(super) async fn look(settings: &Settings) -> Result<Limits> {
    let bootstrap = settings.connection.bootstrap().to_string();
    let topic = settings.topic.clone();
    let connection = settings.connection.clone();
    let work = tokio::task::spawn_blocking(move || {
        let wrong = |e| failed("cannot look at a topic", &bootstrap, &e);
        // Asked first, and not by the administrator, who is not told why brokers refuse.
        let broker = Broker::new(&connection, Isolation::ReadCommitted.name())?;
        let partitions = broker.numbers(&topic)?.len();
        let client: ClientConfig = connection.client();
        let admin: Admin = client.create_with_context(Events::default()).map_err(wrong)?;
        if partitions == 0 {
            return Err(Error::config(format!("there is no such topic topic={topic}"))
                .hint("create it, with as many partitions as its readers need"));
        }
        Ok((admin, i64::try_from(partitions).unwrap_or(i64::MAX)))
    });
    let (admin, partitions) =
        work.await.map_err(|e| Error::bug("a look at a topic broke off").because(e))??;
    make_control_topic(&admin, settings).await?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT));
    let wanted = [ResourceSpecifier::Topic(&settings.topic)];
    // Who may write to a topic may not always see its settings: then the broker has to say no.
    let described = admin.describe_configs(&wanted, &options).await.ok();
    let described = described.and_then(|mut all| all.pop()).and_then(|one| one.ok());
    Ok(Limits::of(described.as_ref(), partitions, settings.message_bytes_max))
}

/// Settings of the control topic: only the newest position per sink is of use, so little is kept
/// and a reader is soon through.
const CONTROL_SETTINGS: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "3600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("min.compaction.lag.ms", "0"),
];

async fn make_control_topic(admin: &Admin, settings: &Settings) -> Result<()> {
    let name = &settings.control_topic;
    // As many copies as the brokers give a topic by themselves.
    let mut topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1));
    for (key, value) in CONTROL_SETTINGS {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new();
    let options = options.request_timeout(Some(ANSWER_WAIT)).operation_timeout(Some(ANSWER_WAIT));
    let bootstrap = settings.connection.bootstrap();
    let wrong = |e| failed("cannot make the control topic", bootstrap, &e);
    let made = admin.create_topics([&topic], &options).await.map_err(wrong)?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => Ok(()),
        // It may be there, and whoever writes to it not be allowed to make one: reading it tells.
        Some(Err((_, RDKafkaErrorCode::TopicAuthorizationFailed))) => Ok(()),
        Some(Err((_, RDKafkaErrorCode::ClusterAuthorizationFailed))) => Ok(()),
        Some(Err((_, code))) => Err(wrong(rdkafka::error::KafkaError::AdminOp(code))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_topic_never_takes_is_refused_before() {
        let limits =
            Limits { partitions: 3, bytes_max: 1_000, compacted: true, times: Some((500, 100)) };
        let fits = Facts { bytes: 900, has_key: true, partition: Some(2), timestamp: Some(9_600) };
        let cases = [
            (fits, None),
            (Facts { bytes: 990, ..fits }, Some("too large")),
            (Facts { has_key: false, ..fits }, Some("no key")),
            (Facts { partition: Some(3), ..fits }, Some("no such partition")),
            (Facts { partition: Some(-1), ..fits }, Some("no such partition")),
            (Facts { partition: None, timestamp: None, ..fits }, None),
            (Facts { timestamp: Some(9_499), ..fits }, Some("of this time")),
            (Facts { timestamp: Some(10_101), ..fits }, Some("of this time")),
            (Facts { timestamp: Some(-1), ..fits }, Some("of this time")),
        ];
        for (message, expected) in cases {
            let found = limits.refuse(message, 10_000);
            let as_expected = match (expected, &found) {
                (None, None) => true,
                (Some(part), Some(found)) => found.contains(part),
                _ => false,
            };
            assert!(as_expected, "{message:?} {found:?}");
        }
        let unknown = Limits::of(None, 1, 50);
        assert_eq!((unknown.bytes_max, unknown.compacted), (50, false));
    }
}
