//! Compaction: an epoch without sources that joins small files into big ones, or sorts them.
//!
//! In: the heads of Delta tables and a budget. Out: a manifest whose actions change no rows. It is
//! a step of the job's own runner between epochs, so nobody races it but strangers; if one of those
//! takes away a file first, the compaction of that table is dropped, never repaired.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Expr, Volatility, create_udf};
use futures::StreamExt;
use sluice_core::{Error, Kind, Result, Step, format_bytes, reach};
use sluice_lake::maintain::{self, CompactOptions, Curve, Group};
use sluice_lake::manifest::{Action, EpochKind, Manifest, TableCounts};
use sluice_lake::table::Prepared;

use super::append::{Target, fit};
use super::publish::Publisher;
use super::relation::Relation;
use super::work::{Open, Worker};
use crate::catalog::sql_error;
use crate::job::{FilesSpec, TableFormat};

/// The column that sorted rows have while they are sorted.
const CURVE_COLUMN: &str = "_sluice_curve";

/// Runs sort by themselves once so many files of the wanted size are unsorted: a square of four by
/// four narrows two columns, fewer files are hardly narrower than before.
const SORT_FILES_MIN: u64 = 16;

/// Files of one table that a round rewrites.
struct Planned {
    groups: Vec<Group>,
    /// Whether their rows are sorted.
    sort: bool,
}

/// When files are rewritten, and how much at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// A partition with at least this many small or unsorted files is worked on.
    pub files_min: usize,
    /// Bytes of files that are read in one round, over all tables.
    pub round_bytes: u64,
    /// Files that are read in one round, over all tables.
    pub round_files: usize,
    /// Whether somebody asked for it: what little is unsorted is sorted too, and too little memory
    /// is an error; else the table waits.
    pub in_full: bool,
}

impl Compaction {
    /// Whatever can be joined, as somebody asked for it. A round is an epoch: what it did stays done
    /// when the next is cut off, so it is as much as a minute or two can do.
    pub const ALL: Self =
        Self { files_min: 1, round_bytes: 4 << 30, round_files: 10_000, in_full: true };

    /// As it is done by a run that closes an epoch every so often: rows wait meanwhile, so a round is
    /// a quarter of what others take. Larger files are joined by runs that end, and by `maintain`.
    pub fn between_timed_epochs(self) -> Self {
        Self { round_bytes: self.round_bytes.min(64 << 20), ..self }
    }

    /// Options for a table's files.
    pub fn options(&self, wanted: &FilesSpec) -> CompactOptions {
        CompactOptions {
            target_bytes: wanted.target_bytes,
            files_min: self.files_min,
            round_bytes: self.round_bytes,
            round_files: self.round_files,
            sort_bytes_min: if self.in_full { 0 } else { SORT_FILES_MIN * wanted.target_bytes },
        }
    }
}

impl Default for Compaction {
    /// Between two epochs rows wait: 256 MiB are read and written in a few seconds.
    fn default() -> Self {
        Self { files_min: 8, round_bytes: 256 << 20, round_files: 1_000, in_full: false }
    }
}

/// Whether there was too little memory: trying again does not help, less work or more memory does.
fn is_memory(error: &Error) -> bool {
    error.kind() == Kind::Unavailable && !error.retry()
}

/// What to rewrite of a table: sorted, where enough is unsorted, else joined.
fn plan_table(relation: &Relation, options: CompactOptions) -> Planned {
    let by = &relation.wanted.zorder_by;
    if by.is_empty() {
        let groups = maintain::plan_compaction(&relation.files, options);
        return Planned { groups, sort: false };
    }
    let mark = maintain::zorder_mark(by);
    let groups = maintain::plan_zorder(&relation.files, &mark, options);
    if !groups.is_empty() {
        return Planned { groups, sort: true };
    }
    // What is sorted stays so: only files that are not are joined meanwhile.
    let loose = relation.files.iter().filter(|f| !maintain::is_sorted(f, &mark));
    let loose: Vec<_> = loose.cloned().collect();
    Planned { groups: maintain::plan_compaction(&loose, options), sort: false }
}

impl Worker {
    /// Whether some table has files to rewrite.
    pub fn wants_compaction(&self, compaction: Compaction) -> bool {
        !self.plan_compaction(compaction).is_empty()
    }

    /// Rewrites files as far as one round goes; none when there is nothing to do. `publisher` knows
    /// the columns that others have added to the tables.
    pub async fn compact(
        &mut self,
        compaction: Compaction,
        publisher: &Publisher,
    ) -> Result<Option<Manifest>> {
        let mut open = self.open(&[]);
        for (name, planned) in self.plan_compaction(compaction) {
            let mut relation = self.relation(&name)?.clone();
            if let Some(head) = publisher.tables.get(&name).and_then(|t| t.head.as_ref()) {
                relation.schema = head.schema.clone();
            }
            match self.compact_table(&mut open, &relation, planned).await {
                Err(error) if !compaction.in_full && is_memory(&error) => {
                    let error = error.chain();
                    tracing::warn!(table = name, error, "files are not joined for want of memory");
                }
                done => done?,
            }
        }
        if open.tables.is_empty() {
            return Ok(None);
        }
        reach(Step::CompactionWritten, open.epoch);
        Ok(Some(self.manifest(open, EpochKind::Compaction)))
    }

