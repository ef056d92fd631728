//! Files of other writers: Parquet by the crate that everybody uses, Avro byte by byte.

use arrow::array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// Rows of a row group of a Parquet file: few, so that a file of some megabytes has many.
const GROUP_ROWS: usize = 50_000;

/// Between the blocks of an Avro file.
const SYNC: [u8; 16] = *b"sixteen bytes ..";

/// A Parquet file.
pub fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let groups = WriterProperties::builder().set_max_row_group_row_count(Some(GROUP_ROWS)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(groups)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    bytes
}

/// An Avro object container file of one block; `rows` are made of what is below.
pub fn avro(schema: &str, rows: &[Vec<u8>]) -> Vec<u8> {
    let head = [b"Obj\x01".to_vec(), long(1), text("avro.schema"), text(schema), long(0)].concat();
    let block = rows.concat();
    let count = [long(rows.len() as i64), long(block.len() as i64)].concat();
    [head, SYNC.to_vec(), count, block, SYNC.to_vec()].concat()
}

/// In Avro an `int` or a `long`, or how many or which of something.
pub fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest > 0x7F {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// In Avro a `string`.
pub fn text(value: &str) -> Vec<u8> {
    bytes(value.as_bytes())
}

/// In Avro `bytes`, decimals among them.
pub fn bytes(value: &[u8]) -> Vec<u8> {
    [long(value.len() as i64), value.to_vec()].concat()
}

/// In Avro an `array`.
pub fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [long(items.len() as i64), items.concat(), long(0)].concat()
}

/// In Avro one of a union: which, and its value.
pub fn one(branch: i64, value: Vec<u8>) -> Vec<u8> {
    [long(branch), value].concat()
}
