//! Proof after the fact: `verify` compares every view with its statement run as a batch query,
//! `audit` recounts offsets, rows and files instead of believing the manifests.
//!
//! In: a lake. Out: findings. Nothing is changed, and no running job is needed or disturbed.

mod audit;
mod compare;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::physical_plan::collect;
use serde::Serialize;
use sluice_core::Result;

use crate::catalog::{SnapshotTable, sql_error};
use crate::epoch::Environment;
use crate::plan::physical;
use crate::query::{Readable, open, published, snapshot_table};

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
    let context = open(env, std::slice::from_ref(job)).await?;
    let published = published(job).await?;
    let mut tables: BTreeMap<String, Arc<dyn TableProvider>> = BTreeMap::new();
    for (name, schema) in job.graph.relations() {
        let table = snapshot_table(job, published.as_ref(), &name, &schema).await?;
        let provider = SnapshotTable::provider(table.as_ref(), &context, &schema)?;
        tables.insert(name, provider);
    }
    let mut verified = Vec::new();
    for view in &job.graph.views {
        let name = view.spec.name.clone();
        let foreign = view.inputs.iter().find(|i| !tables.contains_key(*i));
        if let Some(input) = foreign {
            tracing::info!(view = name, input, "not verified: it reads a table of another job");
            continue;
        }
        let plan = physical(&context, &view.plan, &tables).await?;
        let failed = |e| sql_error("the view's statement failed", e);
        let expected = collect(plan, context.task_ctx()).await.map_err(failed)?;
        let kept = context.table(name.as_str()).await.map_err(failed)?;
        let kept = kept.collect().await.map_err(failed)?;
        let rows = expected.iter().map(|b| b.num_rows() as u64).sum();
        let difference = difference(&view.schema, &expected, &kept)?;
        verified.push(Verified { view: name, rows, equal: difference.is_none(), difference });
    }
    Ok(verified)
}
