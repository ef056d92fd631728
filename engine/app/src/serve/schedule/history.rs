//! The history of runs: a Delta table, `_sluice.runs` in SQL.
//!
//! In: records of runs that ended, each with its writer and number. Out: one row each, whoever
//! hands it in again: a commit carries the writer and the last number as its transaction, and what
//! the table knows by that is left out. The table is `_sluice/_runs` in its lake. Small files are
//! joined now and then, and the log is kept short, so that a row each few seconds is no burden for
//! years.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use parking_lot::RwLock;
use sluice_core::{Kind, Result};
use sluice_lake::delta::{self, Committed, Head, KeepLog, Txn, schema_string};
use sluice_lake::maintain::{self, CompactOptions, Keep};
use sluice_lake::manifest::{DataFile, DeltaAction, TableMeta};
use sluice_lake::parquet::{FileNaming, Layout, PartitionedWriter, Read, WriteOptions, read_file};
use sluice_lake::snapshot;
use sluice_lake::store::Location;
use sluice_runtime::catalog::SnapshotTable;
use sluice_runtime::epoch::Environment;

use super::record::RunRecord;
use super::rows;

/// Commits between two looks at the table's files: often enough that there are never more than a
/// few dozen small ones, seldom enough that a run's own row is what most commits are about.
const TIDY_COMMITS: u64 = 32;

/// Files are joined up to this size, some hundred thousand rows: the newest rows are found by
/// reading one or two of them.
const FILE_BYTES: u64 = 8 << 20;

/// How often old files and entries of the log go.
const SWEEP_MS: i64 = 24 * 3_600_000;

/// Files that are read for the newest rows at most; more hold rows that are old.
const FILES_READ_MAX: usize = 64;

/// Files that left the table stay for a day: no reader takes longer. Its log tells a week.
const PROPERTIES: [(&str, &str); 3] = [
    ("delta.deletedFileRetentionDuration", "interval 1 days"),
    ("delta.logRetentionDuration", "interval 7 days"),
    ("sluice.table", "runs"),
];

/// A record to be written.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub record: RunRecord,
    /// Who ended it.
    pub writer: String,
    /// As which of their records.
    pub number: u64,
}

/// The table.
#[derive(Debug)]
pub(crate) struct History {
    environment: Environment,
    location: Location,
    /// What is known of it; held while it is written.
    table: tokio::sync::Mutex<Known>,
    /// What readers see, without waiting for a writer.
    shown: RwLock<Option<SnapshotTable>>,
}

#[derive(Debug, Default)]
struct Known {
    head: Option<Head>,
    /// Commits since the files were looked at.
    commits: u64,
    /// The version of the last checkpoint that this process wrote or found.
    checkpoint: Option<i64>,
    /// When old files went last.
    swept_ms: Option<i64>,
}

impl History {
    /// The table in the lake at `lake`; nothing is read yet.
    pub(super) fn new(environment: &Environment, lake: &Location) -> Self {
        Self {
            environment: environment.clone(),
            location: lake.child("_sluice").child("_runs"),
            table: tokio::sync::Mutex::default(),
            shown: RwLock::new(None),
        }
    }

    /// Its columns.
    pub(crate) fn schema() -> arrow::datatypes::SchemaRef {
        rows::schema()
    }

    /// The table as it was when it was last looked at, a few seconds ago at most; none before the
    /// first row, or while its store was never reached. It costs nothing.
    pub(crate) fn table(&self) -> Option<SnapshotTable> {
        self.shown.read().clone()
    }

    /// Looks what others wrote.
    pub(super) async fn refresh(&self) -> Result<()> {
        let mut known = self.table.lock().await;
        self.catch_up(&mut known).await
    }

    async fn catch_up(&self, known: &mut Known) -> Result<()> {
        match &mut known.head {
            Some(head) => {
                delta::refresh(&self.location, head).await?;
            }
            None => {
                known.head = delta::load(&self.location).await?;
                known.checkpoint = known.head.as_ref().and_then(|head| head.checkpoint);
            }
        }
        self.show(known);
        Ok(())
    }

    fn show(&self, known: &Known) {
        let version = known.head.as_ref().map(|head| head.version);
        let shown = self.shown.read().as_ref().and_then(|table| table.version);
        if version == shown {
            return;
        }
        *self.shown.write() = known.head.as_ref().map(|head| SnapshotTable {
            location: self.location.clone(),
            schema: head.schema.clone(),
            partition_by: head.partition_by().to_vec(),
            files: head.files.values().cloned().collect(),
            version: Some(head.version),
        });
    }

