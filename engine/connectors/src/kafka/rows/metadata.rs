//! What a message is besides its value, as columns.
//!
//! In: messages. Out: the columns that `metadata:` names, each with its name, type and values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder,
    StructBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Kept, Messages};

/// A column about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    /// `_topic` (string).
    Topic,
    /// `_partition` (int).
    Partition,
    /// `_offset` (long).
    Offset,
    /// `_timestamp` (timestamp): the producer's or the broker's, as the topic is set.
    Timestamp,
    /// `_key` (binary).
    Key,
    /// `_headers`: a list of `key` (string) and `value` (binary), as many and in the order they came.
    Headers,
}

impl Metadata {
    /// The column's name.
    pub(in crate::kafka) fn name(self) -> &'static str {
        match self {
            Metadata::Topic => "_topic",
            Metadata::Partition => "_partition",
            Metadata::Offset => "_offset",
            Metadata::Timestamp => "_timestamp",
            Metadata::Key => "_key",
            Metadata::Headers => "_headers",
        }
    }

    /// The column.
    pub(in crate::kafka) fn field(self) -> Field {
        let (data_type, nullable) = match self {
            Metadata::Topic => (DataType::Utf8, false),
            Metadata::Partition => (DataType::Int32, false),
            Metadata::Offset => (DataType::Int64, false),
            Metadata::Timestamp => {
                (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
            }
            Metadata::Key => (DataType::Binary, true),
            Metadata::Headers => {
                let item = Field::new("item", DataType::Struct(header_fields()), true);
                (DataType::List(Arc::new(item)), true)
            }
        };
        Field::new(self.name(), data_type, nullable)
    }

    /// The values of the messages numbered `rows`.
    pub(in crate::kafka) fn column(self, messages: &Messages, rows: &[usize]) -> ArrayRef {
        match self {
            Metadata::Topic => {
                let topic = std::iter::repeat_n(&*messages.topic, rows.len());
                Arc::new(StringArray::from_iter_values(topic))
            }
            Metadata::Partition => {
                let number = std::iter::repeat_n(messages.number, rows.len());
                Arc::new(Int32Array::from_iter_values(number))
            }
            Metadata::Offset => {
                let offsets = rows.iter().map(|row| messages.offsets[*row]);
                Arc::new(Int64Array::from_iter_values(offsets))
            }
            Metadata::Timestamp => {
                let micros =
                    |row: &usize| messages.timestamps[*row].map(|ms| ms.saturating_mul(1000));
                let times: TimestampMicrosecondArray = rows.iter().map(micros).collect();
                Arc::new(times.with_timezone("UTC"))
            }
            Metadata::Key => {
                let mut keys = BinaryBuilder::new();
                for row in rows {
                    keys.append_option(messages.keys.as_ref().and_then(|keys| keys.get(*row)));
                }
                Arc::new(keys.finish())
            }
            Metadata::Headers => headers(messages, rows),
        }
    }
}

/// What is to be kept of messages for these columns.
pub(in crate::kafka) fn kept(columns: &[Metadata]) -> Kept {
    Kept { keys: columns.contains(&Metadata::Key), headers: columns.contains(&Metadata::Headers) }
}

fn header_fields() -> Fields {
    vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)]
        .into()
}

fn headers(messages: &Messages, rows: &[usize]) -> ArrayRef {
    let one = StructBuilder::new(
        header_fields(),
        vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())],
    );
    let mut lists = ListBuilder::new(one);
    for row in rows {
        let of_row = messages.headers.as_ref().and_then(|all| all.get(*row));
        for (name, value) in of_row.into_iter().flatten() {
            let one = lists.values();
            if let Some(names) = one.field_builder::<StringBuilder>(0) {
                names.append_value(name);
            }
            if let Some(values) = one.field_builder::<BinaryBuilder>(1) {
                values.append_option(value.as_deref());
            }
            one.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}
