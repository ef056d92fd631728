//! Typed columns that JSON is read straight into, nested as the schema is.
//!
//! In: the tokens of one row after another. Out: Arrow arrays. A row that turns out bad is taken
//! back from all columns ([`Record::truncate`]), whatever it had reached. It decides nothing about
//! which bytes are a row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::types::{Decimal128Type, Float32Type, Float64Type};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use sluice_core::{FieldSpec, Result, type_name};

use super::array::{longs, offsets, primitive, strange};
use super::decode::Unknown;
use super::scan::{Cursor, Wrong, joined};
use super::typed::Meaning;
use crate::format::time::{self, Pattern};
use crate::format::{shown, value};

/// What reading one row needs besides its text.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    unknown: Unknown,
    /// Fields of the row that the schema does not have.
    pub(crate) rescued: Vec<Rescued>,
    key: Vec<u8>,
    text: Vec<u8>,
}

/// A field that the schema does not have.
#[derive(Debug)]
pub(crate) struct Rescued {
    /// Its key, behind those it stands within.
    pub(crate) path: String,
    /// Its value as it stands.
    pub(crate) value: String,
    /// Whether it stands within another.
    pub(crate) nested: bool,
}

impl Rescued {
    /// Says that all of `fields` stand within `outer`.
    pub(crate) fn nest(fields: &mut [Rescued], outer: &str) {
        for field in fields {
            field.path = joined(outer, &field.path);
            field.nested = true;
        }
    }
}

/// The fields of objects.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(super) columns: Vec<Column>,
    pub(super) places: HashMap<Vec<u8>, usize>,
    /// Who said last what texts stand for, see [`Record::mean`].
    pub(super) said: u64,
}

/// The values of one field.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(super) origin: String,
    pub(super) data_type: DataType,
    required: bool,
    pattern: Option<Pattern>,
    /// How numbers stand for what is none, where that is known.
    pub(super) meaning: Meaning,
    pub(super) valid: Vec<bool>,
    pub(super) values: Values,
}

#[derive(Debug, Clone)]
pub(super) enum Values {
    Bools(Vec<bool>),
    Longs(Vec<i64>),
    Doubles(Vec<f64>),
    Decimals(Vec<i128>),
    Bytes { ends: Vec<usize>, bytes: Vec<u8> },
    Struct(Record),
    List { ends: Vec<usize>, items: Box<Column> },
}

impl Reading {
    /// For rows whose unknown fields are dealt with like this.
    pub(crate) fn new(unknown: Unknown) -> Self {
        Self { unknown, ..Self::default() }
    }
}

impl Record {
    /// Columns for `fields`. Errors: `Config` for an unknown type or a wrong `format`.
    pub(crate) fn new(fields: &[FieldSpec]) -> Result<Self> {
        let columns: Vec<Column> = fields.iter().map(Column::new).collect::<Result<_>>()?;
        let places = columns.iter().enumerate();
        let places = places.map(|(i, c)| (c.origin.clone().into_bytes(), i)).collect();
        Ok(Self { columns, places, said: 0 })
    }

    /// Takes the object that comes next as one row. After an error the columns have to be cut back.
    pub(crate) fn read(
        &mut self,
        row: usize,
        cursor: &mut Cursor<'_>,
        reading: &mut Reading,
    ) -> Result<(), Wrong> {
        let (mark, mut next) = (reading.rescued.len(), 0);
        cursor.expect(b'{')?;
        let mut more = !cursor.take(b'}');
        while more {
            let mut key = std::mem::take(&mut reading.key);
            let name = cursor.string(&mut key)?;
            cursor.expect(b':')?;
            // Most objects of a file have their keys in the same order.
            let guess = self.columns.get(next).filter(|c| c.origin.as_bytes() == name);
            match guess.map(|_| next).or_else(|| self.places.get(name).copied()) {
                Some(place) => {
                    next = place + 1;
                    self.columns[place].take(row, mark, cursor, reading)?;
                }
                None => unknown(name, mark, cursor, reading)?,
            }
            reading.key = key;
            more = cursor.take(b',');
            if !more {
                cursor.expect(b'}')?;
            }
        }
        self.fill(row)
    }

    /// Ends row `row`: columns that it did not reach are null.
    pub(crate) fn fill(&mut self, row: usize) -> Result<(), Wrong> {
        for column in &mut self.columns {
            if column.valid.len() == row {
                column.push_null().map_err(|w| w.within(&column.origin))?;
            }
        }
        Ok(())
    }

    /// Forgets all rows from `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// The columns, which are empty then.
    pub(crate) fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.columns.iter_mut().map(Column::finish).collect()
    }

    fn pad(&mut self) {
        self.columns.iter_mut().for_each(Column::pad);
    }
}

