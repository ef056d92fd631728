//! Expectations: one pass that sends every row to its table, to quarantine or nowhere.
//!
//! In: a batch with a table's columns, and predicates over it. Out: the rows kept, the rows to
//! quarantine with what they broke, and per expectation which rows broke it. Writing quarantined
//! rows and stopping the job are the caller's.
//!
//! A predicate holds when it is true. NULL counts as broken: an expectation says what must be so,
//! and of an unknown value that cannot be said. Who wants to let it through writes
//! `price > 0 OR price IS NULL`.
//!
//! A row that breaks several expectations goes the way of the strictest: fail, quarantine, drop,
//! warn. Quarantine is stricter than drop because nothing is lost that way.

mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{and, filter_record_batch, not, or, prep_null_mask_filter};
use arrow::datatypes::Schema;
use datafusion::physical_expr::PhysicalExpr;
use sluice_core::{Error, Result};

pub use window::{Breach, WINDOW_ROWS, Window, Windows};

use crate::catalog::{quarantine_schema, sql_error};

/// Between the names of several broken expectations of one row.
const SEPARATOR: &str = ", ";

/// What happens to a row that breaks an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The row is kept and counted.
    Warn,
    /// The row is counted and left out.
    Drop,
    /// The row goes to the table's `__quarantine`.
    Quarantine,
    /// The job stops before the seal.
    Fail,
}

/// One thing that must be so for every row of a table.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Its key in the job file.
    pub name: String,
    /// A boolean expression over the columns of the batches that are routed.
    pub predicate: Arc<dyn PhysicalExpr>,
    /// What happens to a row that breaks it.
    pub action: Action,
    /// The share of rows, 0 to 1, that may break it before the job stops; see [`Window`].
    pub fail_above: Option<f64>,
}

/// All expectations of one table, in the order of the job file.
#[derive(Debug, Clone, Default)]
pub struct Expectations {
    list: Vec<Expectation>,
}

/// Where the rows of one batch go.
///
/// Kept, quarantined, dropped and failed rows together are the rows of the batch.
#[derive(Debug, Clone)]
pub struct Routed {
    /// Rows for the table, in their order, with all columns of the batch.
    pub kept: RecordBatch,
    /// Rows for quarantine, with all columns of the batch, and per row the names of everything it
    /// broke; none when there are no such rows.
    pub quarantined: Option<(RecordBatch, Vec<String>)>,
    /// Rows that go nowhere.
    pub dropped: u64,
    /// Expectations with [`Action::Fail`] that were broken. Such rows are in none of the others.
    pub failed: Option<Failure>,
    /// Per expectation, in its order, which rows of the batch broke it.
    pub broken: Vec<BooleanArray>,
}

/// Rows that must stop the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The first expectation with [`Action::Fail`] that was broken.
    pub name: String,
    /// Rows that broke it or another one with that action.
    pub rows: u64,
    /// The first of them, as an index into the batch.
    pub first: usize,
}

impl Expectations {
    /// Expectations in the order of the job file.
    pub fn new(list: Vec<Expectation>) -> Self {
        Self { list }
    }

    /// The expectations.
    pub fn list(&self) -> &[Expectation] {
        &self.list
    }

    /// Sends the rows of a batch where they belong. Without expectations all are kept.
    ///
    /// # Errors
    /// `Data` when a predicate cannot be evaluated, naming the expectation.
    pub fn route(&self, batch: &RecordBatch) -> Result<Routed> {
        let rows = batch.num_rows();
        let broken = self.broken(batch)?;
        if broken.iter().all(|b| b.true_count() == 0) {
            let kept = batch.clone();
            return Ok(Routed { kept, quarantined: None, dropped: 0, failed: None, broken });
        }
        let fail = self.any(&broken, Action::Fail, rows)?;
        let quarantine = and(&self.any(&broken, Action::Quarantine, rows)?, &not(&fail)?)?;
        let stopped = or(&fail, &quarantine)?;
        let drop = and(&self.any(&broken, Action::Drop, rows)?, &not(&stopped)?)?;
        let keep = not(&or(&stopped, &drop)?)?;
        Ok(Routed {
            kept: filter_record_batch(batch, &keep)?,
            quarantined: self.quarantined(batch, &quarantine, &broken)?,
            dropped: drop.true_count() as u64,
            failed: self.failure(&fail, &broken),
            broken,
        })
    }

