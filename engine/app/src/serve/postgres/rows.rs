//! Rows as they go over the wire.
//!
//! In: record batches, the forms a client wants, its settings. Out: data rows. Types are those of
//! `catalog::wire_type`; what PostgreSQL has no type for is written as text, decimals with all
//! their digits.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions as ShowOptions};
use datafusion_postgres::arrow_pg::encoder::{Encoder, encode_value};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use datafusion_postgres::pgwire::types::format::FormatOptions;

use super::failure::{self, code};
use crate::serve::catalog::{has_counterpart, wire_type};

/// How rows of one result are written.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    fields: Arc<Vec<FieldInfo>>,
    zone: Option<String>,
}

impl Writing {
    /// For columns of `schema`, in the forms of `format`, by the settings of a session. Errors:
    /// forms for other columns than there are.
    pub(super) fn new(
        schema: &Schema,
        format: &Format,
        settings: &HashMap<String, String>,
        zone: Option<String>,
    ) -> PgWireResult<Self> {
        if let Format::Individual(forms) = format
            && forms.len() != schema.fields().len()
        {
            return Err(failure::error(
                code::PROTOCOL,
                "a form is wanted for each column, or for all",
            ));
        }
        let options = Arc::new(FormatOptions::from_client_metadata(settings));
        let info = |(at, field): (usize, &Arc<Field>)| {
            let kind = wire_type(field);
            let size = width_of(&kind);
            FieldInfo::new(field.name().clone(), None, None, kind, format.format_for(at))
                .with_format_options(options.clone())
                .with_type_size(size)
        };
        let fields = Arc::new(schema.fields().iter().enumerate().map(info).collect());
        Ok(Self { fields, zone })
    }

    /// The columns, as clients are told them.
    pub(super) fn fields(&self) -> Arc<Vec<FieldInfo>> {
        self.fields.clone()
    }

    /// The rows of `batch`.
    pub(super) fn rows(&self, batch: &RecordBatch) -> PgWireResult<Vec<DataRow>> {
        let schema = batch.schema();
        let columns = self.fields.iter().zip(schema.fields()).zip(batch.columns());
        let columns: Vec<Column<'_>> = columns
            .map(|((info, field), array)| self.column(info, field, array))
            .collect::<PgWireResult<_>>()?;
        if columns.len() != self.fields.len() || columns.len() != batch.num_columns() {
            return Err(failure::error(code::CHANGED, "the result has other columns than it had"));
        }
        let mut encoder = DataRowEncoder::new(self.fields.clone());
        let mut rows = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            for column in &columns {
                column.write(&mut encoder, row)?;
            }
            rows.push(encoder.take_row());
        }
        Ok(rows)
    }

    fn column<'a>(
        &self,
        info: &'a FieldInfo,
        field: &Field,
        array: &ArrayRef,
    ) -> PgWireResult<Column<'a>> {
        let text = info.format() == FieldFormat::Text;
        let kind = field.data_type();
        let decimal = info.datatype() == &Type::NUMERIC && is_decimal(kind);
        let (array, field) = match kind {
            _ if !has_counterpart(kind) || (text && decimal) => (written(array)?, utf8(field)),
            // The encoder writes other decimals than these only as text.
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
                let narrow = DataType::Decimal128(38, scale_of(kind));
                let field = field.clone().with_data_type(narrow.clone());
                (cast(array, &narrow).map_err(too_wide)?, field)
            }
            DataType::Timestamp(unit, Some(_)) if text && self.zone.is_some() => {
                let zone = self.zone.as_deref().map(Arc::from);
                let local = DataType::Timestamp(*unit, zone);
                let field = field.clone().with_data_type(local.clone());
                (cast(array, &local).map_err(too_wide)?, field)
            }
            _ => (array.clone(), field.clone()),
        };
        Ok(Column { info, field, array })
    }
}

/// A column as it is written.
struct Column<'a> {
    info: &'a FieldInfo,
    field: Field,
    array: ArrayRef,
}

impl Column<'_> {
    fn write(&self, encoder: &mut DataRowEncoder, row: usize) -> PgWireResult<()> {
        // Of some types the encoder does not look whether the value is null.
        if self.array.is_null(row) {
            return Encoder::encode_field(encoder, &None::<i8>, self.info);
        }
        if let Some(texts) = self.array.as_any().downcast_ref::<StringArray>()
            && self.info.datatype() == &Type::NUMERIC
        {
            return Encoder::encode_field(encoder, &texts.value(row), self.info);
        }
        encode_value(encoder, &self.array, row, &self.field, self.info)
    }
}

fn too_wide(error: datafusion::arrow::error::ArrowError) -> PgWireError {
    failure::hinted("22003", error.to_string(), "ask for the column as text")
}

fn is_decimal(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    )
}