/// Deals with a field that the schema does not have.
fn unknown(
    name: &[u8],
    mark: usize,
    cursor: &mut Cursor<'_>,
    reading: &mut Reading,
) -> Result<(), Wrong> {
    let name = String::from_utf8_lossy(name);
    let raw = cursor.raw().map_err(|w| w.within(&name))?;
    match reading.unknown {
        Unknown::Ignore => {}
        Unknown::Fail => return Err(Wrong::new("not in the schema").within(&name)),
        Unknown::Rescue | Unknown::Add => {
            forget(&mut reading.rescued, mark, &name);
            let value = String::from_utf8_lossy(raw).into_owned();
            reading.rescued.push(Rescued { path: name.into_owned(), value, nested: false });
        }
    }
    Ok(())
}

/// Drops what an earlier field of the same name left behind: the last one holds.
fn forget(rescued: &mut Vec<Rescued>, mark: usize, name: &str) {
    let mut place = 0;
    rescued.retain(|field| {
        place += 1;
        let inside = field.path.strip_prefix(name);
        let same = inside.is_some_and(|rest| matches!(rest.as_bytes(), [] | [b'.' | b'[', ..]));
        place <= mark || !same
    });
}

impl Column {
    fn new(field: &FieldSpec) -> Result<Self> {
        let pattern = field.format.as_deref().map(Pattern::new).transpose()?;
        Self::of(field.arrow_type()?, field, pattern, field.required)
    }

    fn of(
        data_type: DataType,
        field: &FieldSpec,
        pattern: Option<Pattern>,
        required: bool,
    ) -> Result<Self> {
        let values = match &data_type {
            DataType::Boolean => Values::Bools(Vec::new()),
            DataType::Float32 | DataType::Float64 => Values::Doubles(Vec::new()),
            DataType::Decimal128(_, _) => Values::Decimals(Vec::new()),
            DataType::Utf8 | DataType::Binary => {
                Values::Bytes { ends: Vec::new(), bytes: Vec::new() }
            }
            DataType::Struct(_) => Values::Struct(Record::new(&field.fields)?),
            DataType::List(item) => {
                let items = Self::of(item.data_type().clone(), field, pattern.clone(), false)?;
                Values::List { ends: Vec::new(), items: Box::new(items) }
            }
            _ => Values::Longs(Vec::new()),
        };
        let origin = field.origin().to_string();
        let (meaning, valid) = (Meaning::default(), Vec::new());
        Ok(Self { origin, data_type, required, pattern, meaning, valid, values })
    }

    /// Takes the value of this field in row `row`; instead of an earlier one of the same row.
    fn take(
        &mut self,
        row: usize,
        mark: usize,
        cursor: &mut Cursor<'_>,
        reading: &mut Reading,
    ) -> Result<(), Wrong> {
        if self.valid.len() > row {
            self.truncate(row);
            forget(&mut reading.rescued, mark, &self.origin);
        }
        let before = reading.rescued.len();
        self.read(cursor, reading).map_err(|w| w.within(&self.origin))?;
        Rescued::nest(&mut reading.rescued[before..], &self.origin);
        Ok(())
    }

    fn read(&mut self, cursor: &mut Cursor<'_>, reading: &mut Reading) -> Result<(), Wrong> {
        match (&self.values, cursor.peek()) {
            (Values::Struct(_), Some(b'{')) => return self.read_struct(cursor, reading),
            (Values::List { .. }, Some(b'[')) => return self.read_list(cursor, reading),
            _ => {}
        }
        let mut scratch = std::mem::take(&mut reading.text);
        let text = cursor.scalar(&mut scratch)?;
        match text {
            Some(text) if !self.push(text) => {
                let wanted = name_of(&self.data_type);
                return Err(Wrong::new(format!("not of type {wanted} text={:?}", shown(text))));
            }
            Some(_) => self.valid.push(true),
            None => self.push_null()?,
        }
        reading.text = scratch;
        Ok(())
    }

    fn read_struct(&mut self, cursor: &mut Cursor<'_>, reading: &mut Reading) -> Result<(), Wrong> {
        let row = self.valid.len();
        if let Values::Struct(record) = &mut self.values {
            record.read(row, cursor, reading)?;
        }
        self.valid.push(true);
        Ok(())
    }

    fn read_list(&mut self, cursor: &mut Cursor<'_>, reading: &mut Reading) -> Result<(), Wrong> {
        let Values::List { ends, items } = &mut self.values else { return Ok(()) };
        let start = ends.last().copied().unwrap_or(0);
        cursor.expect(b'[')?;
        let mut more = !cursor.take(b']');
        while more {
            let number = items.valid.len() - start;
            let before = reading.rescued.len();
            items.read(cursor, reading).map_err(|w| w.within(&format!("[{number}]")))?;
            Rescued::nest(&mut reading.rescued[before..], &format!("[{number}]"));
            more = cursor.take(b',');
            if !more {
                cursor.expect(b']')?;
            }
        }
        ends.push(items.valid.len());
        self.valid.push(true);
        Ok(())
    }

    /// Appends a value that is not null; false if the text is none.
    #[inline]
    fn push(&mut self, text: &[u8]) -> bool {
        match self.meaning {
            Meaning::Itself => self.push_itself(text),
            _ => self.push_meant(text),
        }
    }

