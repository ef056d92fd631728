//! The `webhook` connector: what others post, acknowledged when it is on the disk, and taken once.
//!
//! In: requests, and the settings of [`config`]. Out: a source of rows. The way of a delivery is
//! `hub, route (whose path is it?) → request (limits) → verify → body (rows) → channel, log (on the
//! disk) → answer`; and from there `lane (which logs?) → gather (what came twice?) → source
//! (intakes) → rows`. Rows stay in the log until an epoch that holds them is published.

mod answer;
mod body;
mod channel;
pub mod config;
mod gather;
mod hub;
mod lane;
mod limit;
mod listener;
mod log;
mod request;
mod route;
mod rows;
mod source;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{Config, Context, Error, Problems, Reader, Result, Source, SourceFactory};

use config::{Settings, SourceConfig};
use rows::{Again, DeliveryReader};
use source::WebhookSource;

pub use hub::{Hub, HubSettings, RequestId, RouteInfo};

/// Makes `webhook` sources. Without a hub it checks settings and builds nothing.
#[derive(Debug, Default, Clone)]
pub struct Factory {
    hub: Option<Arc<Hub>>,
}

impl Factory {
    /// Sources whose deliveries come through `hub`.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub: Some(hub) }
    }

    fn hub(&self) -> Result<&Arc<Hub>> {
        let missing = || Error::config("webhooks have no folder here that they could be kept in");
        self.hub.as_ref().ok_or_else(missing)
    }
}

/// Reports sources that would listen on one path: `sources` are those of all jobs, each with its
/// job. Those whose settings are wrong are passed over.
pub fn check_paths<'c>(
    sources: impl IntoIterator<Item = (&'c str, &'c Config)>,
    problems: &mut Problems,
) {
    let mut taken: Vec<(route::Pattern, &str, &str)> = Vec::new();
    for (job, config) in sources {
        let path = config.value.get("path").and_then(Value::as_str).unwrap_or_default();
        let Ok(pattern) = route::Pattern::parse(path) else { continue };
        if let Some((_, job, source)) = taken.iter().find(|(other, ..)| other.is_same(&pattern)) {
            let error = route::clash(&pattern, job, source);
            let hint = error.hint_text().unwrap_or_default();
            config.problem(problems, "/path", error.message(), hint);
        }
        taken.push((pattern, job, &config.name));
    }
}

/// Reports sources that would take all requests to an endpoint of their server: `endpoints` are
/// names and paths, in which `{name}` stands for any one segment.
pub fn check_endpoints<'c>(
    sources: impl IntoIterator<Item = (&'c str, &'c Config)>,
    endpoints: &[(&str, &str)],
    problems: &mut Problems,
) {
    for (job, config) in sources {
        let path = config.value.get("path").and_then(Value::as_str).unwrap_or_default();
        let Ok(pattern) = route::Pattern::parse(path) else { continue };
        // What stands for any segment is covered only by what stands for any as well.
        for (endpoint, path) in endpoints.iter().filter(|(_, path)| pattern.fits(path)) {
            let message = format!(
                "the webhook takes all requests to an endpoint endpoint={endpoint} path={path} \
                 job={job} source={}",
                config.name
            );
            let hint = "give one of them another path: the endpoint would never answer";
            config.problem(problems, "/path", &message, hint);
        }
    }
}

#[async_trait]
impl SourceFactory for Factory {
    fn name(&self) -> &'static str {
        "webhook"
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

    async fn again(&self, config: &Config, context: &Context) -> Result<Option<Arc<dyn Reader>>> {
        let settings = Settings::read(config).map_err(|faults| faults.first(config))?;
        let format = settings.decoder(context.clock.clone())?;
        Ok(Some(Arc::new(Again(DeliveryReader { format, metadata: settings.metadata }))))
    }

    async fn listen(&self, config: &Config, context: &Context) -> Result<()> {
        self.hub()?.listen(config, context).await
    }

    async fn build(&self, config: &Config, context: &Context) -> Result<Box<dyn Source>> {
        let hub = self.hub()?.clone();
        let settings = Settings::of(config, &context.secrets)?;
        let source = WebhookSource::new(hub, config.clone(), context.clone(), settings)?;
        Ok(Box::new(source))
    }
}
