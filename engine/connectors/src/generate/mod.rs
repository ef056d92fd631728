//! The `generate` connector: rows made from a seed, for samples, tests and load.
//!
//! In: the settings of [`config`]. Out: typed rows of which row i depends on the seed and i alone,
//! so that more `rows` only appends. It reads nothing, keeps no state but a row count and never
//! rejects a row.
//!
//! The way: `config → check (choice, distribution, span) → plan → source`; `column`, `number`,
//! `draw` and `text` are what the values are made with.

mod check;
mod choice;
mod column;
pub mod config;
mod distribution;
mod draw;
mod number;
mod plan;
mod source;
mod span;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{Config, Context, Offset, Problems, Result, Source, SourceFactory, Standing};

use check::Fault;
use config::Settings;
use plan::Plan;

/// Makes `generate` sources.
#[derive(Debug, Default, Clone, Copy)]
pub struct Factory;

#[async_trait]
impl SourceFactory for Factory {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn config_schema(&self) -> Value {
        crate::settings::schema_of::<Settings>()
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        if config.schema.is_some() {
            let hint = "remove schema: the columns say what the rows are";
            config.problem(problems, "", "generate takes no schema", hint);
        }
        match config.parse::<Settings>() {
            Err(error) => {
                config.problem(problems, "", &error.chain(), "see connectors/generate.md")
            }
            Ok(settings) => {
                if let Err(faults) = Plan::new(&settings) {
                    for fault in faults {
                        config.problem(problems, &fault.pointer, &fault.message, &fault.hint);
                    }
                }
            }
        }
    }

    fn schema(&self, config: &Config) -> Result<SchemaRef> {
        Ok(plan_of(config)?.1.schema().clone())
    }

    fn retracts(&self, _config: &Config) -> bool {
        false
    }

    fn shards(&self, _config: &Config) -> Result<()> {
        Ok(())
    }

    async fn build(&self, config: &Config, context: &Context) -> Result<Box<dyn Source>> {
        let (settings, plan) = plan_of(config)?;
        Ok(Box::new(source::Rows::new(&settings, Arc::new(plan), context.clock.clone())))
    }

    /// Rows that come by and by are not there before a run asks for them.
    async fn standing(&self, config: &Config, _context: &Context) -> Result<Vec<Standing>> {
        let (settings, _) = plan_of(config)?;
        let rows = settings.rows.filter(|_| settings.rate.is_none());
        let standing = |rows| Standing {
            partition: source::PARTITION.to_string(),
            first: Offset::ZERO,
            end: Offset::At(rows),
        };
        Ok(rows.map(standing).into_iter().collect())
    }
}

fn plan_of(config: &Config) -> Result<(Settings, Plan)> {
    let settings: Settings = config.parse()?;
    match Plan::new(&settings) {
        Ok(plan) => Ok((settings, plan)),
        Err(faults) => Err(Fault::first(faults, &config.name)),
    }
}
