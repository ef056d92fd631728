//! Partition values as text, as folder names and back, the way Delta and Hive write them.
//!
//! Null and the empty string are the same value here, as the Delta protocol has it. Types that
//! have no text form (binary, nested ones) are refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::DateTime;

use sluice_core::{Error, Result};

use super::convert;

/// What a null partition value is called in a folder name.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// `k=v/k=v/` for `values`, percent-encoded; empty without partition columns.
pub fn folder(partition_by: &[String], values: &[Option<String>]) -> String {
    let mut path = String::new();
    for (name, value) in partition_by.iter().zip(values) {
        path.push_str(&encode(name, b"-_."));
        path.push('=');
        match value {
            Some(text) => path.push_str(&encode(text, b"-_.~")),
            None => path.push_str(NULL_FOLDER),
        }
        path.push('/');
    }
    path
}

/// The partition values in the folders of `path`, for exactly the columns `partition_by` in that
/// order; `None` when the folders say something else.
pub fn values_of_path(
    path: &str,
    partition_by: &[String],
) -> Option<BTreeMap<String, Option<String>>> {
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop()?;
    if folders.len() != partition_by.len() {
        return None;
    }
    let mut values = BTreeMap::new();
    for (part, name) in folders.into_iter().zip(partition_by) {
        let (key, value) = part.split_once('=')?;
        if decode(key)? != *name {
            return None;
        }
        let text = if value == NULL_FOLDER { None } else { Some(decode(value)?) };
        values.insert(name.clone(), text.filter(|t| !t.is_empty()));
    }
    Some(values)
}

/// Every value of `column` as Delta's log writes partition values.
pub(super) fn texts(column: &ArrayRef, name: &str) -> Result<Vec<Option<String>>> {
    if let DataType::Timestamp(_, zone) = column.data_type() {
        let unit = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
        let micros = convert(column, &unit, name)?;
        let micros = micros.as_primitive::<TimestampMicrosecondType>();
        return micros.iter().map(|value| value.map(timestamp_text).transpose()).collect();
    }
    if column.data_type().is_nested() || is_binary(column.data_type()) {
        let of = column.data_type();
        return Err(Error::config(format!("cannot partition by column={name:?} type={of}"))
            .hint("partition by text, whole numbers, dates, timestamps or booleans"));
    }
    let texts = convert(column, &DataType::Utf8, name)?;
    let text = |value: Option<&str>| value.filter(|t| !t.is_empty()).map(str::to_string);
    Ok(texts.as_string::<i32>().iter().map(text).collect())
}

/// `rows` times the value that `text` stands for in a log or a folder name. Errors: `Data` when it is
/// none of the wanted type.
pub fn value_array(
    text: Option<&str>,
    wanted: &DataType,
    name: &str,
    rows: usize,
) -> Result<ArrayRef> {
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        return Ok(new_null_array(wanted, rows));
    };
    let one: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let one = convert(&one, wanted, name)?;
    Ok(take(&one, &UInt32Array::from(vec![0; rows]), None)?)
}

/// Percent-encodes every byte that is no ASCII letter or digit and not in `kept`.
pub(crate) fn encode(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes [`encode`]; a `%` that starts no two hex digits stands for itself. `None` when the
/// bytes are not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = hex.and_then(|h| Some((digit(h[0])? << 4) | digit(h[1])?));
        out.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).ok()
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

fn timestamp_text(micros: i64) -> Result<String> {
    let time = DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| Error::data(format!("a timestamp is out of range microseconds={micros}")))?;
    Ok(time.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_read_back() {
        let by = vec!["pays".to_string(), "jour férié".to_string()];
        for (a, b) in [(Some("Sénégal"), None), (Some("a/b=c%41"), Some("x y")), (None, Some("%"))]
        {
            let values = vec![a.map(str::to_string), b.map(str::to_string)];
            let path = format!("{}part-1.parquet", folder(&by, &values));
            assert!(path.is_ascii() && path.matches('/').count() == 2, "{path}");
            let read = values_of_path(&path, &by);
            let want = by.iter().cloned().zip(values).collect();
            assert_eq!(read, Some(want), "{path}");
        }
    }

    #[test]
    fn other_folders_are_not_ours() {
        let by = vec!["a".to_string()];
        for path in ["f.parquet", "b=1/f.parquet", "a=1/b=2/f.parquet", "a/f.parquet"] {
            assert_eq!(values_of_path(path, &by), None, "{path}");
        }
    }

    #[test]
    fn broken_escapes_stand_for_themselves() {
        assert_eq!(decode("100%").as_deref(), Some("100%"));
        assert_eq!(decode("%zz%4").as_deref(), Some("%zz%4"));
        assert_eq!(decode("%FF"), None);
    }
}
