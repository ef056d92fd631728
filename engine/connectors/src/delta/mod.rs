//! The `delta` connector: a Delta table as a stream of rows, version by version.
//!
//! In: the settings of [`config`]. Out: a source of the rows that a table has and that come to it, or
//! of all changes to them. The way is `config → begin (where to start, is it still the same table?) →
//! versions (what each commit did, may it be read?) → take (files to splits) → reader`. Logs are read in
//! [`sluice_lake::delta::feed`]. It writes nothing and keeps nothing but its position.

mod begin;
pub mod config;
mod lost;
mod position;
mod queue;
mod reader;
mod source;
mod take;
mod versions;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{Config, Context, Offset, Problems, Result, Source, SourceFactory, Standing};
use sluice_lake::delta::feed::Feed;
use sluice_lake::store;

use config::{Settings, SourceConfig};
use position::PARTITION;

/// Makes `delta` sources.
#[derive(Debug, Default, Clone, Copy)]
pub struct Factory;

#[async_trait]
impl SourceFactory for Factory {
    fn name(&self) -> &'static str {
        "delta"
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
        let rows = settings_of(config)?.schema;
        let columns: Vec<usize> = (0..rows.fields().len() - 1).collect();
        Ok(std::sync::Arc::new(rows.project(&columns)?))
    }

    fn retracts(&self, _config: &Config) -> bool {
        false
    }

    fn takes(&self, config: &Config, path: &str) -> bool {
        let Ok(settings) = Settings::read(config) else { return false };
        whole(path).starts_with(whole(&settings.path))
    }

    async fn build(&self, config: &Config, context: &Context) -> Result<Box<dyn Source>> {
        let settings = settings_of(config)?;
        let location = store::open(&settings.path, &context.secrets)?;
        Ok(Box::new(source::Versions::new(&config.name, settings, Feed::new(location), context)))
    }

    async fn standing(&self, config: &Config, context: &Context) -> Result<Vec<Standing>> {
        let location = store::open(&settings_of(config)?.path, &context.secrets)?;
        let extent = Feed::new(location).extent().await?;
        let at = |version: i64| Offset::At(u64::try_from(version).unwrap_or(0));
        let standing = extent.map(|extent| Standing {
            partition: PARTITION.to_string(),
            first: at(extent.first),
            end: at(extent.newest + 1),
        });
        Ok(standing.into_iter().collect())
    }
}

/// The settings, for whoever has checked them.
fn settings_of(config: &Config) -> Result<Settings> {
    Settings::read(config).map_err(|faults| faults.first(config))
}

/// A path or URL to be compared with others.
fn whole(path: &str) -> PathBuf {
    match path.contains("://") {
        true => Path::new(path).components().collect(),
        false => std::path::absolute(path).unwrap_or_else(|_| path.into()),
    }
}
