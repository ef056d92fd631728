//! The rows of a stream in the order of some columns, however many they are.
//!
//! In: a stream that is read once. Out: its rows sorted, NULL first; what does not fit into the
//! pool is spilled to disk. Rows that compare equal come in any order.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use parking_lot::Mutex;
use sluice_core::Result;

use crate::catalog::sql_error;

/// Rows of a batch that a sort gives. Merging what was spilled holds batches of each file, and rows
/// may be wide: so few of them that rows of 900 bytes fit into 64 MiB, as a test holds.
const BATCH_ROWS: usize = 1024;

/// The rows of `stream` sorted by the columns at `by`, which are of its schema.
pub fn sorted(
    stream: SendableRecordBatchStream,
    by: &[usize],
    task: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let schema = stream.schema();
    let order = SortOptions { descending: false, nulls_first: true };
    let by = by.iter().map(|&i| {
        let column = Column::new(schema.field(i).name(), i);
        PhysicalSortExpr::new(Arc::new(column), order)
    });
    let Some(order) = LexOrdering::new(by) else { return Ok(stream) };
    let config = task.session_config().clone().with_batch_size(BATCH_ROWS);
    let task = TaskContext::default().with_session_config(config).with_runtime(task.runtime_env());
    let task = Arc::new(task);
    let leaf = Arc::new(Once { schema: schema.clone(), rows: Mutex::new(Some(stream)) });
    let sorted = StreamingTableExec::try_new(schema, vec![leaf], None, [], false, None)
        .and_then(|leaf| SortExec::new(order, Arc::new(leaf)).execute(0, task));
    sorted.map_err(|e| sql_error("cannot sort rows", e))
}

/// A stream as the leaf of a plan that is run once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _task: Arc<TaskContext>) -> SendableRecordBatchStream {
        let nothing = RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::empty());
        self.rows.lock().take().unwrap_or_else(|| Box::pin(nothing))
    }
}

impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once").field("schema", &self.schema).finish_non_exhaustive()
    }
}
