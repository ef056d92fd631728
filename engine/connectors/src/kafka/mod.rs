//! The `kafka` connector: messages of Apache Kafka and what speaks its protocol.
//!
//! In: the settings of [`config`]. Out: a source of rows. The way of a message is `broker (what is
//! there?) → partitions, place (where to go on?) → fetch (a thread, ahead of the epochs) →
//! source (intakes) → rows`; formats are [`crate::message`]'s. The engine's manifests keep the
//! offsets: those of a consumer group are only for people. The way out is `sink`'s.

mod ahead;
mod broker;
pub mod config;
pub mod connection;
mod events;
mod fetch;
mod group;
mod partitions;
mod place;
mod recount;
mod rows;
mod sink;
mod source;
mod topic_id;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{
    Advance, Config, Context, Error, Membership, Offset, Problems, Reader, Recount, Result, Source,
    SourceFactory, Standing,
};

use broker::Broker;
use config::{Settings, SourceConfig};
use group::Member;
use rows::Again;
use source::KafkaSource;

use crate::format::message::MessageFormat;

/// Makes `kafka` sources.
#[derive(Debug, Default, Clone, Copy)]
pub struct Factory;

#[async_trait]
impl SourceFactory for Factory {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn config_schema(&self) -> Value {
        crate::settings::schema_of::<SourceConfig>()
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        if let Err(faults) = Settings::read(config) {
            faults.report(config, problems);
        }
    }

    fn schema(&self, config: &Config) -> Result<SchemaRef> {
        Ok(Settings::read(config).map_err(|faults| faults.first(config))?.schema())
    }

    fn retracts(&self, _config: &Config) -> bool {
        false
    }

    fn shards(&self, config: &Config) -> Result<()> {
        // What else is wrong with the settings is told by `check`.
        match Settings::read(config).map(|settings| settings.first_topic().is_some()) {
            Ok(false) => Err(nameless()),
            _ => Ok(()),
        }
    }

    async fn membership(
        &self,
        config: &Config,
        context: &Context,
        shards: u32,
    ) -> Result<Option<Box<dyn Membership>>> {
        let settings = Settings::of(config, &context.secrets)?;
        let topic = settings.first_topic().ok_or_else(nameless)?.to_string();
        let (connection, isolation) = (settings.connection.connection(), settings.isolation);
        let broker = Broker::new(&connection, isolation.name())?;
        // That of the offsets is nobody's: who commits to a group with members has to be one.
        let group = settings.group_of(&context.job, &config.name);
        let group = format!("{group}-shards");
        let member = Member::join(connection, broker, topic, group, shards).await?;
        Ok(Some(Box::new(member)))
    }

    async fn again(&self, config: &Config, context: &Context) -> Result<Option<Arc<dyn Reader>>> {
        let settings = Settings::of(config, &context.secrets)?;
        let format = format(&settings, config, context)?;
        Ok(Some(Arc::new(Again(settings.reader(format)))))
    }

    async fn build(&self, config: &Config, context: &Context) -> Result<Box<dyn Source>> {
        let settings = Settings::of(config, &context.secrets)?;
        let format = format(&settings, config, context)?;
        Ok(Box::new(KafkaSource::new(&config.name, settings, format, context)?))
    }

    async fn standing(&self, config: &Config, context: &Context) -> Result<Vec<Standing>> {
        let (_, topics) = look(config, context).await?;
        let of_topic = |topic: &broker::Topic| {
            let standing = |b: &broker::Bounds| Standing {
                partition: format!("{}/{}", topic.name, b.number),
                first: Offset::At(b.low),
                end: Offset::At(b.high),
            };
            topic.partitions.iter().map(standing).collect::<Vec<_>>()
        };
        Ok(topics.iter().flat_map(of_topic).collect())
    }

    async fn recount(
        &self,
        config: &Config,
        context: &Context,
        ranges: &[Advance],
    ) -> Result<Vec<Recount>> {
        let settings = Settings::of(config, &context.secrets)?;
        let skip = settings.skips_tombstones(format(&settings, config, context)?.as_ref());
        let ranges = ranges.to_vec();
        let count = tokio::task::spawn_blocking(move || recount::recount(&settings, skip, &ranges));
        count.await.map_err(|e| Error::bug("a recount broke off").because(e))?
    }
}

/// Why shards do not go with patterns alone. Members of a group who subscribe to different topics are
/// each given all partitions of theirs, and with them all shards; and which topic of a pattern comes
/// first changes when another one is created.
fn nameless() -> Error {
    Error::config(
        "a job with shards names at least one topic: its runners share out the partitions of one \
         that stays the same",
    )
    .hint("name a topic beside the pattern: `topics: [orders, \"^orders-.*\"]`")
}

/// The settings of a source, and what there is of its topics now.
async fn look(config: &Config, context: &Context) -> Result<(Settings, Vec<broker::Topic>)> {
    let settings = Settings::of(config, &context.secrets)?;
    let asked = settings.clone();
    let look = tokio::task::spawn_blocking(move || {
        let connection = asked.connection.connection();
        Broker::new(&connection, asked.isolation.name())?.look(&asked.topics)
    });
    let topics = look.await.map_err(|e| Error::bug("a look at topics broke off").because(e))??;
    Ok((settings, topics))
}

/// Who decodes the messages of a source.
fn format(
    settings: &Settings,
    config: &Config,
    context: &Context,
) -> Result<Arc<dyn MessageFormat>> {
    let built = settings.format.build(config.schema.as_ref(), context.clock.clone());
    built.map_err(|faults| faults.first(config))
}
