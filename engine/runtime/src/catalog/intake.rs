//! The leaf that runs an epoch's intake: splits are opened inside the plan, on all cores.
//!
//! In: a reader and the splits of one epoch. Out: decoded rows, less what the reader can tell that
//! the plan does not need; the rows that could not be decoded and the counts gather in a
//! [`Tally`]. A split that several plans read is counted once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions,
    StringArray,
};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::{Precision, Statistics};
use datafusion::error::Result as SqlResult;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::StreamExt;
use futures::future::ready;
use parking_lot::Mutex;
use sluice_core::{
    Decoded, Held, Reader, Rejected, Result, RowStream, Scan, Split, rejected_schema,
};

use super::aside::Aside;
use super::bound::bounds;
use super::{external, with_source_file};

/// Bits of a position that count within a split: a terabyte of bytes, and 8 million splits above.
const POSITION_BITS: u32 = 40;

/// Bytes of splits that a stream opens together. Of big splits that is one, which reads ahead by
/// itself; of small files many, so that a store's latency is not paid once for each.
const OPEN_BYTES: u64 = 8 * 1024 * 1024;

/// Splits that a stream opens together, however small they are: requests under way at a time.
const OPEN_MAX: u64 = 16;

/// What reading an intake found, besides rows.
///
/// Kept per chunk of a split: reading a split again gives the same chunks and changes nothing, but
/// that one which was pruned is read after all. It is pruned only if nobody read it.
#[derive(Debug, Default)]
pub struct Tally {
    chunks: Mutex<BTreeMap<(u32, usize), ChunkTally>>,
    rejected: Mutex<Aside>,
}

#[derive(Debug)]
struct ChunkTally {
    decoded: u64,
    rejected: u64,
    pruned: u64,
}

impl Tally {
    /// A tally that keeps rejected rows in `aside`.
    pub fn new(aside: Aside) -> Self {
        Self { rejected: Mutex::new(aside), ..Self::default() }
    }

    /// Rows decoded, over all splits.
    pub fn decoded(&self) -> u64 {
        self.chunks.lock().values().map(|c| c.decoded).sum()
    }

    /// Rows that could not be decoded, over all splits.
    pub fn rejected(&self) -> u64 {
        self.chunks.lock().values().map(|c| c.rejected).sum()
    }

    /// Those rows, as [`rejected_batch`] gives them; they are taken out.
    pub fn take_rejected(&self) -> Aside {
        std::mem::take(&mut *self.rejected.lock())
    }

    /// Rows that no plan read, over all splits.
    pub fn pruned(&self) -> u64 {
        self.chunks.lock().values().map(|c| c.pruned).sum()
    }

    fn add(&self, split: u32, chunk: usize, found: &Decoded) -> Result<()> {
        let Decoded { rows, rejected, pruned } = found;
        let (decoded, pruned) = (rows.num_rows() as u64, *pruned);
        let tally = ChunkTally { decoded, rejected: rejected.len() as u64, pruned };
        let is_new = {
            let mut chunks = self.chunks.lock();
            let known = chunks.get(&(split, chunk)).map(|known| known.pruned);
            if pruned == 0 || known.is_none() {
                chunks.insert((split, chunk), tally);
            }
            pruned == 0 && known != Some(0)
        };
        match is_new && !rejected.is_empty() {
            true => self.rejected.lock().push(rejected_batch(rejected)?),
            false => Ok(()),
        }
    }
}

/// Rows that could not be decoded, with the columns of [`sluice_core::rejected_schema`] less the
/// epoch.
pub fn rejected_batch(rejected: &[Rejected]) -> Result<RecordBatch> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rejected.iter().map(|r| r.object.as_str()))),
        Arc::new(Int64Array::from_iter_values(rejected.iter().map(|r| signed(r.position)))),
        Arc::new(StringArray::from_iter_values(rejected.iter().map(|r| r.reason.as_str()))),
        Arc::new(BinaryArray::from_iter_values(rejected.iter().map(|r| r.bytes.as_slice()))),
    ];
    let fields = rejected_schema().fields().iter().skip(1).cloned().collect::<Vec<_>>();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// What stands behind a source's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Nothing.
    Nothing,
    /// The rows' position in the epoch.
    Position,
    /// The object a row came from.
    SourceFile,
}

