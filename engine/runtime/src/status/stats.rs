//! The figures of every column of a table: nulls, distinct values, least, largest, a histogram.
//!
//! In: a job's tables at its last published epoch. Out: facts; all rows are read, once for the
//! figures and one column at a time for the histograms. Distinct values are estimated.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use serde::Serialize;
use sluice_core::{Error, Result};

use super::bar::{Axis, BARS, Bar, width};
use crate::catalog::sql_error;
use crate::epoch::Environment;
use crate::query::{self, Readable, held, published};

/// Values that have a bar each: more do not fit a line of text.
const VALUES_MAX: u64 = 8;

/// The columns of one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableStats {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Its columns, in order.
    pub columns: Vec<ColumnStats>,
}

/// One column. What a type does not have is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnStats {
    /// Its name.
    pub name: String,
    /// Its type, as SQL names it.
    pub data_type: String,
    /// Rows without a value.
    pub nulls: u64,
    /// Distinct values, estimated to a few percent.
    pub distinct: Option<u64>,
    /// The least value.
    pub min: Option<String>,
    /// The largest value.
    pub max: Option<String>,
    /// Where the values lie: ranges of equal width, or up to 8 values, the most frequent first.
    /// Infinite values and NaN are in none.
    pub histogram: Vec<Bar>,
}

/// The figures of one table of a job, or of all that exist.
pub async fn stats(
    env: &Environment,
    job: &Readable,
    only: Option<&str>,
) -> Result<Vec<TableStats>> {
    let context = query::open(env, std::slice::from_ref(job), &[]).await?;
    let published = published(job).await?;
    let mut all = Vec::new();
    for table in held(job, published.as_ref()).await? {
        if only.is_none_or(|name| name == table.name) {
            let fields: Vec<Field> =
                table.table.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
            all.push(table_stats(&context, &table.name, &fields).await?);
        }
    }
    Ok(all)
}

async fn table_stats(
    context: &SessionContext,
    table: &str,
    fields: &[Field],
) -> Result<TableStats> {
    let mut parts = vec!["count(*)".to_string()];
    parts.extend(fields.iter().flat_map(figures));
    let named = parts.iter().enumerate().map(|(i, part)| format!("{part} AS c{i}"));
    let named = named.collect::<Vec<_>>().join(", ");
    let found = rows(context, &format!("SELECT {named} FROM {}", quoted(table))).await?;
    let rows = integer(&found, 0).unwrap_or(0);
    let mut columns = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let at = 1 + i * FIGURES;
        let mut column = ColumnStats {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
            nulls: rows - integer(&found, at).unwrap_or(0).min(rows),
            distinct: integer(&found, at + 1),
            min: text(&found, at + 2),
            max: text(&found, at + 3),
            histogram: Vec::new(),
        };
        let ends = (float(&found, at + 4), float(&found, at + 5));
        column.histogram = histogram(context, table, field, &column, ends).await?;
        columns.push(column);
    }
    Ok(TableStats { name: table.to_string(), rows, columns })
}

/// Expressions per column: values, distinct, least and largest as text and as places.
const FIGURES: usize = 6;

fn figures(field: &Field) -> [String; FIGURES] {
    let column = quoted(field.name());
    let data_type = field.data_type();
    let count = format!("count({column})");
    if data_type.is_nested() || data_type.is_null() {
        return [count, NONE.into(), NONE.into(), NONE.into(), NONE.into(), NONE.into()];
    }
    let binary = matches!(data_type, DataType::Binary | DataType::LargeBinary);
    let shown = |value: String| match binary {
        true => format!("encode({value}, 'hex')"),
        false => format!("arrow_cast({value}, 'Utf8')"),
    };
    let counted = match data_type {
        t if t.is_integer() || binary => column.clone(),
        DataType::Utf8 | DataType::Date32 | DataType::Timestamp(_, _) => column.clone(),
        _ => format!("arrow_cast({column}, 'Utf8')"),
    };
    let (low, high) = match place(field) {
        Some(place) => {
            let finite = format!("FILTER (WHERE {place} - {place} = 0)");
            (format!("min({place}) {finite}"), format!("max({place}) {finite}"))
        }
        None => (NONE.to_string(), NONE.to_string()),
    };
    let (min, max) = (shown(format!("min({column})")), shown(format!("max({column})")));
    [count, format!("approx_distinct({counted})"), min, max, low, high]
}

const NONE: &str = "NULL";

