//! The placeholder a query plan is made with: a name and a schema, no data.
//!
//! Each epoch puts its own table in its place ([`Leaf::replace`]); a leaf that is still there when
//! the plan runs is a mistake of ours and says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result as SqlResult};
use datafusion::logical_expr::{
    Expr, LogicalPlan, TableProviderFilterPushDown, TableScan, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use sluice_core::Result;

use super::sql_error;

/// A named input of a query plan.
#[derive(Debug, Clone)]
pub struct Leaf {
    name: String,
    schema: SchemaRef,
}

impl Leaf {
    /// A placeholder for `name`.
    pub fn new(name: impl Into<String>, schema: SchemaRef) -> Self {
        Self { name: name.into(), schema }
    }

    /// The plan with every leaf replaced by the table of its name in `tables`. The tables must have
    /// the leaves' schemas.
    pub fn replace(
        plan: &LogicalPlan,
        tables: &BTreeMap<String, Arc<dyn TableProvider>>,
    ) -> Result<LogicalPlan> {
        plan.clone()
            .transform_up_with_subqueries(|node| match node {
                LogicalPlan::TableScan(scan) => match leaf_of(&scan) {
                    Some(leaf) => {
                        let table = tables.get(&leaf.name).ok_or_else(|| missing(&leaf.name))?;
                        let source = provider_as_source(table.clone());
                        Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
                    }
                    None => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
                },
                other => Ok(Transformed::no(other)),
            })
            .data()
            .map_err(|e| sql_error("cannot put the epoch's tables into a query plan", e))
    }

    /// The leaves of `plan`, each name once, in the order they are met.
    pub fn all(plan: &LogicalPlan) -> Result<Vec<Leaf>> {
        let mut leaves: Vec<Leaf> = Vec::new();
        plan.clone()
            .transform_up_with_subqueries(|node| {
                if let LogicalPlan::TableScan(scan) = &node
                    && let Some(leaf) = leaf_of(scan)
                    && !leaves.iter().any(|known| known.name == leaf.name)
                {
                    leaves.push(leaf);
                }
                Ok(Transformed::no(node))
            })
            .map_err(|e| sql_error("cannot walk a query plan", e))?;
        Ok(leaves)
    }

    /// The names of the leaves of `plan`, as [`Leaf::all`] gives them.
    pub fn names(plan: &LogicalPlan) -> Result<Vec<String>> {
        Ok(Self::all(plan)?.into_iter().map(|leaf| leaf.name).collect())
    }

    /// What it stands for.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn leaf_of(scan: &TableScan) -> Option<Leaf> {
    let provider = source_as_provider(&scan.source).ok()?;
    let any: &dyn std::any::Any = provider.as_ref();
    any.downcast_ref::<Leaf>().cloned()
}

fn missing(name: &str) -> DataFusionError {
    DataFusionError::Internal(format!("no table stands for the leaf name={name}"))
}

#[async_trait]
impl TableProvider for Leaf {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> SqlResult<Vec<TableProviderFilterPushDown>> {
        // Whatever takes the leaf's place may use a filter to skip data; the plan keeps it as well.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> SqlResult<Arc<dyn ExecutionPlan>> {
        Err(missing(&self.name))
    }
}
