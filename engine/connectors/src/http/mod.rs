//! The `http` sink: rows as requests to a URL, at least once, each under a key of its own.
//!
//! In: files of an outbox. Out: rows that the receiver answered with a 2xx, and rows that it will
//! never take. The way of a row is `request (bodies, packed into requests) → sender (headers, key,
//! signature, waits) → answer (what a status means)`. When to try again after an outage is the
//! engine's business.
//!
//! ```text
//! rows ─► requests ─► 2xx: taken
//!            ▲   ├──► 429, 503 with Retry-After: the same request after a wait
//!            │   ├──► 400, 413, 422 …: halves, down to the row, which is refused
//!            │   └──► 5xx, time-outs, 401, 404 …: an error; the outbox tries again,
//!            └─────────────────────────────────── behind the rows that were settled
//! ```

mod answer;
mod config;
mod delivery;
mod request;
mod sender;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::Schema;
use serde_json::Value;
use sluice_core::{
    BuiltSink, Config, Delivery, Outlet, OutletContext, Problems, Result, SinkFactory,
};

use config::{Settings, SinkConfig};
use delivery::HttpDelivery;
use request::Bodies;

/// Makes `http` sinks.
#[derive(Debug)]
pub struct Factory;

impl SinkFactory for Factory {
    fn name(&self) -> &'static str {
        "http"
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
        Ok(BuiltSink::Outlet(Arc::new(HttpSink { config: config.clone(), settings })))
    }
}

/// A URL that rows go to.
struct HttpSink {
    /// As written: secrets are not in it.
    config: Config,
    settings: Settings,
}

impl Outlet for HttpSink {
    fn target(&self) -> String {
        format!("{} {}", self.settings.method, self.settings.shown)
    }

    fn fits(&self, schema: &Schema) -> Result<()> {
        Bodies::new(&self.settings, schema).map(|_| ())
    }

    fn open(&self, context: OutletContext) -> Result<Box<dyn Delivery>> {
        let config = self.config.with_secrets(&context.context.secrets);
        let mut settings = Settings::read(&config).map_err(|faults| faults.first(&config))?;
        // What messages show is what the job file says.
        settings.shown = self.settings.shown.clone();
        Ok(Box::new(HttpDelivery::new(settings, context)?))
    }
}
