//! Records of runs as rows of the history, and back.
//!
//! In: records. Out: Arrow batches with the columns of `_sluice.runs`. Rows of a table that
//! somebody gave more columns are read by name.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use sluice_core::{Error, Result};

use super::record::RunRecord;

/// The columns of the history.
pub(super) fn schema() -> SchemaRef {
    let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = [
        ("run_id", DataType::Utf8),
        ("job", DataType::Utf8),
        ("trigger", DataType::Utf8),
        ("attempt", DataType::Int64),
        ("started_at", instant()),
        ("ended_at", instant()),
        ("epochs", DataType::Int64),
        ("rows", DataType::Int64),
        ("bytes", DataType::Int64),
        ("outcome", DataType::Utf8),
        ("error", DataType::Utf8),
        ("definition", DataType::Utf8),
    ];
    let fields = columns.map(|(name, data_type)| Field::new(name, data_type, true));
    Arc::new(Schema::new(fields.to_vec()))
}

/// Records as rows.
pub(super) fn batch(records: &[RunRecord]) -> Result<RecordBatch> {
    let text = |of: fn(&RunRecord) -> Option<&str>| -> ArrayRef {
        Arc::new(records.iter().map(of).collect::<StringArray>())
    };
    let number = |of: fn(&RunRecord) -> u64| -> ArrayRef {
        let number = |record| i64::try_from(of(record)).unwrap_or(i64::MAX);
        Arc::new(Int64Array::from_iter_values(records.iter().map(number)))
    };
    let instant = |of: fn(&RunRecord) -> Option<i64>| -> ArrayRef {
        let micros = |record| of(record).and_then(|ms| ms.checked_mul(1_000));
        let array: TimestampMicrosecondArray = records.iter().map(micros).collect();
        Arc::new(array.with_timezone("UTC"))
    };
    let columns = vec![
        text(|r| Some(&r.id)),
        text(|r| Some(&r.job)),
        text(|r| Some(&r.trigger)),
        number(|r| u64::from(r.attempt)),
        instant(|r| Some(r.started_ms)),
        instant(|r| r.ended_ms),
        number(|r| r.epochs),
        number(|r| r.rows),
        number(|r| r.bytes),
        text(|r| Some(&r.outcome)),
        text(|r| r.error.as_deref()),
        text(|r| Some(&r.definition)),
    ];
    RecordBatch::try_new(schema(), columns)
        .map_err(|e| Error::bug("records do not fit the history's columns").because(e))
}

/// Rows as records. Errors: `Data` for a column of another type.
pub(super) fn records(rows: &RecordBatch) -> Result<Vec<RunRecord>> {
    let text = |name: &str| typed(rows, name, |c| c.as_string_opt::<i32>().cloned());
    let number = |name: &str| typed(rows, name, |c| c.as_primitive_opt::<Int64Type>().cloned());
    let instant = |name: &str| {
        typed(rows, name, |c| c.as_primitive_opt::<TimestampMicrosecondType>().cloned())
    };
    let (id, job, trigger) = (text("run_id")?, text("job")?, text("trigger")?);
    let (outcome, error, definition) = (text("outcome")?, text("error")?, text("definition")?);
    let (attempt, epochs) = (number("attempt")?, number("epochs")?);
    let (taken, bytes) = (number("rows")?, number("bytes")?);
    let (started, ended) = (instant("started_at")?, instant("ended_at")?);
    let words = |column: &StringArray, i: usize| {
        if column.is_null(i) { None } else { Some(column.value(i).to_string()) }
    };
    let count = |column: &Int64Array, i: usize| {
        if column.is_null(i) { 0 } else { u64::try_from(column.value(i)).unwrap_or(0) }
    };
    let time = |column: &TimestampMicrosecondArray, i: usize| {
        if column.is_null(i) { None } else { Some(column.value(i).div_euclid(1_000)) }
    };
    let record = |i: usize| RunRecord {
        id: words(&id, i).unwrap_or_default(),
        job: words(&job, i).unwrap_or_default(),
        trigger: words(&trigger, i).unwrap_or_default(),
        attempt: u32::try_from(count(&attempt, i)).unwrap_or(u32::MAX),
        started_ms: time(&started, i).unwrap_or_default(),
        ended_ms: time(&ended, i),
        epochs: count(&epochs, i),
        rows: count(&taken, i),
        bytes: count(&bytes, i),
        outcome: words(&outcome, i).unwrap_or_default(),
        error: words(&error, i),
        definition: words(&definition, i).unwrap_or_default(),
    };
    Ok((0..rows.num_rows()).map(record).collect())
}

fn typed<T>(rows: &RecordBatch, name: &str, of: impl Fn(&ArrayRef) -> Option<T>) -> Result<T> {
    rows.column_by_name(name).and_then(of).ok_or_else(|| {
        Error::data(format!("the history of runs has another column in its place column={name}"))
            .hint("move the table away, or name another place by `serve: {history: …}`")
    })
}