/// An epoch's intake of one source as a table.
#[derive(Debug)]
pub struct IntakeTable {
    schema: SchemaRef,
    behind: Behind,
    reader: Arc<dyn Reader>,
    splits: Vec<Split>,
    partitions: usize,
    tally: Arc<Tally>,
}

impl IntakeTable {
    /// A table over `splits`, read in at most `partitions` streams; what is found besides rows goes
    /// to `tally`. `behind` says what their last column is.
    pub fn new(
        reader: Arc<dyn Reader>,
        splits: &[Split],
        partitions: usize,
        tally: &Arc<Tally>,
        behind: Behind,
    ) -> Self {
        let schema = match behind {
            Behind::Position => reader.schema(),
            Behind::Nothing => without_last(&reader.schema()),
            Behind::SourceFile => with_source_file(&without_last(&reader.schema())),
        };
        let (splits, tally) = (splits.to_vec(), tally.clone());
        Self { schema, behind, reader, splits, partitions, tally }
    }

    /// An intake that would be estimated at `rows`, to plan with and not to run.
    pub fn supposed(schema: SchemaRef, rows: usize) -> Self {
        let (rows, detail, held) = (rows as u64, serde_json::Value::Null, Held::default());
        let split = Split {
            ordinal: 0,
            object: String::new(),
            range: (0, 0),
            rows,
            bytes: 0,
            detail,
            held,
        };
        Self::new(Arc::new(Supposed(schema)), &[split], 1, &Arc::default(), Behind::Position)
    }

    fn streams(&self, scan: Scan) -> Vec<Arc<dyn PartitionStream>> {
        let (scan, queue) = (Arc::new(scan), Arc::new(Queue::new(self.splits.clone())));
        let stream = |_| -> Arc<dyn PartitionStream> {
            Arc::new(Streams {
                schema: self.schema.clone(),
                behind: self.behind,
                reader: self.reader.clone(),
                queue: queue.clone(),
                executed: AtomicUsize::new(0),
                scan: scan.clone(),
                tally: self.tally.clone(),
            })
        };
        (0..self.partitions.max(1)).map(stream).collect()
    }
}

/// Reads nothing.
#[derive(Debug)]
struct Supposed(SchemaRef);

impl Reader for Supposed {
    fn schema(&self) -> SchemaRef {
        self.0.clone()
    }

    fn open(&self, _split: Split, _scan: &Scan) -> RowStream {
        futures::stream::empty().boxed()
    }
}

#[async_trait]
impl TableProvider for IntakeTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        // As the splits estimate them.
        let rows = self.splits.iter().map(|s| s.rows).sum::<u64>();
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Inexact(usize::try_from(rows).unwrap_or(usize::MAX));
        Some(statistics)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> SqlResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match bounds([*filter], &self.schema).is_empty() {
            true => TableProviderFilterPushDown::Unsupported,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> SqlResult<Arc<dyn ExecutionPlan>> {
        let name = |i: &usize| self.schema.field(*i).name().clone();
        let columns = projection.map(|wanted| wanted.iter().map(name).collect());
        let scan = Scan { columns, bounds: bounds(filters, &self.schema) };
        let table = StreamingTable::try_new(self.schema.clone(), self.streams(scan))?;
        table.scan(state, projection, filters, limit).await
    }
}

