//! A set of keys: which rows have one of them, and which files cannot.
//!
//! Keys are compared in Arrow's row form, where null equals null. A file is ruled out by its
//! partition values and by statistics of types whose bounds are exact in JSON; all others stay.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use serde_json::Value;

use sluice_core::{Error, Result};

use crate::manifest::DataFile;
use crate::parquet::{conform, project, value_array};

/// Other writers cut the maximum of a time to milliseconds downwards, as the protocol allows.
const MS_CUT: i64 = 999;

/// The distinct keys of some rows.
pub(super) struct KeySet {
    schema: SchemaRef,
    converter: RowConverter,
    rows: HashSet<Box<[u8]>>,
    columns: Vec<KeyColumn>,
}

impl KeySet {
    /// The keys of `rows`, which must hold the columns `keys` of the table's `schema`.
    pub(super) fn new(schema: &Schema, keys: &[String], rows: &RecordBatch) -> Result<Self> {
        if keys.is_empty() {
            return Err(Error::bug("a keyed change without key columns"));
        }
        if let Some(name) = keys.iter().find(|name| rows.column_by_name(name).is_none()) {
            return Err(Error::bug(format!("keyed rows lack a key column column={name:?}")));
        }
        let schema = project(schema, keys)?;
        let rows = conform(rows, &schema)?;
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let encoded = converter.convert_columns(rows.columns())?;
        let columns = schema.fields().iter().zip(rows.columns());
        Ok(Self {
            rows: encoded.iter().map(|row| row.as_ref().into()).collect(),
            columns: columns.map(|(f, c)| KeyColumn::new(f.name(), c)).collect::<Result<_>>()?,
            schema,
            converter,
        })
    }

    /// The key columns of the table.
    pub(super) fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }

    /// Per row of `rows` whether its key is in the set; never null.
    pub(super) fn contains(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let rows = conform(rows, &self.schema)?;
        let encoded = self.converter.convert_columns(rows.columns())?;
        Ok(encoded.iter().map(|row| Some(self.rows.contains(row.as_ref()))).collect())
    }

    /// Whether the file may have a row with one of the keys; only true costs anything.
    pub(super) fn may_be_in(&self, file: &DataFile) -> Result<bool> {
        if self.rows.is_empty() {
            return Ok(false);
        }
        let stats = file.stats.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let stats: Value = stats.unwrap_or_default();
        for column in &self.columns {
            let may = match file.partition_values.get(&column.name) {
                Some(value) => column.has(value.as_deref())?,
                None => column.may_be_within(&stats),
            };
            if !may {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The values of one key column, for ruling files out.
struct KeyColumn {
    name: String,
    data_type: DataType,
    converter: RowConverter,
    /// Distinct values in row form, sorted; null comes first.
    values: Vec<Box<[u8]>>,
    has_null: bool,
}

impl KeyColumn {
    fn new(name: &str, values: &ArrayRef) -> Result<Self> {
        let data_type = values.data_type().clone();
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let rows = converter.convert_columns(std::slice::from_ref(values))?;
        let mut sorted: Vec<Box<[u8]>> = rows.iter().map(|row| row.as_ref().into()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let has_null = values.null_count() > 0;
        Ok(Self { name: name.to_string(), data_type, converter, values: sorted, has_null })
    }

    /// Whether a partition value is among the keys. Null and the empty text are one partition.
    fn has(&self, value: Option<&str>) -> Result<bool> {
        let one = value_array(value, &self.data_type, &self.name, 1)?;
        let key = self.encode(&one)?;
        let empty = value.is_none_or(str::is_empty) && self.data_type == DataType::Utf8;
        Ok(empty || self.values.binary_search(&key).is_ok())
    }

    /// Whether statistics leave room for one of the keys.
    fn may_be_within(&self, stats: &Value) -> bool {
        let of = |part: &str| stats.get(part).and_then(|p| p.get(&self.name));
        let (Some(min), Some(max)) = (of("minValues"), of("maxValues")) else { return true };
        let (Some(min), Some(max)) = (self.bound(min, 0), self.bound(max, MS_CUT)) else {
            return true;
        };
        let first = self.values.partition_point(|key| *key < min);
        if self.values.get(first).is_some_and(|key| *key <= max) {
            return true;
        }
        self.has_null && of("nullCount").and_then(Value::as_u64) != Some(0)
    }

    /// A bound in row form, for types whose JSON is exact; times move by `micros`.
    fn bound(&self, value: &Value, micros: i64) -> Option<Box<[u8]>> {
        use DataType::{Date32, Int8, Int16, Int32, Int64, Timestamp, Utf8};
        let text = match (&self.data_type, value) {
            (Timestamp(TimeUnit::Microsecond, zone), Value::String(text)) => {
                let one = value_array(Some(text), &self.data_type, &self.name, 1).ok()?;
                let moved = one.as_primitive::<TimestampMicrosecondType>();
                let moved =
                    moved.unary::<_, TimestampMicrosecondType>(|t| t.saturating_add(micros));
                return self.encode(&(Arc::new(moved.with_timezone_opt(zone.clone())) as _)).ok();
            }
            (Utf8 | Date32, Value::String(text)) => text.clone(),
            (Int8 | Int16 | Int32 | Int64, Value::Number(number)) => number.to_string(),
            _ => return None,
        };
        if text.is_empty() {
            return None;
        }
        let one = value_array(Some(&text), &self.data_type, &self.name, 1).ok()?;
        self.encode(&one).ok()
    }

    fn encode(&self, one: &ArrayRef) -> Result<Box<[u8]>> {
        let rows = self.converter.convert_columns(std::slice::from_ref(one))?;
        Ok(rows.row(0).as_ref().into())
    }
}
