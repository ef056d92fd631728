//! `shards:`: which jobs may be cut into slices, and why others may not.
//!
//! In: a job as far as it could be read. Out: a problem at each thing that keeps its slices from
//! being run apart. Several chains append to one table without seeing each other, so nothing in the
//! job may depend on what another slice holds.

use sluice_core::Registry;

use super::Builder;
use crate::job::model::{Job, TableFormat};

impl Builder<'_, '_> {
    pub(super) fn check_shards(&mut self, job: &Job) {
        if job.shards <= 1 {
            return;
        }
        for (pointer, message, hint) in against(job, self.registry) {
            self.report.at(&pointer, message, hint);
        }
    }
}

/// Place, what does not go with slices, and what to do.
type Against = (String, String, String);

fn against(job: &Job, registry: &Registry) -> Vec<Against> {
    let mut found = Vec::new();
    for source in &job.sources {
        let Some(factory) = registry.source(&source.connector) else { continue };
        if let Err(error) = factory.shards(&source.config) {
            let (name, connector) = (&source.name, &source.connector);
            let place = format!("{}/connector", source.pointer);
            let message = format!("{error} source={name} connector={connector}");
            found.push((place, message, error.hint_text().unwrap_or_default().to_string()));
        }
    }
    for table in &job.tables {
        if !table.key.is_empty() {
            let message = format!(
                "a job with shards only appends, this table has a key table={}",
                table.name
            );
            let hint = "rows of a key may come by several shards: append here, and keep the keyed \
                        table in another job that reads this one";
            found.push((format!("{}/key", table.pointer), message, hint.to_string()));
        }
        if table.format != TableFormat::Delta {
            let message = format!("a job with shards keeps Delta tables table={}", table.name);
            let hint = "several chains append to one Delta table; take `format: parquet` away";
            found.push((format!("{}/format", table.pointer), message, hint.to_string()));
        }
    }
    for view in &job.views {
        let message = format!("a job with shards keeps no views view={}", view.name);
        let hint = "each shard sees its own rows only: move the view to another job of the pack, \
                    which reads the tables of this one";
        found.push((format!("/views/{}", view.name), message, hint.to_string()));
    }
    for sink in &job.sinks {
        let factory = registry.sink(&sink.connector);
        if !factory.is_some_and(|factory| factory.shards()) {
            let message = format!(
                "a job with shards feeds no such sink sink={} connector={}",
                sink.name, sink.connector
            );
            let hint = "its files would have the names of another shard's: write them from another \
                        job that reads the tables of this one";
            found.push((format!("{}/connector", sink.pointer), message, hint.to_string()));
        }
    }
    found
}
