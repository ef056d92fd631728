//! The `kafka` sink: each row a message, exactly once.
//!
//! In: files of an outbox. Out: per file one transaction, in which the file's position goes to a
//! compacted control topic together with its rows. The way of a row is `columns (key, partition,
//! headers) + value (bytes) → producer (a transaction) → control (the position)`. When to try again
//! is the engine's business.
//!
//! ```text
//! init transactions ─► read the control topic ─► begin ─► rows ─► position ─► commit
//!        ▲  fences and aborts what was before               any error, unknown: │
//!        └───────────────────────────────────────────────────────────────────◄──┘
//! ```

mod columns;
mod config;
mod control;
mod delivery;
mod limits;
mod producer;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use arrow::datatypes::Schema;
use serde_json::Value;
use sluice_core::{
    BuiltSink, Config, Delivery, Outlet, OutletContext, Problems, Result, SinkFactory,
};

use super::Factory;
use columns::Columns;
use config::{Settings, SinkConfig};
use delivery::KafkaDelivery;

impl SinkFactory for Factory {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn config_schema(&self) -> Value {
        crate::settings::schema_of::<SinkConfig>()
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        if let Err(faults) = Settings::read(config) {
            faults.report(config, problems);
        }
    }

    fn is_outlet(&self) -> bool {
        true
    }

    fn build(&self, config: &Config) -> Result<BuiltSink> {
        let settings = Settings::read(config).map_err(|faults| faults.first(config))?;
        Ok(BuiltSink::Outlet(Arc::new(KafkaSink { config: config.clone(), settings })))
    }
}

/// A topic that rows go to.
struct KafkaSink {
    /// As written: secrets are not in it.
    config: Config,
    settings: Settings,
}

impl Outlet for KafkaSink {
    fn target(&self) -> String {
        format!("topic {} at {}", self.settings.topic, self.settings.connection.bootstrap())
    }

    fn fits(&self, schema: &Schema) -> Result<()> {
        let columns = Columns::new(&self.settings, schema)?;
        value::fits(&self.settings, &columns.value_schema(schema))
    }

    fn open(&self, context: OutletContext) -> Result<Box<dyn Delivery>> {
        let config = self.config.with_secrets(&context.context.secrets);
        let settings = Settings::read(&config).map_err(|faults| faults.first(&config))?;
        Ok(Box::new(KafkaDelivery::new(settings, context)?))
    }
}
