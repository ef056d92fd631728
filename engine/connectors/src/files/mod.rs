//! The `files` connector: CSV, JSON, Avro and Parquet files on local disk and object stores, read and written.
//!
//! In: the settings of [`config`]. Out: a source of rows and a sink for rows. The way of a source
//! is `config, pattern → source (seen: what changed?) → inspect (header, borders) → reader`; bytes
//! are understood in [`crate::format`]. It keeps no state but the list of files it took.

pub mod config;
mod cut;
pub(crate) mod dialect;
pub mod infer;
mod inspect;
pub(crate) mod object;
mod output;
mod pattern;
mod reader;
mod seen;
mod sink;
mod source;
mod take;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_core::{
    BuiltSink, Config, Context, Problems, Reader, Result, SinkFactory, Source, SourceFactory,
};

use config::{Decoding, Settings, SourceConfig};
use output::{Output, SinkConfig};

use crate::settings::schema_of;

/// Makes `files` sources and sinks.
#[derive(Debug, Default, Clone, Copy)]
pub struct Factory;

#[async_trait]
impl SourceFactory for Factory {
    fn name(&self) -> &'static str {
        "files"
    }

    fn config_schema(&self) -> Value {
        schema_of::<SourceConfig>()
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        if let Err(faults) = Settings::read(config) {
            faults.report(config, problems);
        }
    }

    fn schema(&self, config: &Config) -> Result<SchemaRef> {
        let settings = Settings::read(config).map_err(|faults| faults.first(config))?;
        let rows = settings.decoding.schema();
        let columns: Vec<usize> = (0..rows.fields().len() - 1).collect();
        Ok(Arc::new(rows.project(&columns)?))
    }

    fn retracts(&self, config: &Config) -> bool {
        config.value.get("on_changed_file").and_then(|v| v.as_str()) == Some("replace")
    }

    fn takes(&self, config: &Config, path: &str) -> bool {
        let Ok(settings) = Settings::read(config) else { return false };
        let endings = settings.format.endings();
        settings.patterns.iter().any(|pattern| pattern.takes(path, endings))
    }

    async fn again(&self, config: &Config, context: &Context) -> Result<Option<Arc<dyn Reader>>> {
        let settings = Settings::read(config).map_err(|faults| faults.first(config))?;
        if let Decoding::Avro(_) | Decoding::Parquet(_) = settings.decoding {
            // A value of theirs is nothing without the others of its column or block.
            return Ok(None);
        }
        let roots = opened(&settings, context)?;
        let mut found = Vec::new();
        for (number, root) in roots.iter().enumerate() {
            found.extend(root.list(number, settings.format.endings()).await?);
        }
        let stores = roots.into_iter().map(|root| root.location.store).collect();
        Ok(Some(Arc::new(reader::Again::new(settings, stores, found))))
    }

    async fn build(&self, config: &Config, context: &Context) -> Result<Box<dyn Source>> {
        let settings = Settings::read(config).map_err(|faults| faults.first(config))?;
        let roots = opened(&settings, context)?;
        let described = described(config);
        let source = source::FileSource::new(&config.name, settings, described, roots, context);
        Ok(Box::new(source))
    }
}

impl SinkFactory for Factory {
    fn name(&self) -> &'static str {
        "files"
    }

    fn config_schema(&self) -> Value {
        schema_of::<SinkConfig>()
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        if let Err(faults) = Output::read(config) {
            faults.report(config, problems);
        }
    }

    fn build(&self, config: &Config) -> Result<BuiltSink> {
        let output = Output::read(config).map_err(|faults| faults.first(config))?;
        Ok(BuiltSink::Files(Arc::new(sink::Files::new(output))))
    }
}

/// The paths of a source on their stores.
fn opened(settings: &Settings, context: &Context) -> Result<Vec<source::Root>> {
    let open = |pattern: &pattern::Pattern| {
        let location = sluice_lake::store::open(pattern.base(), &context.secrets)?;
        Ok(source::Root { pattern: pattern.clone(), location })
    };
    settings.patterns.iter().map(open).collect()
}

/// A hash of what decides whether a file can be read, and how. Learned columns are not in it: files
/// taught them.
fn described(config: &Config) -> String {
    let settings = config.value.as_object().into_iter().flatten();
    let settings: Vec<_> = settings.filter(|(key, _)| *key != "path").collect();
    let fields = config.schema.iter().flat_map(|schema| &schema.fields);
    let fields: Vec<_> = fields.filter(|field| !field.learned).collect();
    let text = serde_json::to_vec(&(settings, fields)).unwrap_or_default();
    Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