    /// Adds rows that are not there. Of each writer's, all with lower numbers are in `rows` or were
    /// handed in before.
    pub(super) async fn add(&self, rows: Vec<Row>) -> Result<()> {
        let mut by_writer: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in rows {
            by_writer.entry(row.writer.clone()).or_default().push(row);
        }
        let mut known = self.table.lock().await;
        self.catch_up(&mut known).await?;
        for (writer, rows) in by_writer {
            self.add_of(&mut known, &writer, rows).await?;
        }
        Ok(())
    }

    async fn add_of(&self, known: &mut Known, writer: &str, mut rows: Vec<Row>) -> Result<()> {
        let app_id = format!("sluice/runs/{writer}");
        let number = |row: &Row| i64::try_from(row.number).unwrap_or(i64::MAX);
        let there = known.head.as_ref().and_then(|head| head.txns.get(&app_id).copied());
        rows.retain(|row| there.is_none_or(|there| number(row) > there));
        rows.sort_by_key(number);
        let Some(version) = rows.last().map(number) else { return Ok(()) };
        let records: Vec<RunRecord> = rows.into_iter().map(|row| row.record).collect();
        let mut action = self.action(known, "WRITE")?;
        action.adds = self.write(known, &records).await?;
        let txn = Txn { app_id, version };
        let now_ms = self.environment.clock.wall_ms();
        let done = delta::commit(&self.location, &mut known.head, &action, &txn, now_ms).await;
        let done = match done {
            // Another process made the table at the same time.
            Err(error) if error.kind() == Kind::Conflict && action.create.is_some() => {
                known.head = delta::load(&self.location).await?;
                action.create = None;
                action.base_version = known.head.as_ref().map(|head| head.version);
                delta::commit(&self.location, &mut known.head, &action, &txn, now_ms).await
            }
            done => done,
        };
        self.show(known);
        done?;
        known.commits += 1;
        Ok(())
    }

    /// A change of the table with no files yet.
    fn action(&self, known: &Known, operation: &str) -> Result<DeltaAction> {
        let create = match &known.head {
            Some(_) => None,
            None => Some(TableMeta {
                schema: schema_string(&rows::schema())?,
                partition_by: Vec::new(),
                properties: PROPERTIES.map(|(k, v)| (k.to_string(), v.to_string())).into(),
                id: self.environment.ids.fresh(),
                name: "runs".to_string(),
                created_ms: self.environment.clock.wall_ms(),
            }),
        };
        Ok(DeltaAction {
            location: self.location.path.to_string(),
            base_version: known.head.as_ref().map(|head| head.version),
            create,
            data_change: true,
            operation: operation.to_string(),
            ..DeltaAction::default()
        })
    }

    fn layout(&self, known: &Known) -> Result<Layout> {
        match &known.head {
            Some(head) => head.layout(&self.location),
            None => Layout::new(self.location.clone(), rows::schema(), Vec::new()),
        }
    }

    fn writer(&self, known: &Known) -> Result<PartitionedWriter> {
        let naming = FileNaming {
            prefix: format!("runs-{}", self.environment.ids.fresh()),
            modified_ms: self.environment.clock.wall_ms(),
        };
        let memory = self.environment.memory.reserve("history of runs");
        let options = WriteOptions { target_file_bytes: u64::MAX, ..WriteOptions::default() };
        PartitionedWriter::new(self.layout(known)?, options, naming, memory)
    }

    async fn write(&self, known: &Known, records: &[RunRecord]) -> Result<Vec<DataFile>> {
        let mut writer = self.writer(known)?;
        writer.write(&rows::batch(records)?).await?;
        writer.finish().await
    }

