//! Columns that the data of a source taught, kept in the job's manifests.
//!
//! In: the last manifest of a job. Out: the job with those columns in its sources' schemas, as if
//! they had been written there. Which columns are new is the source's to say, when it is polled.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_core::{Error, FieldSpec, Result, Secrets, Shard};
use sluice_lake::manifest::{Chain, Manifest};
use sluice_lake::store;

use super::chains::shard_chain;
use super::definition::COLUMNS;
use crate::epoch::Environment;
use crate::function::{SessionOptions, session};
use crate::job::{Job, SourceSpec};
use crate::plan::Graph;

/// `job` as it was when its last epoch was sealed: with the columns that its sources had learned.
pub async fn remember(env: &Environment, job: &Arc<Job>, secrets: &Secrets) -> Result<Arc<Job>> {
    let root = store::open(&job.lake, secrets)?;
    let own = Chain::new(&root, &job.name, env.clock.clone());
    let Some(last) = own.last().await? else { return Ok(job.clone()) };
    let mut chains = vec![own];
    if job.shards > 1 {
        // Each of them learns by itself.
        let names = Shard::all(job.shards).map(|shard| shard_chain(&job.name, shard));
        chains.extend(names.map(|name| Chain::new(&root, &name, env.clock.clone())));
    }
    let mut all = job.clone();
    for chain in &chains {
        let of = chain.last().await?.map(|e| e.manifest);
        let of = of.filter(|m| m.incarnation == last.manifest.incarnation);
        let columns = of.as_ref().map(learned).transpose()?.unwrap_or_default();
        if !columns.is_empty() {
            all = Arc::new(all.learn(&columns));
        }
    }
    Ok(all)
}

/// The plans of `graph` as they were when its last epoch was sealed: with the columns that its
/// sources had learned. For who runs a job again and again. Errors: those of [`Graph::learn`], and
/// the store's.
pub async fn replan(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
) -> Result<Arc<Graph>> {
    let job = remember(env, &graph.job, secrets).await?;
    let columns = unplanned(&graph.job, &job);
    if columns.is_empty() {
        return Ok(graph.clone());
    }
    let context = session(&SessionOptions {
        memory: env.pool.clone(),
        partitions: env.partitions,
        time: graph.time.clone(),
    })?;
    Ok(Arc::new(graph.learn(&context, &env.registry, &columns).await?))
}

/// The columns of `now` that `planned` lacks, by source: they stand behind those it has.
fn unplanned(planned: &Job, now: &Job) -> BTreeMap<String, Vec<FieldSpec>> {
    let fields = |source: &SourceSpec| {
        let schema = source.config.schema.as_ref();
        schema.map(|schema| schema.fields.clone()).unwrap_or_default()
    };
    let mut columns = BTreeMap::new();
    for (before, after) in planned.sources.iter().zip(&now.sources) {
        let new = fields(after).split_off(fields(before).len().min(fields(after).len()));
        if !new.is_empty() {
            columns.insert(after.name.clone(), new);
        }
    }
    columns
}

/// The columns that a manifest knows, by source.
fn learned(manifest: &Manifest) -> Result<BTreeMap<String, Vec<FieldSpec>>> {
    let mut columns = BTreeMap::new();
    for (part, text) in &manifest.definitions {
        let Some(source) = part.strip_prefix(COLUMNS) else { continue };
        let mut fields: Vec<FieldSpec> = serde_json::from_str(text).map_err(|e| {
            Error::data(format!("the learned columns of a source cannot be read source={source}"))
                .because(e)
        })?;
        fields.iter_mut().for_each(|field| field.learned = true);
        columns.insert(source.to_string(), fields);
    }
    Ok(columns)
}

/// Whether `definitions` name columns that the manifest they go on from does not.
pub(super) fn is_news(definitions: &BTreeMap<String, String>, last: &Manifest) -> bool {
    let mut columns = definitions.iter().filter(|(part, _)| part.starts_with(COLUMNS));
    columns.any(|(part, text)| last.definitions.get(part) != Some(text))
}

/// The learned columns of a source, as a manifest keeps them; none where it learned none.
pub(super) fn written(source: &SourceSpec) -> Option<String> {
    let fields = source.config.schema.iter().flat_map(|schema| &schema.fields);
    let learned: Vec<&FieldSpec> = fields.filter(|field| field.learned).collect();
    if learned.is_empty() { None } else { serde_json::to_string(&learned).ok() }
}