    /// How many rows broke each expectation, with its name and action.
    pub fn counts<'a>(
        &'a self,
        routed: &'a Routed,
    ) -> impl Iterator<Item = (&'a str, Action, u64)> + 'a {
        let counted = self.list.iter().zip(&routed.broken);
        counted.map(|(e, broken)| (e.name.as_str(), e.action, broken.true_count() as u64))
    }

    fn broken(&self, batch: &RecordBatch) -> Result<Vec<BooleanArray>> {
        let mut broken = Vec::with_capacity(self.list.len());
        for expectation in &self.list {
            let wrong = || format!("cannot check an expectation name={}", expectation.name);
            let value = expectation.predicate.evaluate(batch);
            let value = value.and_then(|v| v.into_array(batch.num_rows()));
            let value = value.map_err(|e| sql_error(&wrong(), e))?;
            let holds = value.as_boolean_opt().ok_or_else(|| {
                Error::config(format!("{} type={}", wrong(), value.data_type()))
                    .hint("`that` must be true or false, such as `price > 0`")
            })?;
            let holds = match holds.nulls() {
                Some(_) => prep_null_mask_filter(holds),
                None => holds.clone(),
            };
            broken.push(not(&holds)?);
        }
        Ok(broken)
    }

    fn any(&self, broken: &[BooleanArray], action: Action, rows: usize) -> Result<BooleanArray> {
        let mut any = BooleanArray::from(vec![false; rows]);
        for (expectation, broken) in self.list.iter().zip(broken) {
            if expectation.action == action {
                any = or(&any, broken)?;
            }
        }
        Ok(any)
    }

    fn quarantined(
        &self,
        batch: &RecordBatch,
        rows: &BooleanArray,
        broken: &[BooleanArray],
    ) -> Result<Option<(RecordBatch, Vec<String>)>> {
        if rows.true_count() == 0 {
            return Ok(None);
        }
        let mut names = Vec::with_capacity(rows.true_count());
        for row in rows.values().set_indices() {
            let of_row = self.list.iter().zip(broken).filter(|(_, broken)| broken.value(row));
            let of_row: Vec<&str> = of_row.map(|(e, _)| e.name.as_str()).collect();
            names.push(of_row.join(SEPARATOR));
        }
        Ok(Some((filter_record_batch(batch, rows)?, names)))
    }

    fn failure(&self, fail: &BooleanArray, broken: &[BooleanArray]) -> Option<Failure> {
        let first = fail.values().set_indices().next()?;
        let mut pairs = self.list.iter().zip(broken);
        let (expectation, _) =
            pairs.find(|(e, b)| e.action == Action::Fail && b.true_count() > 0)?;
        let name = expectation.name.clone();
        Some(Failure { name, rows: fail.true_count() as u64, first })
    }
}

/// Rows for the `__quarantine` of `table`. `rows` has the table's columns first; columns behind
/// them are left out. `names` has one entry per row.
pub fn quarantine_rows(
    table: &Schema,
    rows: &RecordBatch,
    names: &[String],
    epoch: i64,
) -> Result<RecordBatch> {
    let width = table.fields().len().min(rows.num_columns());
    let mut columns: Vec<ArrayRef> = rows.columns()[..width].to_vec();
    columns.push(Arc::new(StringArray::from_iter_values(names)));
    columns.push(Arc::new(Int64Array::from(vec![epoch; rows.num_rows()])));
    RecordBatch::try_new(quarantine_schema(table), columns)
        .map_err(|e| Error::bug("rows for quarantine do not fit the table").because(e))
}
