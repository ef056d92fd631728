//! Fields that the schema does not have, row by row as JSON.
//!
//! In: the places of a chunk's fields. Out: one column with the text of a JSON object per row, names
//! as in the header and values as text; null where no such field has a value. It reads no types.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use serde_json::{Map, Value};

use super::record::Index;
use crate::format::encoding::Encoding;

/// For each row of `index` which of `fields` has bytes that are no text, if one has.
pub(super) fn complaints(
    index: &Index,
    bytes: &[u8],
    fields: &[(usize, String)],
    encoding: Encoding,
) -> Vec<Option<String>> {
    let broken = |row: usize| {
        let bad = |field: usize| {
            std::str::from_utf8(&encoding.text(&index.cell(bytes, row, field).value())).is_err()
        };
        let (_, name) = fields.iter().find(|(field, _)| bad(*field))?;
        Some(format!("field {name}: not valid UTF-8"))
    };
    (0..index.rows.len()).map(broken).collect()
}

/// The values of `fields` in the rows of `index`, which [`complaints`] found to be text.
pub(super) fn rescued(
    index: &Index,
    bytes: &[u8],
    fields: &[(usize, String)],
    encoding: Encoding,
) -> ArrayRef {
    let mut column = StringBuilder::new();
    for row in 0..index.rows.len() {
        let mut object = Map::new();
        for (field, name) in fields {
            let cell = index.cell(bytes, row, *field);
            if cell.quoted || !cell.text.is_empty() {
                let text = String::from_utf8_lossy(&encoding.text(&cell.value())).into_owned();
                object.insert(name.clone(), Value::String(text));
            }
        }
        match object.is_empty() {
            true => column.append_null(),
            false => column.append_value(Value::Object(object).to_string()),
        }
    }
    Arc::new(column.finish())
}