/// A column's value as a place on its axis.
fn place(field: &Field) -> Option<String> {
    let column = quoted(field.name());
    Some(match Axis::of(field.data_type())? {
        Axis::Number => format!("arrow_cast({column}, 'Float64')"),
        Axis::Day => format!("arrow_cast(arrow_cast({column}, 'Int32'), 'Float64')"),
        Axis::Time(_) => format!("arrow_cast(arrow_cast({column}, 'Int64'), 'Float64')"),
    })
}

async fn histogram(
    context: &SessionContext,
    table: &str,
    field: &Field,
    column: &ColumnStats,
    ends: (Option<f64>, Option<f64>),
) -> Result<Vec<Bar>> {
    if let (Some(axis), Some(place)) = (Axis::of(field.data_type()), place(field)) {
        let (Some(low), Some(high)) = ends else { return Ok(Vec::new()) };
        return ranges(context, table, axis, &place, (low, high)).await;
    }
    let few = column.distinct.is_some_and(|n| n <= VALUES_MAX);
    if few && matches!(field.data_type(), DataType::Utf8 | DataType::Boolean) {
        return values(context, table, field.name()).await;
    }
    Ok(Vec::new())
}

async fn ranges(
    context: &SessionContext,
    table: &str,
    axis: Axis,
    place: &str,
    (low, high): (f64, f64),
) -> Result<Vec<Bar>> {
    let (Some(mut bars), Some(width)) = (axis.bars(low, high), width(low, high)) else {
        return Ok(Vec::new());
    };
    let last = BARS - 1;
    let sql = format!(
        "SELECT arrow_cast(least(floor(({place} - ({low:e})) / {width:e}), {last}.0), 'Int64'), \
         count(*) FROM {} WHERE {place} - {place} = 0 GROUP BY 1",
        quoted(table)
    );
    let found = rows(context, &sql).await?;
    let (numbers, counts) = (column(&found, 0)?, column(&found, 1)?);
    for (number, count) in numbers.iter().zip(counts) {
        let bar = number.and_then(|n| bars.get_mut(usize::try_from(n).ok()?));
        if let (Some(bar), Some(count)) = (bar, count) {
            bar.rows = count.unsigned_abs();
        }
    }
    Ok(bars)
}

async fn values(context: &SessionContext, table: &str, name: &str) -> Result<Vec<Bar>> {
    let column_name = quoted(name);
    let sql = format!(
        "SELECT arrow_cast({column_name}, 'Utf8'), count(*) FROM {} WHERE {column_name} IS NOT \
         NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {VALUES_MAX}",
        quoted(table)
    );
    let found = rows(context, &sql).await?;
    let texts = found.column(0).as_string_opt::<i32>();
    let texts = texts.ok_or_else(|| Error::bug("values are not text"))?;
    let bar = |(value, count): (Option<&str>, Option<i64>)| {
        let (from, to) = (value?.to_string(), value?.to_string());
        Some(Bar { from, to, rows: count?.unsigned_abs() })
    };
    Ok(texts.iter().zip(column(&found, 1)?).filter_map(bar).collect())
}

async fn rows(context: &SessionContext, sql: &str) -> Result<RecordBatch> {
    let (schema, stream) = query::query(context, sql).await?;
    let batches: Vec<RecordBatch> =
        stream.try_collect().await.map_err(|e| sql_error("the figures cannot be counted", e))?;
    concat_batches(&schema, &batches).map_err(|e| Error::bug("batches differ").because(e))
}

fn column(rows: &RecordBatch, at: usize) -> Result<&arrow::array::Int64Array> {
    let column = rows.column(at).as_primitive_opt::<Int64Type>();
    column.ok_or_else(|| Error::bug("a count is not an integer"))
}

fn integer(rows: &RecordBatch, at: usize) -> Option<u64> {
    let array = rows.columns().get(at)?;
    let wide = arrow::compute::cast(array, &DataType::Int64).ok()?;
    let wide = wide.as_primitive_opt::<Int64Type>()?;
    wide.iter().next().flatten().and_then(|n| u64::try_from(n).ok())
}

fn float(rows: &RecordBatch, at: usize) -> Option<f64> {
    rows.columns().get(at)?.as_primitive_opt::<Float64Type>()?.iter().next().flatten()
}

fn text(rows: &RecordBatch, at: usize) -> Option<String> {
    let array = rows.columns().get(at)?.as_string_opt::<i32>()?;
    array.iter().next().flatten().map(str::to_string)
}

/// A name as SQL takes it, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
