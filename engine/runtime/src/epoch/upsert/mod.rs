//! The work of one epoch for one keyed table: what comes in is resolved against the rows it holds.
//!
//! In: the table's plan over what is new. Out: files and an action. The epoch's rows and the rows
//! the table has for their keys are sorted together by key, spilling, and resolved chunk by chunk:
//! neither the epoch nor the table has to fit in memory. What is held beside the sort is eight
//! bytes and some per key, a bit per row of the files that are rewritten, and what is remembered.
//!
//! ```text
//! new rows ─► hashes of keys ─► files' rows with such keys ─┐
//!    └──────────────────────────────────────────────────────┴─► sort by key ─► chunks ─► resolve
//!                  rows that stay, of files that lose rows ──────────► files ◄── rows ◄────┘
//! ```

mod chunks;
mod entering;
mod resolving;

use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::ready;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use sluice_core::{Error, Result, Share};
use sluice_lake::manifest::{Action, DataFile, TableCounts};
use sluice_lake::parquet::{Layout, Part, parts};
use sluice_lake::table::{KeyFilter, rows_without};
use tokio::sync::oneshot;

use self::chunks::Chunks;
use self::entering::{Entering, entering};
use self::resolving::Resolving;
use super::append::{Target, append};
use super::relation::Relation;
use super::routing::{Outcome, Router};
use super::work::{NewRows, Open, Worker};
use crate::catalog::external;
use crate::job::Merge;
use crate::operator::upsert::UpsertSpec;
use crate::plan::{TableNode, sorted};

/// A chunk may take this part of the pool; it is resolved in memory.
const CHUNK_SHARE: usize = 4;

impl Worker {
    pub(super) async fn upsert_table(
        &mut self,
        open: &mut Open<'_>,
        node: &TableNode,
        streams: Vec<SendableRecordBatchStream>,
        router: &Router,
    ) -> Result<Outcome> {
        let relation = self.relation(&node.spec.name)?.clone();
        let name = relation.name.clone();
        let spec = upsert_spec(node)?;
        let layout = self.layout(&relation)?;
        let memory = self.env.memory.clone();
        let keys = memory.reserve(&format!("keys of table {name}"));
        let filter = KeyFilter::new(&relation.schema, &relation.key, keys)?;
        let seen = Arc::new(Mutex::new(Entering::new(filter)));
        let rows = entering(streams, &relation, &layout, node, router, &seen)?;
        let mut by = spec.keys.clone();
        by.push(rows.schema().fields().len() - 1);
        let rows = sorted(rows, &by, &self.context.task_ctx())?;
        let owner = format!("rows of table {name} with one key");
        let share = self.env.pool_bytes().unwrap_or(usize::MAX) / CHUNK_SHARE;
        let held = Share::of(memory.as_ref(), &owner, share);
        let change_at = self.change_location(open, &relation);
        let resolving = Resolving {
            chunks: Chunks::new(rows, spec.keys.clone(), held),
            spec,
            schema: relation.schema.clone(),
            remembered: self.state.remembered.remove(&name),
            seen: seen.clone(),
            router: router.clone(),
            outcome: Outcome::default(),
            counts: TableCounts::default(),
            gone: Vec::new(),
            change: None,
            change_at,
        };
        let resolving = Arc::new(tokio::sync::Mutex::new(resolving));
        let target = Target { read_on: false, ..self.target(open, &relation) };
        let streams = self.env.partitions;
        let rows = remaining(written(&resolving), &resolving, &layout, streams);
        let rows = rows.into_iter().map(|rows| -> SendableRecordBatchStream {
            Box::pin(RecordBatchStreamAdapter::new(relation.schema.clone(), rows))
        });
        let none = Router::none(relation.schema.clone());
        let appended = append(rows.collect(), &target, &none).await?;
        let resolved = Arc::into_inner(resolving)
            .ok_or_else(|| Error::bug("rows are still resolved after their end"))?
            .into_inner();
        self.finish_upsert(open, &relation, resolved, appended.files).await
    }

    async fn finish_upsert(
        &mut self,
        open: &mut Open<'_>,
        relation: &Relation,
        resolved: Resolving,
        adds: Vec<DataFile>,
    ) -> Result<Outcome> {
        let Resolving { mut counts, mut outcome, seen, gone, change, remembered, .. } = resolved;
        let removes = {
            let seen = seen.lock();
            let files = seen.found.iter().zip(&gone).filter(|(_, gone)| gone.any());
            files.map(|(found, _)| found.file.clone()).collect::<Vec<_>>()
        };
        if let Some(remembered) = remembered {
            self.state.remembered.insert(relation.name.clone(), remembered);
        }
        let (entering, came, routed) = {
            let mut seen = seen.lock();
            (seen.rows, seen.kept, std::mem::take(&mut seen.outcome))
        };
        outcome.merge(routed);
        counts.entering = entering;
        counts.quarantined = outcome.quarantined_rows();
        counts.dropped = outcome.dropped;
        let action = if adds.is_empty() && removes.is_empty() && relation.exists {
            Action::None
        } else {
            let mut action = self.delta_action(open, relation, adds, removes)?;
            if let Some(change) = change.filter(|_| !action.removes.is_empty()) {
                action.change_file = Some(change.finish().await?);
            }
            Action::Delta(action)
        };
        if came > 0 {
            open.new_rows.insert(relation.name.clone(), NewRows::Replaced);
        }
        self.record(open, &relation.name, action, counts)?;
        Ok(outcome)
    }
}

