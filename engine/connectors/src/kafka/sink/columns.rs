//! What a message has besides its value, from columns: key, partition, time, headers, whether it is
//! a tombstone.
//!
//! In: settings and batches. Out: the parts of each row's message, or why it cannot have them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;
use sluice_core::{Error, Result};

use super::config::Settings;

/// Which columns make up what.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    key: Vec<usize>,
    partition: Option<usize>,
    timestamp: Option<usize>,
    headers: Vec<(String, usize)>,
    tombstone: Option<usize>,
    /// The columns of the value.
    value: Vec<usize>,
}

impl Columns {
    /// Finds the columns. Errors: `Config` when one is not there, or of a type that does not do.
    pub(super) fn new(settings: &Settings, schema: &Schema) -> Result<Self> {
        let find = |setting: &str, name: &String, fits: fn(&DataType) -> bool, wanted: &str| {
            let index = schema.index_of(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                Error::config(format!("{setting} names no column of the rows column={name}"))
                    .hint(format!("columns: {}", names.join(", ")))
            })?;
            let found = schema.field(index).data_type();
            if fits(found) {
                return Ok(index);
            }
            Err(Error::config(format!("{setting} takes {wanted} column={name} type={found}"))
                .hint("cast the column in a table or view that the sink is fed from"))
        };
        let single = "a column of single values";
        let key = settings.key.iter().map(|name| find("key", name, is_flat, single));
        let key = key.collect::<Result<_>>()?;
        let partition = settings.partition.as_ref();
        let partition = partition
            .map(|name| find("partition", name, DataType::is_integer, "whole numbers"))
            .transpose()?;
        let timestamp = settings.timestamp.as_ref();
        let timestamp =
            timestamp.map(|name| find("timestamp", name, is_time, "times")).transpose()?;
        let tombstone = settings.tombstone.as_ref();
        let is_flag = |t: &DataType| *t == DataType::Boolean;
        let tombstone =
            tombstone.map(|name| find("tombstone", name, is_flag, "true and false")).transpose()?;
        let header = |(header, name): (&String, &String)| {
            Ok::<_, Error>((header.clone(), find("headers", name, is_flat, single)?))
        };
        let headers = settings.headers.iter().map(header).collect::<Result<_>>()?;
        for name in &settings.omit {
            find("omit", name, |_| true, "columns")?;
        }
        let kept = |i: &usize| !settings.omit.contains(schema.field(*i).name());
        let value: Vec<usize> = (0..schema.fields().len()).filter(kept).collect();
        if value.is_empty() {
            return Err(Error::config("no column is left for the value")
                .hint("leave at least one column out of `omit`"));
        }
        Ok(Self { key, partition, timestamp, headers, tombstone, value })
    }

    /// The columns of the value.
    pub(super) fn value_schema(&self, schema: &Schema) -> SchemaRef {
        let fields = self.value.iter().map(|i| schema.fields()[*i].clone());
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The values of the columns of a batch.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<Parts> {
        let column = |i: &usize| rows.column(*i).clone();
        let texts = |i: &usize| Texts::new(rows.column(*i).clone());
        let partition = self.partition.map(|i| cast(rows.column(i), &DataType::Int64));
        let timestamp = self.timestamp.map(|i| milliseconds(rows.column(i)));
        Ok(Parts {
            value: rows.project(&self.value)?,
            key: self.key.iter().map(texts).collect::<Result<_>>()?,
            partition: partition.transpose()?.map(|array| array.as_primitive().clone()),
            timestamp: timestamp.transpose()?,
            headers: self
                .headers
                .iter()
                .map(|(name, i)| Ok((name.clone(), texts(i)?)))
                .collect::<Result<_>>()?,
            tombstone: self.tombstone.as_ref().map(column).map(|a| a.as_boolean().clone()),
        })
    }
}

fn is_flat(data_type: &DataType) -> bool {
    !data_type.is_nested() && !data_type.is_null()
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

fn milliseconds(column: &ArrayRef) -> Result<Int64Array> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let times = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, zone))?;
    Ok(cast(&times, &DataType::Int64)?.as_primitive().clone())
}

