//! Rows to bodies of Avro, and the schema of them.
//!
//! In: an Arrow schema, batches of it. Out: the text of an Avro schema to register, and a body per
//! row. A column that may be null is a union with null; times are those of tables, microseconds and
//! days. It frames nothing and knows no registry.

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array,
    Int64Array, RecordBatch, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Float32Type, Float64Type, Int64Type, Schema, TimeUnit,
};
use serde_json::{Value, json};
use sluice_core::{Error, Result};

/// Writes the rows of one schema.
#[derive(Debug)]
pub struct Encoder {
    text: String,
}

impl Encoder {
    /// For rows of `schema`, as records called `name`. Errors: `Config` naming a column that Avro has
    /// no name or no type for.
    pub fn new(schema: &Schema, name: &str) -> Result<Self> {
        let fields: Vec<&Field> = schema.fields().iter().map(AsRef::as_ref).collect();
        Ok(Self { text: record(&fields, &legal(name))?.to_string() })
    }

    /// The Avro schema of the bodies.
    pub fn schema(&self) -> &str {
        &self.text
    }

    /// A body per row. Errors: `Bug` when the batch is of another schema.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
        let columns = batch.columns().iter().zip(batch.schema_ref().fields());
        let columns = columns.map(|(array, field)| Column::new(array, field.is_nullable()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let rows = (0..batch.num_rows()).map(|row| {
            let mut body = Vec::new();
            columns.iter().for_each(|column| column.write(row, &mut body));
            body
        });
        Ok(rows.collect())
    }
}

/// `name` made of what Avro allows in names.
fn legal(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(letter).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        true => format!("_{name}"),
        false => name,
    }
}

fn record(fields: &[&Field], name: &str) -> Result<Value> {
    let mut written = Vec::with_capacity(fields.len());
    for field in fields {
        let column = field.name();
        if legal(column) != *column {
            let message = format!("avro has no such name column={column}");
            return Err(Error::config(message).hint("give it one of letters, digits and _ with AS"));
        }
        let inner = type_of(field.data_type(), &format!("{name}_{column}"), column)?;
        written.push(match field.is_nullable() {
            true => json!({"name": column, "type": ["null", inner], "default": null}),
            false => json!({"name": column, "type": inner}),
        });
    }
    Ok(json!({"type": "record", "name": name, "fields": written}))
}

fn type_of(data_type: &DataType, name: &str, column: &str) -> Result<Value> {
    Ok(match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            json!("int")
        }
        DataType::Int64 | DataType::UInt32 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("bytes"),
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Timestamp(_, _) => json!({"type": "long", "logicalType": "timestamp-micros"}),
        DataType::Decimal128(precision, scale) => json!({
            "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale,
        }),
        DataType::Struct(fields) => {
            let fields: Vec<&Field> = fields.iter().map(AsRef::as_ref).collect();
            record(&fields, name)?
        }
        DataType::List(item) => {
            let inner = type_of(item.data_type(), name, column)?;
            match item.is_nullable() {
                true => json!({"type": "array", "items": ["null", inner]}),
                false => json!({"type": "array", "items": inner}),
            }
        }
        DataType::Dictionary(_, values) => type_of(values, name, column)?,
        other => {
            let message = format!("avro has no such type column={column} type={other}");
            return Err(Error::config(message).hint("cast it in the SQL"));
        }
    })
}

/// A column, ready to be written row by row.
struct Column {
    nullable: bool,
    nulls: Option<NullBuffer>,
    cells: Cells,
}

enum Cells {
    Bools(BooleanArray),
    Longs(Int64Array),
    Floats(Float32Array),
    Doubles(Float64Array),
    Texts(StringArray),
    Bytes(BinaryArray),
    Decimals(Decimal128Array),
    Record(Vec<Column>),
    List(OffsetBuffer<i32>, Box<Column>),
}

impl Column {
    fn new(array: &ArrayRef, nullable: bool) -> Result<Self> {
        let as_type = |to: &DataType| cast(array, to);
        let cells = match array.data_type() {
            DataType::Dictionary(_, values) => return Self::new(&as_type(values)?, nullable),
            DataType::Boolean => Cells::Bools(array.as_boolean().clone()),
            DataType::Float32 => Cells::Floats(array.as_primitive::<Float32Type>().clone()),
            DataType::Float64 => Cells::Doubles(array.as_primitive::<Float64Type>().clone()),
            DataType::Decimal128(_, _) => {
                Cells::Decimals(array.as_primitive::<Decimal128Type>().clone())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Cells::Texts(as_type(&DataType::Utf8)?.as_string::<i32>().clone())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Cells::Bytes(as_type(&DataType::Binary)?.as_binary::<i32>().clone())
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                let columns = columns.map(|(array, field)| Self::new(array, field.is_nullable()));
                Cells::Record(columns.collect::<Result<_>>()?)
            }
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                let items = Self::new(list.values(), item.is_nullable())?;
                Cells::List(list.offsets().clone(), Box::new(items))
            }
            DataType::Date32 => {
                let days = cast(&as_type(&DataType::Int32)?, &DataType::Int64)?;
                Cells::Longs(days.as_primitive::<Int64Type>().clone())
            }
            DataType::Timestamp(_, zone) => {
                let micros = as_type(&DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
                Cells::Longs(cast(&micros, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            other if other.is_integer() => {
                Cells::Longs(as_type(&DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            other => return Err(Error::bug(format!("a column avro has no type for type={other}"))),
        };
        Ok(Self { nullable, nulls: array.logical_nulls(), cells })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nullable {
            let null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            long(i64::from(!null), out);
            if null {
                return;
            }
        }
        match &self.cells {
            Cells::Bools(values) => out.push(u8::from(values.value(row))),
            Cells::Longs(values) => long(values.value(row), out),
            Cells::Floats(values) => out.extend_from_slice(&values.value(row).to_le_bytes()),
            Cells::Doubles(values) => out.extend_from_slice(&values.value(row).to_le_bytes()),
            Cells::Texts(values) => sized(values.value(row).as_bytes(), out),
            Cells::Bytes(values) => sized(values.value(row), out),
            Cells::Decimals(values) => sized(shortest(&values.value(row).to_be_bytes()), out),
            Cells::Record(columns) => columns.iter().for_each(|column| column.write(row, out)),
            Cells::List(offsets, items) => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                if end > start {
                    long((end - start) as i64, out);
                    (start..end).for_each(|item| items.write(item, out));
                }
                long(0, out);
            }
        }
    }
}

/// A number in two's complement without bytes that say nothing but its sign.
fn shortest(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [first, second, ..] = bytes {
        let fill = if second & 0x80 == 0 { 0 } else { 0xFF };
        if *first != fill {
            break;
        }
        bytes = &bytes[1..];
    }
    bytes
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// A zigzag number of variable length.
fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