    /// The newest rows, of one job or of all, newest first: those that started last.
    pub(super) async fn newest(&self, job: Option<&str>, limit: usize) -> Result<Vec<RunRecord>> {
        let Some(table) = self.table() else { return Ok(Vec::new()) };
        let layout = Layout::new(table.location, table.schema, table.partition_by)?;
        let mut files: Vec<(Option<i64>, DataFile)> =
            table.files.into_iter().map(|file| (last_start(&file), file)).collect();
        // A file that does not say how new its rows are comes first.
        files.sort_by_key(|(last, _)| std::cmp::Reverse(last.unwrap_or(i64::MAX)));
        let mut found: Vec<RunRecord> = Vec::new();
        for (last_ms, file) in files.into_iter().take(FILES_READ_MAX) {
            let enough = limit.checked_sub(1).and_then(|at| found.get(at));
            // All that follow are older than the oldest of those that are wanted.
            if limit == 0 || enough.is_some_and(|r| last_ms.is_some_and(|ms| ms < r.started_ms)) {
                break;
            }
            let mut batches = read_file(&layout, &file, Read::default()).await?;
            while let Some(batch) = batches.try_next().await? {
                let wanted = |record: &RunRecord| job.is_none_or(|job| record.job == job);
                found.extend(rows::records(&batch)?.into_iter().filter(wanted));
                found.sort_by_key(|record| std::cmp::Reverse(record.started_ms));
                found.truncate(limit);
            }
        }
        Ok(found)
    }

    /// Joins small files, writes a checkpoint, deletes what nobody needs, as far as it is time for
    /// it.
    pub(super) async fn tidy(&self) -> Result<()> {
        let mut known = self.table.lock().await;
        if known.head.is_none() {
            return Ok(());
        }
        if known.commits >= TIDY_COMMITS {
            known.commits = 0;
            self.join(&mut known).await?;
            self.check_point(&mut known).await?;
        }
        let now_ms = self.environment.clock.wall_ms();
        if known.swept_ms.is_none_or(|swept| now_ms.saturating_sub(swept) >= SWEEP_MS) {
            known.swept_ms = Some(now_ms);
            self.sweep(&known).await?;
        }
        Ok(())
    }

    async fn join(&self, known: &mut Known) -> Result<()> {
        let Some(head) = &known.head else { return Ok(()) };
        let files: Vec<DataFile> = head.files.values().cloned().collect();
        let options = CompactOptions {
            target_bytes: FILE_BYTES,
            round_bytes: 4 * FILE_BYTES,
            ..CompactOptions::default()
        };
        let mut action = self.action(known, "OPTIMIZE")?;
        action.data_change = false;
        let layout = self.layout(known)?;
        for group in maintain::plan_compaction(&files, options) {
            let joined = maintain::compact(&layout, &group, self.writer(known)?).await?;
            action.adds.extend(joined.adds);
            action.removes.extend(joined.removes);
        }
        if action.removes.is_empty() {
            return Ok(());
        }
        // Of two processes that join at the same time one does, and the other at its next time.
        let now_ms = self.environment.clock.wall_ms();
        let txn = Txn { app_id: "sluice/runs/joined".to_string(), version: now_ms };
        let done = delta::commit(&self.location, &mut known.head, &action, &txn, now_ms).await;
        self.show(known);
        if !matches!(done?, Committed::Done { .. }) {
            tracing::debug!("another process joins the files of the history of runs");
        }
        Ok(())
    }

    async fn check_point(&self, known: &mut Known) -> Result<()> {
        let Some(head) = &known.head else { return Ok(()) };
        let interval = head.retention().checkpoint_interval;
        if head.version - known.checkpoint.unwrap_or(-1) >= interval {
            known.checkpoint = Some(delta::checkpoint(&self.location).await?);
        }
        Ok(())
    }

    async fn sweep(&self, known: &Known) -> Result<()> {
        let Some(head) = &known.head else { return Ok(()) };
        let retention = head.retention();
        let now_ms = maintain::store_now_ms(&self.location).await?;
        if let Some(retention_ms) = retention.log_ms {
            let keep = KeepLog { now_ms, retention_ms, since_version: None };
            // It is no epoch's.
            delta::expire_log(&self.location, keep, u64::MAX).await?;
        }
        let removed_ms = retention.files_ms.max(snapshot::KEEP_MS);
        let keep = Keep { removed_ms, now_ms, ..Keep::default() };
        let gone = maintain::vacuum(&self.location, &keep).await?;
        maintain::delete(&self.location.store, &gone).await?;
        Ok(())
    }
}

/// The last start among a file's rows, milliseconds since 1970, as its statistics say.
fn last_start(file: &DataFile) -> Option<i64> {
    let stats: serde_json::Value = serde_json::from_str(file.stats.as_deref()?).ok()?;
    let text = stats.pointer("/maxValues/started_at")?.as_str()?;
    Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis())
}