/// The columns of one batch.
pub(super) struct Parts {
    /// The columns of the value.
    pub value: RecordBatch,
    key: Vec<Texts>,
    partition: Option<Int64Array>,
    timestamp: Option<Int64Array>,
    headers: Vec<(String, Texts)>,
    tombstone: Option<BooleanArray>,
}

impl Parts {
    /// The key of a row; none where there is none, or where it is null.
    pub(super) fn key(&self, row: usize) -> Result<Option<Vec<u8>>> {
        match self.key.as_slice() {
            [] => Ok(None),
            [one] => one.bytes(row),
            several => {
                let values = several.iter().map(|texts| texts.json(row));
                let array = Value::Array(values.collect::<Result<_>>()?);
                Ok(Some(array.to_string().into_bytes()))
            }
        }
    }

    /// The partition of a row, if it has one of its own.
    pub(super) fn partition(&self, row: usize) -> Option<i64> {
        self.partition.as_ref().filter(|array| array.is_valid(row)).map(|array| array.value(row))
    }

    /// The time of a row, milliseconds since 1970, if it has one of its own.
    pub(super) fn timestamp(&self, row: usize) -> Option<i64> {
        self.timestamp.as_ref().filter(|array| array.is_valid(row)).map(|array| array.value(row))
    }

    /// The headers of a row.
    pub(super) fn headers(&self, row: usize) -> Result<Vec<(&str, Vec<u8>)>> {
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, texts) in &self.headers {
            headers.extend(texts.bytes(row)?.map(|bytes| (name.as_str(), bytes)));
        }
        Ok(headers)
    }

    /// Whether a row has no value.
    pub(super) fn is_tombstone(&self, row: usize) -> bool {
        self.tombstone.as_ref().is_some_and(|array| array.is_valid(row) && array.value(row))
    }
}

/// A column whose values are written as texts.
struct Texts {
    column: ArrayRef,
}

impl Texts {
    fn new(column: ArrayRef) -> Result<Self> {
        // Dictionaries and views say their values plainly then.
        let column = match column.data_type() {
            DataType::Dictionary(_, of) => cast(&column, of)?,
            DataType::Utf8View | DataType::LargeUtf8 => cast(&column, &DataType::Utf8)?,
            DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
                cast(&column, &DataType::Binary)?
            }
            _ => column,
        };
        Ok(Self { column })
    }

    /// A value as bytes: bytes as they are, else its text.
    fn bytes(&self, row: usize) -> Result<Option<Vec<u8>>> {
        if self.column.is_null(row) {
            return Ok(None);
        }
        Ok(Some(match self.column.data_type() {
            DataType::Binary => self.column.as_binary::<i32>().value(row).to_vec(),
            DataType::Utf8 => self.column.as_string::<i32>().value(row).as_bytes().to_vec(),
            _ => self.text(row)?.into_bytes(),
        }))
    }

    fn text(&self, row: usize) -> Result<String> {
        let options = FormatOptions::default().with_timestamp_tz_format(Some(TIME));
        let options = options.with_timestamp_format(Some(LOCAL_TIME));
        Ok(ArrayFormatter::try_new(&self.column, &options)?.value(row).try_to_string()?)
    }

    fn json(&self, row: usize) -> Result<Value> {
        if self.column.is_null(row) {
            return Ok(Value::Null);
        }
        let text = match self.column.data_type() {
            DataType::Utf8 => return Ok(self.column.as_string::<i32>().value(row).into()),
            DataType::Boolean => return Ok(self.column.as_boolean().value(row).into()),
            _ => self.text(row)?,
        };
        if self.column.data_type().is_integer()
            && let Ok(number) = text.parse::<i64>()
        {
            return Ok(number.into());
        }
        Ok(text.into())
    }
}

/// Times as JSON has them too.
const TIME: &str = "%Y-%m-%dT%H:%M:%S%.fZ";
const LOCAL_TIME: &str = "%Y-%m-%dT%H:%M:%S%.f";