/// Positions count within a split; ahead of them goes the split's place in the epoch.
fn place(
    ordinal: u32,
    object: &str,
    behind: Behind,
    schema: &SchemaRef,
    rows: &RecordBatch,
) -> Result<RecordBatch> {
    let Some((last, others)) = rows.columns().split_last() else { return Ok(rows.clone()) };
    if behind != Behind::Position {
        let mut columns = others.to_vec();
        if behind == Behind::SourceFile {
            let file = std::iter::repeat_n(object, rows.num_rows());
            columns.push(Arc::new(StringArray::from_iter_values(file)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        return Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?);
    }
    let split = i64::from(ordinal) << POSITION_BITS;
    let within: &PrimitiveArray<Int64Type> = last.as_primitive();
    let placed: PrimitiveArray<Int64Type> =
        within.unary(|p| split | (p & ((1 << POSITION_BITS) - 1)));
    let mut columns = others.to_vec();
    columns.push(Arc::new(placed));
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

fn without_last(schema: &SchemaRef) -> SchemaRef {
    let width = schema.fields().len().saturating_sub(1);
    Arc::new(Schema::new(schema.fields().iter().take(width).cloned().collect::<Vec<_>>()))
}

/// The splits that the streams of a scan share: each takes the next one when it is done with what
/// it has, so that none waits for a slower one. A scan that is executed again begins again.
#[derive(Debug)]
struct Queue {
    splits: Vec<Split>,
    /// Splits taken, of each execution.
    taken: Mutex<Vec<usize>>,
}

impl Queue {
    fn new(splits: Vec<Split>) -> Self {
        Self { splits, taken: Mutex::default() }
    }

    /// The next split of execution number `execution`.
    fn next(&self, execution: usize) -> Option<Split> {
        let mut taken = self.taken.lock();
        if taken.len() <= execution {
            taken.resize(execution + 1, 0);
        }
        let next = &mut taken[execution];
        let split = self.splits.get(*next)?.clone();
        *next += 1;
        Some(split)
    }
}

/// How many of these splits are opened together.
fn open_together(splits: &[Split]) -> usize {
    let bytes: u64 = splits.iter().map(|split| split.bytes).sum();
    let usual = (bytes / splits.len().max(1) as u64).max(1);
    usize::try_from((OPEN_BYTES / usual).clamp(1, OPEN_MAX)).unwrap_or(1)
}

#[derive(Debug)]
struct Streams {
    schema: SchemaRef,
    /// The last column.
    behind: Behind,
    reader: Arc<dyn Reader>,
    queue: Arc<Queue>,
    /// How often this stream was begun.
    executed: AtomicUsize,
    scan: Arc<Scan>,
    tally: Arc<Tally>,
}

impl PartitionStream for Streams {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (reader, scan, tally) = (self.reader.clone(), self.scan.clone(), self.tally.clone());
        let (schema, behind) = (self.schema.clone(), self.behind);
        let (queue, execution) = (self.queue.clone(), self.executed.fetch_add(1, Relaxed));
        let together = open_together(&queue.splits);
        let next = std::iter::from_fn(move || queue.next(execution));
        let opened = futures::stream::iter(next).map(move |split| {
            let (ordinal, object) = (split.ordinal, split.object.clone());
            let mut chunks = reader.open(split, &scan);
            // The first chunk is asked for ahead of its turn: that starts the requests.
            async move { (ordinal, object, chunks.next().await, chunks) }
        });
        let opened = opened.buffered(together);
        let rows = opened.flat_map(move |(ordinal, object, first, rest)| {
            let (tally, schema) = (tally.clone(), schema.clone());
            let chunks = futures::stream::iter(first).chain(rest);
            chunks.enumerate().filter_map(move |(chunk, decoded)| {
                let placed = decoded.and_then(|decoded| {
                    tally.add(ordinal, chunk, &decoded)?;
                    place(ordinal, &object, behind, &schema, &decoded.rows)
                });
                let empty = placed.as_ref().is_ok_and(|rows| rows.num_rows() == 0);
                ready((!empty).then(|| placed.map_err(external)))
            })
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use tokio::sync::Barrier;

    use super::*;

    /// Gives a row per split, but none before as many splits are open as are opened together.
    #[derive(Debug)]
    struct Together(Arc<Barrier>);

    impl Reader for Together {
        fn schema(&self) -> SchemaRef {
            Arc::new(Schema::new(vec![Field::new("position", DataType::Int64, true)]))
        }

        fn open(&self, split: Split, _scan: &Scan) -> RowStream {
            let (schema, barrier) = (self.schema(), self.0.clone());
            let row = async move {
                barrier.wait().await;
                let column: ArrayRef = Arc::new(Int64Array::from(vec![i64::from(split.ordinal)]));
                let rows = RecordBatch::try_new(schema, vec![column])?;
                Ok(Decoded::new(rows, Vec::new()))
            };
            futures::stream::once(row).boxed()
        }
    }

    #[tokio::test]
    async fn splits_that_are_opened_together_keep_their_order() {
        let splits: Vec<Split> = (0..32).map(|ordinal| split(ordinal, 1)).collect();
        let together = usize::try_from(OPEN_MAX).unwrap();
        let reader = Arc::new(Together(Arc::new(Barrier::new(together))));
        let (schema, tally) = (reader.schema(), Arc::new(Tally::default()));
        let behind = Behind::Position;
        let (scan, counted) = (Arc::default(), tally.clone());
        let queue = Arc::new(Queue::new(splits));
        let executed = AtomicUsize::new(0);
        let streams = Streams { schema, behind, reader, queue, executed, scan, tally: counted };
        for _ in 0..2 {
            let rows = streams.execute(Arc::new(TaskContext::default()));
            let rows: Vec<RecordBatch> = rows.map(|batch| batch.unwrap()).collect().await;
            let positions = rows.iter().map(|b| b.column(0).as_primitive::<Int64Type>().value(0));
            let expected = (0..32).map(|ordinal: i64| ordinal << POSITION_BITS | ordinal);
            assert!(positions.eq(expected));
        }
        assert_eq!(tally.decoded(), 32);
    }

    #[test]
    fn streams_share_their_splits_and_each_is_taken_once() {
        let queue = Queue::new((0..5).map(|ordinal| split(ordinal, 1)).collect());
        let next = |execution| queue.next(execution).map(|split| split.ordinal);
        assert_eq!([next(0), next(1), next(0), next(0)], [Some(0), Some(0), Some(1), Some(2)]);
        assert_eq!([next(0), next(1), next(0), next(0)], [Some(3), Some(1), Some(4), None]);
        assert_eq!(next(1), Some(2));
    }

    fn split(ordinal: u32, bytes: u64) -> Split {
        let detail = serde_json::Value::Null;
        let (object, held) = (String::new(), Held::default());
        Split { ordinal, object, range: (0, 0), rows: 0, bytes, detail, held }
    }

    #[test]
    fn a_chunk_is_pruned_only_if_nobody_read_it() {
        let schema = Arc::new(Schema::new(vec![Field::new("position", DataType::Int64, true)]));
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
        let rejected =
            Rejected { object: "a".into(), position: 2, bytes: Vec::new(), reason: "bad".into() };
        let read = Decoded::new(rows, vec![rejected]);
        let pruned = Decoded::pruned(schema, 3);
        let told = |tally: &Tally| (tally.decoded(), tally.rejected(), tally.pruned());
        let tally = Tally::default();
        tally.add(0, 0, &pruned).unwrap();
        tally.add(0, 0, &pruned).unwrap();
        tally.add(0, 1, &pruned).unwrap();
        assert_eq!(told(&tally), (0, 0, 6));
        for again in [&read, &pruned, &read] {
            tally.add(0, 0, again).unwrap();
            assert_eq!(told(&tally), (2, 1, 3));
        }
        assert_eq!(tally.take_rejected().rows(), 1, "each is kept once");
    }

    #[test]
    fn small_splits_are_opened_together_and_big_ones_alone() {
        const MIB: u64 = 1024 * 1024;
        let cases: [(&[u64], usize); 6] = [
            (&[], 16),
            (&[0, 0, 0], 16),
            (&[1000; 40], 16),
            (&[MIB; 40], 8),
            (&[4 * MIB, 4 * MIB], 2),
            (&[32 * MIB; 3], 1),
        ];
        for (bytes, expected) in cases {
            let splits: Vec<Split> = bytes.iter().map(|bytes| split(0, *bytes)).collect();
            assert_eq!(open_together(&splits), expected, "{bytes:?}");
        }
    }
}