    /// The same for text that stands for what it says.
    #[inline]
    pub(super) fn push_itself(&mut self, text: &[u8]) -> bool {
        let pattern = self.pattern.as_ref();
        match &mut self.values {
            Values::Bools(values) => value::boolean(text).map(|v| values.push(v)).is_some(),
            Values::Longs(values) => {
                let read = match &self.data_type {
                    DataType::Date32 => {
                        pattern.map_or_else(|| time::date(text), |p| p.date(text)).map(i64::from)
                    }
                    DataType::Timestamp(_, _) => {
                        pattern.map_or_else(|| time::timestamp(text), |p| p.timestamp(text))
                    }
                    whole => value::integer(text).filter(|v| fits(*v, whole)),
                };
                read.map(|v| values.push(v)).is_some()
            }
            Values::Doubles(values) => {
                let read = match self.data_type {
                    DataType::Float32 => value::float::<f32>(text).map(f64::from),
                    _ => value::float(text),
                };
                read.map(|v| values.push(v)).is_some()
            }
            Values::Decimals(values) => {
                let DataType::Decimal128(precision, scale) = self.data_type else { return false };
                value::any_decimal(text, precision, scale).map(|v| values.push(v)).is_some()
            }
            Values::Bytes { ends, bytes } => {
                bytes.extend_from_slice(text);
                ends.push(bytes.len());
                true
            }
            Values::Struct(_) | Values::List { .. } => false,
        }
    }

    pub(super) fn push_null(&mut self) -> Result<(), Wrong> {
        if self.required {
            return Err(Wrong::new("required but empty"));
        }
        self.pad();
        Ok(())
    }

    /// Appends a null without asking whether it may be one: those of a struct that is null may.
    fn pad(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Bools(values) => values.push(false),
            Values::Longs(values) => values.push(0),
            Values::Doubles(values) => values.push(0.0),
            Values::Decimals(values) => values.push(0),
            Values::Bytes { ends, bytes } => ends.push(bytes.len()),
            Values::Struct(record) => record.pad(),
            Values::List { ends, items } => ends.push(items.valid.len()),
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        match &mut self.values {
            Values::Bools(values) => values.truncate(rows),
            Values::Longs(values) => values.truncate(rows),
            Values::Doubles(values) => values.truncate(rows),
            Values::Decimals(values) => values.truncate(rows),
            Values::Bytes { ends, bytes } => {
                ends.truncate(rows);
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::Struct(record) => record.truncate(rows),
            Values::List { ends, items } => {
                ends.truncate(rows);
                items.truncate(ends.last().copied().unwrap_or(0));
            }
        }
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let rows = self.valid.len();
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        let nulls = Some(nulls).filter(|n| n.null_count() > 0);
        Ok(match &mut self.values {
            Values::Bools(values) => {
                Arc::new(BooleanArray::new(std::mem::take(values).into(), nulls))
            }
            Values::Longs(values) => longs(&self.data_type, std::mem::take(values), nulls),
            Values::Doubles(values) => match self.data_type {
                DataType::Float32 => {
                    primitive::<Float32Type>(values.drain(..).map(|v| v as f32), nulls)
                }
                _ => primitive::<Float64Type>(values.drain(..), nulls),
            },
            Values::Decimals(values) => {
                let values = ScalarBuffer::from(std::mem::take(values));
                let array = PrimitiveArray::<Decimal128Type>::new(values, nulls);
                Arc::new(array.with_data_type(self.data_type.clone()))
            }
            Values::Bytes { ends, bytes } => {
                let offsets = offsets(std::mem::take(ends))?;
                let bytes = Buffer::from_vec(std::mem::take(bytes));
                match self.data_type {
                    DataType::Binary => Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?),
                    _ => Arc::new(StringArray::try_new(offsets, bytes, nulls)?),
                }
            }
            Values::Struct(record) => {
                let DataType::Struct(fields) = &self.data_type else { return Err(strange()) };
                let fields: Fields = fields.clone();
                let columns = record.finish()?;
                Arc::new(StructArray::try_new_with_length(fields, columns, nulls, rows)?)
            }
            Values::List { ends, items } => {
                let DataType::List(item) = &self.data_type else { return Err(strange()) };
                let item: Arc<Field> = item.clone();
                let offsets = offsets(std::mem::take(ends))?;
                Arc::new(ListArray::try_new(item, offsets, items.finish()?, nulls)?)
            }
        })
    }
}

/// The type as schemas write it.
pub(super) fn name_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Struct(_) => "struct".into(),
        DataType::List(item) => format!("list({})", name_of(item.data_type())),
        other => type_name(other),
    }
}

pub(super) fn fits(value: i64, data_type: &DataType) -> bool {
    match data_type {
        DataType::Int8 => i8::try_from(value).is_ok(),
        DataType::Int16 => i16::try_from(value).is_ok(),
        DataType::Int32 => i32::try_from(value).is_ok(),
        _ => true,
    }
}
