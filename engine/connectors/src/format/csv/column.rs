//! One column of CSV: text to typed values, a whole chunk at once.
//!
//! In: the cells of one column. Out: an Arrow array, or nothing if any cell is not a value of the
//! column's type; and for one cell, why. What is null, [`Spelling`] says. It decides nothing about
//! rows.

use std::iter;
use std::sync::Arc;

use arrow::array::builder::{BooleanBufferBuilder, NullBufferBuilder};
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, PrimitiveArray, StringArray,
    new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use sluice_core::{Error, FieldSpec, Result, type_name};

use super::record::Cell;
use super::spelling::Spelling;
use crate::format::time::{self, Pattern};
use crate::format::{shown, value};

/// How the text of one field becomes values.
#[derive(Debug, Clone)]
pub struct Column {
    name: String,
    origin: String,
    data_type: DataType,
    required: bool,
    pattern: Option<Pattern>,
    spelling: Arc<Spelling>,
}

impl Column {
    /// A column for `field`. Errors: `Config` for an unknown or nested type or a wrong `format`.
    pub fn new(field: &FieldSpec) -> Result<Self> {
        let data_type = field.arrow_type()?;
        if data_type.is_nested() {
            let message = format!("text cannot hold structs and lists field={}", field.name);
            return Err(Error::config(message).hint("read it as string, or use `format: json`"));
        }
        let timed = matches!(data_type, DataType::Date32 | DataType::Timestamp(_, _));
        let pattern = match &field.format {
            Some(_) if !timed => {
                let message =
                    format!("only dates and timestamps have a format field={}", field.name);
                return Err(Error::config(message).hint("remove format"));
            }
            Some(text) => Some(Pattern::new(text)?),
            None => None,
        };
        let (name, origin) = (field.name.clone(), field.origin().to_string());
        let spelling = Arc::default();
        Ok(Self { name, origin, data_type, required: field.required, pattern, spelling })
    }

    pub(super) fn spelled(self, spelling: &Arc<Spelling>) -> Self {
        Self { spelling: spelling.clone(), ..self }
    }

    /// The field's name in SQL.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The field's name in the data.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether a row without it is rejected.
    pub fn required(&self) -> bool {
        self.required
    }

    /// `rows` nulls, for a file that does not have the column.
    pub(super) fn nulls(&self, rows: usize) -> ArrayRef {
        new_null_array(&self.data_type, rows)
    }

    /// The values of `cells`; none if one of them is not a value.
    pub(super) fn array<'a>(
        &self,
        cells: impl Iterator<Item = Cell<'a>>,
        rows: usize,
    ) -> Option<ArrayRef> {
        let spelling = self.spelling.as_ref();
        let run = Run { cells, rows, required: self.required, spelling };
        let pattern = self.pattern.as_ref();
        Some(match &self.data_type {
            DataType::Utf8 => {
                let (offsets, bytes, nulls) = run.bytes()?;
                Arc::new(StringArray::try_new(offsets, bytes, nulls).ok()?)
            }
            DataType::Binary => {
                let (offsets, bytes, nulls) = run.bytes()?;
                Arc::new(BinaryArray::try_new(offsets, bytes, nulls).ok()?)
            }
            DataType::Boolean => run.booleans()?,
            DataType::Int8 => run.primitive::<Int8Type>(|t| spelling.number(t, number))?,
            DataType::Int16 => run.primitive::<Int16Type>(|t| spelling.number(t, number))?,
            DataType::Int32 => run.primitive::<Int32Type>(|t| spelling.number(t, number))?,
            DataType::Int64 => run.primitive::<Int64Type>(|t| spelling.number(t, number))?,
            DataType::Float32 => {
                run.primitive::<Float32Type>(|t| spelling.number(t, value::float))?
            }
            DataType::Float64 => {
                run.primitive::<Float64Type>(|t| spelling.number(t, value::float))?
            }
            DataType::Date32 => match pattern {
                Some(pattern) => run.primitive::<Date32Type>(|t| pattern.date(t))?,
                None => run.primitive::<Date32Type>(time::date)?,
            },
            DataType::Timestamp(_, _) => {
                let values = match pattern {
                    Some(pattern) => {
                        run.values::<TimestampMicrosecondType>(|t| pattern.timestamp(t))?
                    }
                    None => run.values::<TimestampMicrosecondType>(time::timestamp)?,
                };
                Arc::new(values.with_timezone("UTC"))
            }
            DataType::Decimal128(precision, scale) => {
                let (precision, scale) = (*precision, *scale);
                let read = |text: &[u8]| value::decimal(text, precision, scale);
                let values = run.values::<Decimal128Type>(|t| spelling.number(t, read))?;
                Arc::new(values.with_precision_and_scale(precision, scale).ok()?)
            }
            _ => return None,
        })
    }

    /// Whether a cell is a value, as [`Column::array`] finds it, without making one.
    pub(super) fn accepts(&self, cell: Cell<'_>) -> bool {
        let spelling = self.spelling.as_ref();
        if spelling.is_null(cell, self.is_text()) {
            return !self.required;
        }
        let reads =
            |read: &dyn Fn(&[u8]) -> bool| plainly(cell, |t| read(t).then_some(())).is_some();
        let pattern = self.pattern.as_ref();
        match &self.data_type {
            DataType::Binary => true,
            DataType::Utf8 => std::str::from_utf8(&spelling.encoding.text(&cell.value())).is_ok(),
            DataType::Boolean => reads(&|t| value::boolean(t).is_some()),
            DataType::Int8 => reads(&|t| spelling.number(t, number::<i8>).is_some()),
            DataType::Int16 => reads(&|t| spelling.number(t, number::<i16>).is_some()),
            DataType::Int32 => reads(&|t| spelling.number(t, number::<i32>).is_some()),
            DataType::Int64 => reads(&|t| spelling.number(t, number::<i64>).is_some()),
            DataType::Float32 => reads(&|t| spelling.number(t, value::float::<f32>).is_some()),
            DataType::Float64 => reads(&|t| spelling.number(t, value::float::<f64>).is_some()),
            DataType::Date32 => {
                reads(&|t| pattern.map_or_else(|| time::date(t), |p| p.date(t)).is_some())
            }
            DataType::Timestamp(_, _) => {
                reads(&|t| pattern.map_or_else(|| time::timestamp(t), |p| p.timestamp(t)).is_some())
            }
            DataType::Decimal128(precision, scale) => {
                let read = |text: &[u8]| value::decimal(text, *precision, *scale);
                reads(&|t| spelling.number(t, read).is_some())
            }
            _ => false,
        }
    }

    /// Whether an unquoted field with this text is a value.
    #[cfg(test)]
    pub(crate) fn reads(&self, text: &str) -> bool {
        self.complaint(Cell { text: text.as_bytes(), quoted: false, doubled: None }).is_none()
    }

    fn is_text(&self) -> bool {
        matches!(self.data_type, DataType::Utf8 | DataType::Binary)
    }

    /// Why `cell` is not a value; none when it is.
    pub(super) fn complaint(&self, cell: Cell<'_>) -> Option<String> {
        if self.array(iter::once(cell), 1).is_some() {
            return None;
        }
        let name = &self.name;
        if self.required && self.spelling.is_null(cell, self.is_text()) {
            return Some(format!("column {name}: required but empty"));
        }
        let text = shown(&self.spelling.encoding.text(cell.text));
        let wanted = match &self.data_type {
            DataType::Utf8 => "valid UTF-8".to_string(),
            other => format!("{} {}", article(other), type_name(other)),
        };
        Some(format!("column {name}: not {wanted} text={text:?}"))
    }
}

