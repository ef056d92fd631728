//! The processes of a job with shards as members of a consumer group.
//!
//! In: a topic, a number of shards. Out: which of them this process is to run. Shard k goes with
//! partition k of the topic: the group shares out those partitions, and with them the shards. No
//! message is read here: the source of each shard has a consumer of its own that is in no group.
//! Nothing correct rests on the group; two who run one shard at a time meet at its seal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::{ClientConfig, ClientContext};
use sluice_core::{Error, Membership, Result};
use tokio::sync::watch;

use crate::kafka::broker::Broker;
use crate::kafka::connection::{Connection, failed};

/// A member that is silent for this long is no longer one, and others get its shards: longer than a
/// pause of a busy machine, short enough to be waited for.
const SESSION_MS: u32 = 10_000;

/// How long one call of the client may block: as long as leaving the group may take.
const POLL: Duration = Duration::from_millis(200);

/// A member of the group, for as long as it lives.
pub(super) struct Member {
    told: watch::Receiver<Told>,
    asked: bool,
    left: Arc<AtomicBool>,
}

/// What the group told last.
#[derive(Debug, Clone, Default)]
struct Told {
    shards: BTreeSet<u32>,
    /// Why there will be no more news.
    over: Option<String>,
}

impl Member {
    /// Joins `group`, whose members share out the partitions of `topic`, as `broker` tells them. Errors:
    /// `Config` when the topic has fewer partitions than there are shards.
    pub(super) async fn join(
        connection: Connection,
        broker: Broker,
        topic: String,
        group: String,
        shards: u32,
    ) -> Result<Self> {
        let (tell, told) = watch::channel(Told::default());
        let context = Listener { topic: topic.clone(), shards, tell };
        let joined = tokio::task::spawn_blocking(move || {
            check(&broker, &topic, shards)?;
            let consumer = consumer(&connection, &group, context)?;
            let subscribed = consumer.subscribe(&[&topic]);
            let what = format!("the group cannot be joined group={group}");
            subscribed.map_err(|e| failed(&what, connection.bootstrap(), &e))?;
            Ok::<_, Error>(consumer)
        });
        let consumer = joined.await.map_err(|e| Error::bug("joining broke off").because(e))??;
        let left = Arc::new(AtomicBool::new(false));
        let leaving = left.clone();
        std::thread::Builder::new()
            .name("sluice-group".to_string())
            .spawn(move || listen(&consumer, &leaving))
            .map_err(|e| Error::unavailable("cannot start a thread").because(e))?;
        Ok(Self { told, asked: false, left })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The thread leaves the group: with the others' next heartbeat they share out anew.
        self.left.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Membership for Member {
    async fn next(&mut self) -> Result<BTreeSet<u32>> {
        if self.asked && self.told.changed().await.is_err() {
            return Err(Error::unavailable("the consumer group was lost track of"));
        }
        self.asked = true;
        let told = self.told.borrow_and_update().clone();
        match told.over {
            None => Ok(told.shards),
            Some(why) => {
                Err(Error::unavailable("the consumer group cannot be a member of").because(why))
            }
        }
    }
}

fn consumer(
    connection: &Connection,
    group: &str,
    context: Listener,
) -> Result<BaseConsumer<Listener>> {
    let mut client: ClientConfig = connection.client();
    client.set("group.id", group);
    if connection.option("session.timeout.ms").is_none() {
        client.set("session.timeout.ms", SESSION_MS.to_string());
    }
    // One after another to each member, so that neighbours go to different ones.
    client.set("partition.assignment.strategy", "roundrobin");
    client.set("enable.auto.commit", "false");
    client.set("auto.offset.reset", "latest");
    // What comes before a partition is paused is next to nothing.
    client.set("queued.min.messages", "1");
    client.set("queued.max.messages.kbytes", "1");
    client
        .create_with_context(context)
        .map_err(|e| failed("no client can be made", connection.bootstrap(), &e))
}

fn check(broker: &Broker, topic: &str, shards: u32) -> Result<()> {
    let partitions = broker.numbers(topic)?.len();
    if partitions >= shards as usize {
        return Ok(());
    }
    Err(Error::config(format!(
        "the topic has fewer partitions than the job has shards topic={topic} \
         partitions={partitions} shards={shards}"
    ))
    .hint("give the topic more partitions, or the job fewer shards"))
}

/// Serves the group until it is left.
fn listen(consumer: &BaseConsumer<Listener>, left: &AtomicBool) {
    while !left.load(Ordering::Relaxed) {
        match consumer.poll(POLL) {
            // Messages of a partition that is not paused yet are the sources' to read.
            None | Some(Ok(_)) => {}
            Some(Err(error)) => match consumer.client().fatal_error() {
                Some((_, why)) => {
                    consumer.context().tell.send_modify(|told| told.over = Some(why));
                    return;
                }
                None => tracing::debug!(%error, "the consumer group"),
            },
        }
    }
}

/// Hears what the group shares out.
struct Listener {
    topic: String,
    shards: u32,
    tell: watch::Sender<Told>,
}

impl ClientContext for Listener {}

impl ConsumerContext for Listener {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                if let Err(error) = consumer.pause(partitions) {
                    tracing::debug!(%error, "partitions of the group were not paused");
                }
                let ours = partitions.elements_for_topic(&self.topic);
                let numbers = ours.iter().filter_map(|p| u32::try_from(p.partition()).ok());
                let shards = numbers.filter(|number| *number < self.shards).collect();
                self.tell.send_modify(|told| told.shards = shards);
            }
            // What is taken away is soon given to somebody, who says so by taking over.
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "the consumer group"),
        }
    }
}
