//! What operators and sources keep, written as state files of an epoch.
//!
//! In: the worker's operators after their nodes ran. Out: files that the manifest will name. A
//! new base is written when deltas outweigh it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use sluice_core::{Error, Result};
use sluice_lake::parquet::conform;

use super::work::{Open, Worker};
use crate::operator::expect::Windows;
use crate::state::{Part, next_part};

impl Worker {
    /// Writes what operators and sources keep.
    pub(super) async fn write_state(&mut self, open: &mut Open<'_>) -> Result<()> {
        self.write_views(open).await?;
        self.write_remembered(open).await?;
        self.write_windows(open).await?;
        for taken in open.taken.iter().filter(|t| !t.state.is_empty()) {
            let owner = source_owner(&taken.name);
            self.write_part(open, &owner, &taken.state).await?;
        }
        Ok(())
    }

    async fn write_views(&mut self, open: &mut Open<'_>) -> Result<()> {
        let mut views = std::mem::take(&mut self.state.views);
        for (name, view) in &mut views {
            let Some(changed) = view.operator().kept().delta()? else { continue };
            let base = || view.operator().kept().base();
            self.write_kept(open, name, changed, base).await?;
        }
        self.state.views = views;
        Ok(())
    }

    async fn write_remembered(&mut self, open: &mut Open<'_>) -> Result<()> {
        let mut tables = std::mem::take(&mut self.state.remembered);
        for (name, table) in &mut tables {
            let Some(changed) = table.delta()? else { continue };
            self.write_kept(open, &remembered_owner(name), changed, || table.base()).await?;
        }
        self.state.remembered = tables;
        Ok(())
    }

    /// Adds what changed to an owner's state, or writes all of it when deltas outweigh the base.
    async fn write_kept(
        &self,
        open: &mut Open<'_>,
        owner: &str,
        changed: RecordBatch,
        base: impl FnOnce() -> Result<Vec<RecordBatch>>,
    ) -> Result<()> {
        let mut files = self.state.files.get(owner).cloned().unwrap_or_default();
        let sizes: Vec<u64> = files.iter().map(|f| f.bytes).collect();
        let rows = match next_part(&sizes) {
            Part::Base => {
                files.clear();
                base()?
            }
            Part::Delta => vec![changed],
        };
        files.extend(self.folder.write(owner, open.epoch, &open.unique, &rows).await?);
        open.state.insert(owner.to_string(), files);
        Ok(())
    }

    async fn write_windows(&self, open: &mut Open<'_>) -> Result<()> {
        for (table, router) in &self.state.routers {
            let Some(windows) = router.windows().filter(|_| open.tables.contains_key(table)) else {
                continue;
            };
            let rows = [windows_rows(&windows)?];
            let owner = windows_owner(table);
            let file = self.folder.write(&owner, open.epoch, &open.unique, &rows).await?;
            open.state.insert(owner, file.into_iter().collect());
        }
        Ok(())
    }

    /// Adds rows to an owner's state as a delta; the deltas of sources are folded into a base when
    /// they outweigh it.
    async fn write_part(
        &self,
        open: &mut Open<'_>,
        owner: &str,
        rows: &[RecordBatch],
    ) -> Result<()> {
        let before = self.state.files.get(owner).cloned().unwrap_or_default();
        let sizes: Vec<u64> = before.iter().map(|f| f.bytes).collect();
        let fold = !before.is_empty() && next_part(&sizes) == Part::Base;
        let mut all = if fold { self.folder.read(&before).await? } else { Vec::new() };
        all.extend(rows.iter().cloned());
        if let Some(schema) = all.last().map(RecordBatch::schema) {
            // What an earlier version wrote may lack a column.
            all = all.iter().map(|rows| conform(rows, &schema)).collect::<Result<_>>()?;
        }
        let file = self.folder.write(owner, open.epoch, &open.unique, &all).await?;
        let mut files = if fold { Vec::new() } else { before };
        files.extend(file);
        open.state.insert(owner.to_string(), files);
        Ok(())
    }
}

/// The owner of a source's state files.
pub fn source_owner(source: &str) -> String {
    format!("source.{source}")
}

/// The owner of what is remembered beside a keyed table.
pub fn remembered_owner(table: &str) -> String {
    format!("upsert.{table}")
}

/// The owner of the file that keeps a table's shares of broken rows.
pub fn windows_owner(table: &str) -> String {
    format!("expect.{table}")
}

fn windows_rows(windows: &Windows) -> Result<RecordBatch> {
    let text = serde_json::to_string(windows)
        .map_err(|e| Error::bug("cannot write down shares of broken rows").because(e))?;
    let schema = Schema::new(vec![Field::new("windows", DataType::Utf8, false)]);
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    Ok(RecordBatch::try_new(Arc::new(schema), vec![column])?)
}

/// Reads back what a state file of [`windows_owner`] holds.
pub fn read_windows(rows: &[RecordBatch]) -> Windows {
    let text = rows.last().and_then(|b| b.column(0).as_string_opt::<i32>().cloned());
    let text = text.filter(|t| !t.is_empty()).map(|t| t.value(0).to_string());
    text.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default()
}
