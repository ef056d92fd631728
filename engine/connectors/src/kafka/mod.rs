//! The `kafka` connector: messages of Apache Kafka and what speaks its protocol.
//!
//! In: settings of a job file. Out: a sink that gives each row to a topic exactly once. How a
//! cluster is reached is [`connection`]'s.

pub mod connection;
mod sink;

use serde_json::Value;
use sluice_core::{BuiltSink, Config, Problems, Result, SinkFactory};

/// Makes `kafka` sinks.
#[derive(Debug, Default, Clone, Copy)]
pub struct Factory;

impl SinkFactory for Factory {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn config_schema(&self) -> Value {
        sink::config_schema()
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        sink::check(config, problems);
    }

    fn is_outlet(&self) -> bool {
        true
    }

    fn build(&self, config: &Config) -> Result<BuiltSink> {
        sink::build(config)
    }
}
