//! What an epoch brings to a keyed table and what the table has for those keys, as one stream.
//!
//! In: the plan's rows. Out: those that pass the expectations, then the table's rows of the same
//! keys, each with its file and place: three columns follow the table's and the marks', the last
//! says in which order rows came. Rows of other keys may be among the table's.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use futures::stream::{self, TryStreamExt};
use parking_lot::Mutex;
use sluice_core::Result;
use sluice_lake::parquet::Layout;
use sluice_lake::table::{Found, KeyFilter, find};

use super::super::append::with_marks;
use super::super::relation::Relation;
use super::super::routing::{Outcome, Router};
use crate::catalog::external;
use crate::plan::TableNode;

/// The columns behind a row: the number of its file, none when it is new; its place there; when
/// it came.
const TRACE: [&str; 3] = ["_file", "_place", "_arrival"];

/// What was seen of an epoch's rows on their way.
pub(super) struct Entering {
    /// Their keys, until the table was searched.
    filter: Option<KeyFilter>,
    /// Rows that entered.
    pub rows: u64,
    /// Rows that passed the expectations.
    pub kept: u64,
    pub outcome: Outcome,
    /// Files with rows of those keys.
    pub found: Vec<Found>,
}

impl Entering {
    pub fn new(filter: KeyFilter) -> Self {
        let outcome = Outcome::default();
        Self { filter: Some(filter), rows: 0, kept: 0, outcome, found: Vec::new() }
    }
}

/// The rows of `streams`, then the rows the table has for their keys.
pub(super) fn entering(
    streams: Vec<SendableRecordBatchStream>,
    relation: &Relation,
    layout: &Layout,
    node: &TableNode,
    router: &Router,
    seen: &Arc<Mutex<Entering>>,
) -> Result<SendableRecordBatchStream> {
    let marked = with_marks_schema(&relation.schema, node);
    let schema = traced(&marked);
    let (files, table) = (relation.files.clone(), relation.schema.clone());
    let new = {
        let (router, seen, node) = (router.clone(), seen.clone(), node.clone());
        let (schema, table) = (schema.clone(), table.clone());
        let has_files = !files.is_empty();
        move |batch: RecordBatch| -> Result<RecordBatch> {
            let mut seen = seen.lock();
            let seen = &mut *seen;
            seen.rows += batch.num_rows() as u64;
            let batch = router.route(batch, &mut seen.outcome)?;
            let batch = with_marks(batch, &table, &node)?;
            if let Some(filter) = seen.filter.as_mut().filter(|_| has_files) {
                filter.insert(&batch)?;
            }
            let first = seen.kept as i64;
            seen.kept += batch.num_rows() as u64;
            let arrival = first..seen.kept as i64;
            let mut columns = batch.columns().to_vec();
            columns.push(new_null_array(&DataType::UInt32, batch.num_rows()));
            columns.push(new_null_array(&DataType::UInt32, batch.num_rows()));
            columns.push(Arc::new(Int64Array::from_iter_values(arrival)));
            Ok(RecordBatch::try_new(schema.clone(), columns)?)
        }
    };
    let new = stream::select_all(streams).map(move |batch| new(batch?).map_err(external));
    let held = held(files, layout.clone(), schema.clone(), seen.clone());
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, new.chain(held))))
}

/// The table's rows of the keys that were seen, once all were.
fn held(
    files: Vec<sluice_lake::manifest::DataFile>,
    layout: Layout,
    schema: SchemaRef,
    seen: Arc<Mutex<Entering>>,
) -> impl futures::Stream<Item = datafusion::error::Result<RecordBatch>> + Send + 'static {
    let rows = async move {
        let filter = seen.lock().filter.take().map(Arc::new);
        let found = match &filter {
            Some(filter) => find(&layout, &files, filter).await.map_err(external)?,
            None => Vec::new(),
        };
        seen.lock().found.clone_from(&found);
        let numbered = stream::iter(found.into_iter().enumerate().map(Ok::<_, DataFusionError>));
        let rows = numbered.and_then(move |(number, found)| {
            let (layout, schema) = (layout.clone(), schema.clone());
            async move {
                let rows = found.rows(&layout).await.map_err(external)?;
                let number = number as u32;
                Ok::<_, DataFusionError>(rows.map(move |rows| {
                    let (batch, places) = rows.map_err(external)?;
                    trace(&batch, &schema, number, places).map_err(external)
                }))
            }
        });
        Ok::<_, DataFusionError>(rows.try_flatten())
    };
    stream::once(rows).try_flatten()
}

/// A row of the table among the others: without marks, before all that came.
fn trace(
    batch: &RecordBatch,
    schema: &SchemaRef,
    number: u32,
    places: Vec<u32>,
) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut columns = batch.columns().to_vec();
    let marks = columns.len()..schema.fields().len() - TRACE.len();
    columns.extend(marks.map(|i| new_null_array(schema.field(i).data_type(), rows)));
    columns.push(Arc::new(UInt32Array::from(vec![number; rows])));
    columns.push(Arc::new(UInt32Array::from(places)));
    columns.push(new_null_array(&DataType::Int64, rows));
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

fn with_marks_schema(table: &SchemaRef, node: &TableNode) -> Schema {
    let mut fields: Vec<Field> = table.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.extend(super::super::append::marks(node));
    Schema::new(fields)
}

fn traced(marked: &Schema) -> SchemaRef {
    let mut fields: Vec<Field> = marked.fields().iter().map(|f| f.as_ref().clone()).collect();
    let types = [DataType::UInt32, DataType::UInt32, DataType::Int64];
    fields.extend(TRACE.iter().zip(types).map(|(name, of)| Field::new(*name, of, true)));
    Arc::new(Schema::new(fields))
}
