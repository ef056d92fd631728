//! How the joins of a job's statements would run over what its tables hold now, for `plan`.
//!
//! In: a job's graph. Out: per table and view that joins, what the next epoch's planning would
//! decide. Rows of its tables, and of others it reads, are counted as their last published epoch has
//! them; those of the next epoch are not known. Nothing is written, and no row is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use sluice_core::{Result, Secrets};
use sluice_lake::snapshot::Published;
use sluice_lake::store::{self, Location};

use super::chains;
use crate::catalog::{FilesTable, IntakeTable, Leaf, SnapshotTable};
use crate::epoch::Environment;
use crate::function::{SessionOptions, session};
use crate::plan::{self, Graph, Joins, Node, Role, Strategy};

/// The joins of the tables and views of a job, by name.
pub async fn joins(
    env: &Environment,
    graph: &Graph,
    secrets: &Secrets,
) -> Result<BTreeMap<String, Joins>> {
    let context = session(&SessionOptions {
        memory: env.pool.clone(),
        partitions: env.partitions,
        time: graph.time.clone(),
    })?;
    let root = store::open(&graph.job.lake, secrets)?;
    let published = chains::published(&root, &graph.job.name).await?;
    let looking = Looking { graph, secrets, context, root, published };
    let mut found = BTreeMap::new();
    for node in &graph.order {
        let (name, plan, heads) = looking.statement(*node);
        if let Some(joins) = looking.joins(plan, &heads).await? {
            found.insert(name.to_string(), joins);
        }
    }
    Ok(found)
}

struct Looking<'a> {
    graph: &'a Graph,
    secrets: &'a Secrets,
    context: SessionContext,
    root: Location,
    published: Option<Published>,
}

impl<'a> Looking<'a> {
    /// The statement that the next epoch would run for a node, and the inputs of which it reads all
    /// rows.
    fn statement(&self, node: Node) -> (&'a str, &'a LogicalPlan, Vec<&'a str>) {
        match node {
            Node::Table(i) => {
                let table = &self.graph.tables[i];
                let heads = table.inputs.iter().filter(|input| input.role == Role::Head);
                (&table.spec.name, &table.plan, heads.map(|input| input.name.as_str()).collect())
            }
            Node::View(i) => {
                let view = &self.graph.views[i];
                let exists = self.published.as_ref();
                let exists = exists.is_some_and(|p| p.tables.contains_key(&view.spec.name));
                let grows = match &view.strategy {
                    Strategy::AppendJoin(grows) if exists => Some(grows),
                    _ => None,
                };
                let heads = view.inputs.iter().filter(|input| Some(*input) != grows);
                (&view.spec.name, &view.plan, heads.map(String::as_str).collect())
            }
        }
    }

    async fn joins(&self, plan: &LogicalPlan, heads: &[&str]) -> Result<Option<Joins>> {
        let mut tables: BTreeMap<String, Arc<dyn TableProvider>> = BTreeMap::new();
        for leaf in Leaf::all(plan)?.iter().filter(|leaf| heads.contains(&leaf.name())) {
            // What keeps a table from being read is told by those who compare the lake with the job.
            if let Ok(Some(table)) = self.head(leaf).await {
                let schema = TableProvider::schema(leaf);
                let table = SnapshotTable::provider_as(Some(&table), &self.context, &schema)?;
                tables.insert(leaf.name().to_string(), table);
            }
        }
        let suppose = |leaf: &Leaf, rows: usize| -> Result<Arc<dyn TableProvider>> {
            let schema = TableProvider::schema(leaf);
            if self.graph.sources.iter().any(|s| s.spec.name == leaf.name()) {
                return Ok(Arc::new(IntakeTable::supposed(schema, rows)));
            }
            Ok(Arc::new(FilesTable::supposed(&self.context, &self.root, schema, rows)?))
        };
        plan::joins(&self.context, plan, &tables, &suppose).await
    }

    /// What a table holds; none where it does not exist yet.
    async fn head(&self, leaf: &Leaf) -> Result<Option<SnapshotTable>> {
        let (name, schema) = (leaf.name(), TableProvider::schema(leaf));
        let foreign = self.graph.foreign.iter().find(|f| f.name == name);
        let Some(foreign) = foreign else {
            let (published, by) = (self.published.as_ref(), self.graph.partition_by(name));
            return SnapshotTable::load(&self.root, published, name, &schema, &by).await;
        };
        let root = store::open(&foreign.lake, self.secrets)?;
        let published = chains::published(&root, &foreign.job).await?;
        let by = &foreign.partition_by;
        SnapshotTable::load(&root, published.as_ref(), name, &schema, by).await
    }
}
