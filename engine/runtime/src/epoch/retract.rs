//! `on_changed_file: replace`: the rows of a file that changed make room for those it has now.
//!
//! In: the files, and the plan over what they hold now. Out: one action per table, and per place
//! besides tables, that takes the old rows back and adds the new ones in one commit.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use datafusion::physical_plan::SendableRecordBatchStream;
use sluice_core::Result;
use sluice_lake::manifest::TableCounts;
use sluice_lake::table;

use super::relation::Relation;
use super::routing::{Outcome, Router};
use super::work::{NewRows, Open, Worker};
use crate::plan::TableNode;

impl Worker {
    /// Takes the rows of changed files back and appends what the files hold now, in one commit.
    pub(super) async fn retract_table(
        &mut self,
        open: &mut Open<'_>,
        node: &TableNode,
        streams: Vec<SendableRecordBatchStream>,
        router: &Router,
        files: &[String],
    ) -> Result<Outcome> {
        let relation = self.relation(&node.spec.name)?.clone();
        let mut held =
            self.env.memory.reserve(&format!("changed files' rows of {}", relation.name));
        let (rows, outcome, entering) =
            super::append::gather(streams, &relation.schema, node, router, held.as_mut()).await?;
        let keys = file_keys(&relation, files)?;
        let layout = self.layout(&relation)?;
        let old = table::lookup(&layout, &relation.files, &relation.key, &keys).await?;
        let counts = TableCounts {
            entering,
            written: rows.iter().map(|b| b.num_rows() as u64).sum(),
            quarantined: outcome.quarantined_rows(),
            dropped: outcome.dropped,
            removed: old.rows.num_rows() as u64,
            ..TableCounts::default()
        };
        let action = self.replace_rows(open, &relation, &old.files, &keys, rows).await?;
        open.new_rows.insert(relation.name.clone(), NewRows::Replaced);
        self.record(open, &relation.name, action, counts)?;
        Ok(outcome)
    }

    /// Takes the rows of changed files out of one of the places besides tables, and appends the
    /// `written` rows of `rows`.
    pub(super) async fn replace_files(
        &mut self,
        open: &mut Open<'_>,
        name: &str,
        files: &[String],
        written: u64,
        rows: impl Iterator<Item = Result<RecordBatch>> + Send,
    ) -> Result<()> {
        let relation = self.relation(name)?.clone();
        if files.is_empty() || relation.files.is_empty() {
            return self.append_rows(open, name, written, rows).await;
        }
        let keys = file_keys(&relation, files)?;
        let layout = self.layout(&relation)?;
        let old = table::lookup(&layout, &relation.files, &relation.key, &keys).await?;
        if old.rows.num_rows() == 0 {
            return self.append_rows(open, name, written, rows).await;
        }
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let removed = old.rows.num_rows() as u64;
        let counts = TableCounts { entering: written, written, removed, ..TableCounts::default() };
        let action = self.replace_rows(open, &relation, &old.files, &keys, rows).await?;
        self.record(open, name, action, counts)
    }
}

/// The files of a table's source whose earlier rows go.
pub(super) fn retracted(open: &Open<'_>, node: &TableNode) -> Vec<String> {
    if !node.carried.source_file {
        return Vec::new();
    }
    let taken = open.taken.iter().filter(|t| node.inputs.iter().any(|i| i.name == t.name));
    taken.flat_map(|t| t.retracted.clone()).collect()
}

/// What to look up to find the rows of those files: the relation's key is the column that names
/// a row's file.
fn file_keys(relation: &Relation, files: &[String]) -> Result<RecordBatch> {
    let fields = relation.key.iter().map(|name| Ok(relation.schema.field_with_name(name)?.clone()));
    let schema = Schema::new(fields.collect::<Result<Vec<_>>>()?);
    let column: ArrayRef = Arc::new(StringArray::from(files.to_vec()));
    Ok(RecordBatch::try_new(Arc::new(schema), vec![column])?)
}