    /// The files of one round, by table; the round's budget is for all tables together.
    fn plan_compaction(&self, mut left: Compaction) -> BTreeMap<String, Planned> {
        let mut plan = BTreeMap::new();
        for relation in self.state.relations.values() {
            if relation.format != TableFormat::Delta || !relation.exists {
                continue;
            }
            let planned = plan_table(relation, left.options(&relation.wanted));
            if planned.groups.is_empty() {
                continue;
            }
            left.round_bytes -= planned.groups.iter().map(Group::bytes).sum::<u64>();
            left.round_files -= planned.groups.iter().map(|g| g.files.len()).sum::<usize>();
            plan.insert(relation.name.clone(), planned);
        }
        plan
    }

    async fn compact_table(
        &mut self,
        open: &mut Open<'_>,
        relation: &Relation,
        Planned { groups, sort }: Planned,
    ) -> Result<()> {
        let name = relation.name.as_str();
        let mut target = self.target(open, relation);
        // Each group is cut into files before it is written.
        target.file_bytes = u64::MAX;
        let mut numbers = 0..;
        let (mut adds, mut removes) = (Vec::new(), Vec::new());
        for group in &groups {
            let done = if !sort {
                let writer = target.writer(numbers.next().unwrap_or_default())?;
                let joined = maintain::compact(&target.layout, group, writer).await?;
                // Where memory is too short for one file, joining is of no use.
                Some(joined).filter(|joined| joined.adds.len() < group.files.len())
            } else {
                Some(self.sort_files(relation, &target, group, &mut numbers).await?)
            };
            let done = done.unwrap_or_default();
            adds.extend(done.adds);
            removes.extend(done.removes);
        }
        if removes.is_empty() {
            return Ok(());
        }
        let (files, into) = (removes.len(), adds.len());
        let bytes = format_bytes(groups.iter().map(Group::bytes).sum());
        tracing::info!(table = name, files, into, bytes, "files rewritten");
        let mut action = self.delta_action(open, relation, adds, removes)?;
        action.data_change = false;
        action.operation = "OPTIMIZE".to_string();
        self.record(open, name, Action::Delta(action), TableCounts::default())
    }

    /// Writes the group's rows again, sorted along a curve through the columns of `zorder_by`, into
    /// files of the wanted size. What does not fit into memory is spilled.
    async fn sort_files(
        &self,
        relation: &Relation,
        target: &Target,
        group: &Group,
        numbers: &mut impl Iterator<Item = usize>,
    ) -> Result<Prepared> {
        let by = &relation.wanted.zorder_by;
        let (curve, rows) = maintain::survey(&target.layout, group, by).await?;
        let mut target = target.clone();
        let rest = target.prefix.trim_start_matches("part-");
        target.prefix = format!("{}-{rest}", maintain::zorder_mark(by));
        let files = (group.bytes() / relation.wanted.target_bytes.max(1)).max(1);
        let rows_per_file = usize::try_from(rows.div_ceil(files)).unwrap_or(usize::MAX).max(1);

        let failed = |e| sql_error("cannot sort a table's files", e);
        let mut sorted = self.sorted(relation, group, curve).await.map_err(failed)?;
        let (mut adds, mut read) = (Vec::new(), 0);
        let mut open: Option<(_, usize)> = None;
        while let Some(batch) = sorted.next().await {
            let mut batch: RecordBatch = fit(batch.map_err(failed)?, &relation.schema)?;
            read += batch.num_rows() as u64;
            while batch.num_rows() > 0 {
                let (mut writer, left) = match open.take() {
                    Some(open) => open,
                    None => (target.writer(numbers.next().unwrap_or_default())?, rows_per_file),
                };
                let taken = left.min(batch.num_rows());
                writer.write(&batch.slice(0, taken)).await?;
                batch = batch.slice(taken, batch.num_rows() - taken);
                match left - taken {
                    0 => adds.extend(writer.finish().await?),
                    left => open = Some((writer, left)),
                }
            }
        }
        if let Some((writer, _)) = open {
            adds.extend(writer.finish().await?);
        }
        if read != rows {
            return Err(Error::bug(format!("sorting lost rows read={rows} sorted={read}")));
        }
        maintain::replaced(group, read, adds)
    }

    /// The rows of some files in the order of a curve, the curve's own column last.
    async fn sorted(
        &self,
        relation: &Relation,
        group: &Group,
        curve: Curve,
    ) -> std::result::Result<datafusion::physical_plan::SendableRecordBatchStream, DataFusionError>
    {
        let by = &relation.wanted.zorder_by;
        let provider = relation
            .provider_of(&self.context, &self.lake, &group.files)
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        let column = |name: &String| Expr::Column(Column::from_name(name));
        let kinds = by.iter().map(|name| relation.schema.field_with_name(name));
        let kinds = kinds.map(|f| f.map(|f| f.data_type().clone()));
        let kinds = kinds.collect::<std::result::Result<Vec<_>, _>>()?;
        let curve = Arc::new(curve);
        let keys = create_udf(
            CURVE_COLUMN,
            kinds,
            DataType::UInt64,
            Volatility::Immutable,
            Arc::new(move |values: &[ColumnarValue]| {
                let columns = ColumnarValue::values_to_arrays(values)?;
                let keys = curve.keys(&columns);
                let keys = keys.map_err(|e| DataFusionError::External(Box::new(e)))?;
                Ok(ColumnarValue::Array(Arc::new(keys)))
            }),
        );
        let key = keys.call(by.iter().map(column).collect()).alias(CURVE_COLUMN);
        let mut columns: Vec<Expr> =
            relation.schema.fields().iter().map(|f| column(f.name())).collect();
        columns.push(key);
        let rows = self.context.read_table(provider)?.select(columns)?;
        let order = column(&CURVE_COLUMN.to_string()).sort(true, true);
        rows.sort(vec![order])?.execute_stream().await
    }
}