fn scale_of(kind: &DataType) -> i8 {
    match kind {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}

fn utf8(field: &Field) -> Field {
    Field::new(field.name(), DataType::Utf8, true)
}

/// Values as people read them.
fn written(array: &ArrayRef) -> PgWireResult<ArrayRef> {
    let options = ShowOptions::default().with_display_error(false);
    let shown = ArrayFormatter::try_new(array.as_ref(), &options).map_err(too_wide)?;
    let text = |row: usize| -> PgWireResult<Option<String>> {
        if array.is_null(row) {
            return Ok(None);
        }
        shown.value(row).try_to_string().map(Some).map_err(too_wide)
    };
    let texts = (0..array.len()).map(text).collect::<PgWireResult<StringArray>>()?;
    Ok(Arc::new(texts))
}

/// Bytes of a value; -1 where they differ.
fn width_of(kind: &Type) -> i16 {
    match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;
    use datafusion::arrow::array::{
        Decimal128Array, DictionaryArray, Int64Array, IntervalMonthDayNanoArray, ListArray,
        StringViewArray, TimestampMicrosecondArray,
    };
    use datafusion::arrow::datatypes::{Int32Type, IntervalMonthDayNano};

    use super::*;

    /// The values of a row, none for null.
    fn values(row: &DataRow) -> Vec<Option<Vec<u8>>> {
        let mut bytes = row.data.clone();
        let mut found = Vec::new();
        while bytes.has_remaining() {
            let length = bytes.get_i32();
            let length = usize::try_from(length).ok();
            found.push(length.map(|length| bytes.copy_to_bytes(length).to_vec()));
        }
        found
    }

    fn text_rows(array: ArrayRef, zone: Option<&str>) -> Vec<String> {
        let field = Field::new("a", array.data_type().clone(), true);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
        let zone = zone.map(str::to_string);
        let writing =
            Writing::new(&batch.schema(), &Format::UnifiedText, &HashMap::new(), zone).unwrap();
        let text = |row: &DataRow| match &values(row)[0] {
            Some(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            None => "null".to_string(),
        };
        writing.rows(&batch).unwrap().iter().map(text).collect()
    }

    #[test]
    fn texts_are_text_however_they_are_kept() {
        let views: ArrayRef =
            Arc::new(StringViewArray::from(vec![Some("a longer text than 12"), None]));
        assert_eq!(text_rows(views, None), ["a longer text than 12", "null"]);
        let codes: DictionaryArray<Int32Type> = [Some("x"), None, Some("x")].into_iter().collect();
        assert_eq!(text_rows(Arc::new(codes), None), ["x", "null", "x"]);
    }

    #[test]
    fn numbers_keep_their_digits_and_nulls_are_null() {
        let wide = 12_345_678_901_234_567_890_123_456_789_012_345_678_i128;
        let decimals = Decimal128Array::from(vec![Some(wide), Some(-5), None])
            .with_precision_and_scale(38, 2)
            .unwrap();
        assert_eq!(
            text_rows(Arc::new(decimals), None),
            ["123456789012345678901234567890123456.78", "-0.05", "null"]
        );
        let intervals: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![
            None,
            Some(IntervalMonthDayNano::new(1, 0, 0)),
        ]));
        assert_eq!(text_rows(intervals, None)[0], "null");
    }

    #[test]
    fn times_are_shown_where_the_client_is() {
        let times = TimestampMicrosecondArray::from(vec![Some(0)]).with_timezone("UTC");
        let times: ArrayRef = Arc::new(times);
        assert!(text_rows(times.clone(), None)[0].starts_with("1970-01-01 00:00:00"));
        assert!(text_rows(times, Some("+02:00"))[0].starts_with("1970-01-01 02:00:00"));
    }

    #[test]
    fn what_has_no_type_is_text() {
        let nested = vec![Some(vec![Some(1_i64)])];
        let inner =
            ListArray::from_iter_primitive::<datafusion::arrow::datatypes::Int64Type, _, _>(nested);
        let item = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
        let offsets = datafusion::arrow::buffer::OffsetBuffer::from_lengths([1]);
        let outer = ListArray::new(item, offsets, Arc::new(inner), None);
        assert_eq!(text_rows(Arc::new(outer), None), ["[[1]]"]);
    }

    #[test]
    fn binary_forms_are_given_where_they_are_wanted() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Int64, true),
        ]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![258]));
        let batch = RecordBatch::try_new(schema.clone(), vec![numbers.clone(), numbers]).unwrap();
        let format = Format::Individual(vec![1, 0]);
        let writing = Writing::new(&schema, &format, &HashMap::new(), None).unwrap();
        let row = &writing.rows(&batch).unwrap()[0];
        let expected = [Some(vec![0, 0, 0, 0, 0, 0, 1, 2]), Some(b"258".to_vec())];
        assert_eq!(values(row), expected);
        let odd = Format::Individual(vec![1, 0, 1]);
        assert!(Writing::new(&schema, &odd, &HashMap::new(), None).is_err());
    }
}