fn article(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => "an",
        _ => "a",
    }
}

/// Cells on their way to an array.
struct Run<'s, I> {
    cells: I,
    rows: usize,
    required: bool,
    spelling: &'s Spelling,
}

impl<'a, I: Iterator<Item = Cell<'a>>> Run<'_, I> {
    fn primitive<T: ArrowPrimitiveType>(
        self,
        read: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> Option<ArrayRef> {
        Some(Arc::new(self.values::<T>(read)?))
    }

    fn values<T: ArrowPrimitiveType>(
        self,
        read: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> Option<PrimitiveArray<T>> {
        let mut values = Vec::with_capacity(self.rows);
        let mut nulls = NullBufferBuilder::new(self.rows);
        for cell in self.cells {
            if self.spelling.is_null(cell, false) {
                if self.required {
                    return None;
                }
                values.push(T::Native::default());
                nulls.append_null();
            } else {
                values.push(plainly(cell, &read)?);
                nulls.append_non_null();
            }
        }
        PrimitiveArray::try_new(ScalarBuffer::from(values), nulls.finish()).ok()
    }

    fn booleans(self) -> Option<ArrayRef> {
        let mut values = BooleanBufferBuilder::new(self.rows);
        let mut nulls = NullBufferBuilder::new(self.rows);
        for cell in self.cells {
            if self.spelling.is_null(cell, false) {
                if self.required {
                    return None;
                }
                values.append(false);
                nulls.append_null();
            } else {
                values.append(plainly(cell, value::boolean)?);
                nulls.append_non_null();
            }
        }
        Some(Arc::new(BooleanArray::new(values.finish(), nulls.finish())))
    }

    /// Text as it stands; whether it is UTF-8 is checked for all rows at once later.
    fn bytes(self) -> Option<(OffsetBuffer<i32>, Buffer, Option<NullBuffer>)> {
        let mut offsets = Vec::with_capacity(self.rows + 1);
        let mut bytes: Vec<u8> = Vec::with_capacity(self.rows * 16);
        let mut nulls = NullBufferBuilder::new(self.rows);
        offsets.push(0);
        for cell in self.cells {
            if self.spelling.is_null(cell, true) {
                if self.required {
                    return None;
                }
                nulls.append_null();
            } else {
                bytes.extend_from_slice(&self.spelling.encoding.text(&cell.value()));
                nulls.append_non_null();
            }
            offsets.push(i32::try_from(bytes.len()).ok()?);
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Some((offsets, Buffer::from_vec(bytes), nulls.finish()))
    }
}

/// What `read` makes of a cell that is not text.
#[inline]
fn plainly<V>(cell: Cell<'_>, read: impl Fn(&[u8]) -> Option<V>) -> Option<V> {
    match cell.doubled {
        None => read(trim(cell.text)),
        Some(_) => read(trim(&cell.value())),
    }
}

/// Numbers and times may stand between spaces.
#[inline]
fn trim(text: &[u8]) -> &[u8] {
    match text {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => text.trim_ascii(),
        _ => text,
    }
}

fn number<N: lexical_core::FromLexical>(text: &[u8]) -> Option<N> {
    lexical_core::parse(text).ok()
}
