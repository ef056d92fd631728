//! Proof after the fact: `verify` compares every view with its statement run as a batch query,
//! `audit` recounts offsets, rows and files instead of believing the manifests.
//!
//! In: a lake. Out: findings. Nothing is changed, and no running job is needed or disturbed.

mod audit;
mod compare;
mod outboxes;
mod recount;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::collect;
use serde::Serialize;
use sluice_core::Result;
use sluice_lake::delta;
use sluice_lake::store::Location;

use crate::catalog::{SnapshotTable, sql_error};
use crate::epoch::{Environment, gone_on};
use crate::plan::{Foreign, physical};
use crate::query::{Readable, open, published, snapshot_table};
use crate::recover::{Past, definition_of, foreign_tables, lake_of, past, replays};

pub use audit::{Audit, Check, audit};
pub use compare::difference;

/// One view held against its statement.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// The view.
    pub view: String,
    /// Rows the statement gives.
    pub rows: u64,
    /// Whether the view holds exactly those rows.
    pub equal: bool,
    /// The first difference.
    pub difference: Option<String>,
}

/// Compares every view of a job with its statement over the tables of the same snapshot.
pub async fn verify(env: &Environment, job: &Readable) -> Result<Vec<Verified>> {
    let published = published(job).await?;
    if published.is_none() {
        return not_yet(env, job).await;
    }
    let context = open(env, std::slice::from_ref(job), &[]).await?;
    let mut tables: BTreeMap<String, Arc<dyn TableProvider>> = BTreeMap::new();
    let mut others: BTreeMap<String, String> = BTreeMap::new();
    let mut places: BTreeMap<String, Location> = BTreeMap::new();
    for (name, schema) in job.graph.relations() {
        let table = snapshot_table(job, published.as_ref(), &name, &schema).await?;
        let is_view = job.graph.views.iter().any(|v| v.spec.name == name);
        places.extend(table.as_ref().map(|t| (name.clone(), t.location.clone())));
        let kept = table.as_ref().map(|t| &t.schema);
        if let Some(column) = kept.and_then(|kept| other_column(&schema, kept, is_view)) {
            others.insert(name.clone(), column);
        }
        let provider = SnapshotTable::provider_as(table.as_ref(), &context, &schema)?;
        tables.insert(name, provider);
    }
    let foreign = foreign_tables(&job.graph, &context, &job.secrets).await?;
    let lake = lake_of(env, &job.graph, &job.secrets)?;
    let offsets = lake.chain.last().await?.map(|e| e.manifest.offsets).unwrap_or_default();
    let again = replays(&lake.root, &job.graph.job.name).await?;
    let again = !gone_on(&again, &offsets).is_empty();
    let ahead = gone_on(&foreign.epochs, &offsets);
    tables.extend(foreign.tables);
    let mut verified = Vec::new();
    for view in &job.graph.views {
        let name = view.spec.name.clone();
        let read = view.inputs.iter().chain([&name]);
        if let Some((relation, column)) = read.filter_map(|r| others.get_key_value(r)).next() {
            verified.push(failed_view(name.clone(), other_definition(&name, relation, column)));
            continue;
        }
        let plan = physical(&context, &view.plan, &tables).await?;
        let failed = |e| sql_error("the view's statement failed", e);
        let expected = collect(plan, context.task_ctx()).await.map_err(failed)?;
        let kept = context.table(name.as_str()).await.map_err(failed)?;
        let kept = kept.collect().await.map_err(failed)?;
        let rows = expected.iter().map(|b| b.num_rows() as u64).sum();
        let mut difference = difference(&view.schema, &expected, &kept)?;
        if let Some(found) = &mut difference
            && changed_since(job, &name, places.get(&name)).await?
        {
            *found =
                format!("its definition changed: run the job, which builds it afresh; {found}");
        }
        if let Some(found) = difference.as_mut().filter(|_| again) {
            *found = format!("rows were taken again: run the job, which builds it afresh; {found}");
        }
        let reads = |f: &&Foreign| view.inputs.contains(&f.name) && ahead.contains(&f.job);
        if let Some(found) = &mut difference
            && let Some(foreign) = job.graph.foreign.iter().find(reads)
        {
            let other = &foreign.job;
            *found = format!("job {other} went on since: run this job, then verify; {found}");
        }
        verified.push(Verified { view: name, rows, equal: difference.is_none(), difference });
    }
    Ok(verified)
}

/// Whether the view in the lake was made by another statement than the job file's.
async fn changed_since(job: &Readable, view: &str, place: Option<&Location>) -> Result<bool> {
    let Some(place) = place else { return Ok(false) };
    let head = delta::load(place).await?;
    let made_by = head.as_ref().and_then(|h| h.properties().get("sluice.definition"));
    Ok(made_by.is_some_and(|made_by| *made_by != definition_of(&job.graph, view)))
}

fn failed_view(view: String, difference: String) -> Verified {
    Verified { view, rows: 0, equal: false, difference: Some(difference) }
}

/// Every view of a job that has published nothing: there is nothing to hold them against, and a
/// lake whose path is mistyped must not look right.
async fn not_yet(env: &Environment, job: &Readable) -> Result<Vec<Verified>> {
    let why = match past(env, &job.graph, &job.secrets).await? {
        Past::Epochs => {
            "no epoch is published: run the job, which finishes what is sealed".to_string()
        }
        other => other.finding().unwrap_or_default(),
    };
    let views = job.graph.views.iter();
    Ok(views.map(|view| failed_view(view.spec.name.clone(), why.clone())).collect())
}

/// The first column of a definition that the lake has in another way, with both types. Their order
/// does not count, and columns besides them harm nothing where rows are read; a view has none. A
/// table that lacks a column gets it with its next rows, and until then it is null.
fn other_column(defined: &SchemaRef, kept: &SchemaRef, is_view: bool) -> Option<String> {
    let of = |schema: &SchemaRef, name: &str| match schema.field_with_name(name) {
        Ok(field) => format!("{name}:{}", field.data_type()),
        Err(_) => "none".to_string(),
    };
    let theirs = kept.fields().iter().filter(|_| is_view);
    let names = defined.fields().iter().chain(theirs).map(|field| field.name());
    names.into_iter().find_map(|name| {
        let (ours, theirs) = (of(defined, name), of(kept, name));
        let comes = !is_view && kept.field_with_name(name).is_err();
        (ours != theirs && !comes).then(|| format!("definition={ours} lake={theirs}"))
    })
}

/// What to do about a relation that was written by another definition than the job file's.
fn other_definition(view: &str, relation: &str, column: &str) -> String {
    let what_to_do = match relation == view {
        true => "run the job, which builds the view afresh, then verify",
        false => {
            "verify with the job file that wrote it, or run with --rebuild to make it again from \
             the sources"
        }
    };
    format!("{relation} was written by another definition {column}: {what_to_do}")
}