type Rows =
    futures::stream::BoxStream<'static, datafusion::error::Result<arrow::array::RecordBatch>>;

/// The rows that go in, chunk by chunk.
fn written(resolving: &Arc<tokio::sync::Mutex<Resolving>>) -> Rows {
    let rows = futures::stream::try_unfold(resolving.clone(), |resolving| async move {
        let next = resolving.lock().await.next().await.map_err(external)?;
        Ok(next.map(|rows| (rows, resolving)))
    });
    rows.boxed()
}

/// Streams to write side by side: the first gives `rows`; when they are all resolved, each takes the
/// files that lose some, one after another, and gives the rows that stay of them.
fn remaining(
    rows: Rows,
    resolving: &Arc<tokio::sync::Mutex<Resolving>>,
    layout: &Layout,
    streams: usize,
) -> Vec<Rows> {
    let (tell, told) = oneshot::channel();
    let told = told.shared();
    let rest = || {
        let (told, layout) = (told.clone(), layout.clone());
        // Nothing is told where resolving failed, which the first stream says.
        let queue = futures::stream::once(told).filter_map(|queue| ready(queue.ok()));
        queue.flat_map(move |queue| stay(queue, layout.clone())).boxed()
    };
    let (resolving, of) = (resolving.clone(), layout.clone());
    let end = futures::stream::once(async move {
        let losing = losing(&resolving, &of, streams).await;
        // Nobody hears it where all streams are dropped.
        losing.map(|parts| drop(tell.send(Arc::new(Mutex::new(parts)))))
    });
    let end = end.filter_map(|told| ready(told.err().map(|error| Err(external(error)))));
    let first = rows.chain(end).chain(rest()).boxed();
    std::iter::once(first).chain((1..streams).map(|_| rest())).collect()
}

/// A part of a file that loses rows, and which.
type Losing = (DataFile, Part, BooleanBuffer);

/// The files that lose rows, the one with the fewest first; in parts where they are fewer than
/// `streams`.
async fn losing(
    resolving: &tokio::sync::Mutex<Resolving>,
    layout: &Layout,
    streams: usize,
) -> Result<Vec<Losing>> {
    let files: Vec<(DataFile, BooleanBuffer)> = {
        let resolving = resolving.lock().await;
        let found = resolving.seen.lock().found.clone();
        let gone = resolving.gone.iter().zip(found).filter(|(gone, _)| gone.any());
        gone.map(|(gone, found)| (found.file, gone.bits())).collect()
    };
    let count = streams.div_ceil(files.len().max(1));
    let mut losing = Vec::new();
    for (file, gone) in files {
        let parts = parts(layout, &file, count).await?;
        losing.extend(parts.into_iter().map(|part| (file.clone(), part, gone.clone())));
    }
    losing.sort_by_key(|(_, part, _)| part.rows.len());
    Ok(losing)
}

/// The rows that stay of the queue's parts of files, the last first.
fn stay(queue: Arc<Mutex<Vec<Losing>>>, layout: Layout) -> Rows {
    let files = futures::stream::iter(std::iter::from_fn(move || queue.lock().pop()));
    let rows = files.then(move |(file, part, gone)| {
        let layout = layout.clone();
        async move { rows_without(&layout, &file, part, gone).await }
    });
    let rows = rows.flat_map(|rows| match rows {
        Ok(rows) => rows.map(|batch| batch.map_err(external)).boxed(),
        Err(error) => futures::stream::once(async { Err(external(error)) }).boxed(),
    });
    rows.boxed()
}

/// Where the columns of a keyed table are that decide.
pub fn upsert_spec(node: &TableNode) -> Result<UpsertSpec> {
    let width = node.schema.fields().len();
    let index = |name: &String| Ok::<usize, sluice_core::Error>(node.schema.index_of(name)?);
    let keys = node.spec.key.iter().map(index).collect::<Result<Vec<_>>>()?;
    let sequence = node.spec.sequence_by.as_ref().map(index).transpose()?;
    let delete = node.delete_when.as_ref().map(|_| width);
    let position = node.carried.position.then_some(width + usize::from(delete.is_some()));
    let coalesce = node.spec.merge == Merge::Coalesce;
    Ok(UpsertSpec { keys, sequence, coalesce, delete, position })
}
