//! How the columns of one file are encoded: compression, and which of them get a dictionary.
//!
//! In: the first rows of a file. Out: the writer's properties, and which columns get a dictionary of
//! ours. A dictionary makes few values small and costs a look-up per row; where nearly every row
//! has a value of its own it only costs, and Parquet's writer would notice that after a megabyte of
//! values, for each row group anew. Of such values, texts that begin like the one before (running
//! numbers, paths, times) are written without that beginning, and whole numbers, dates, times and
//! decimals as their distance from the one before, in as few bits as that takes: less to compress,
//! and many times less work to read than what Zstandard would make of the same numbers.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use sluice_core::{Error, Result};

use super::super::codes::Codes;
use super::super::writer::{Codec, WriteOptions};
use super::column::DictionaryColumn;
use super::values::whole_numbers;

/// Zstandard's fastest regular level: higher ones cost much more time than they save bytes.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// Rows looked at: enough to tell a key from a category, and counted in microseconds.
const SAMPLE_ROWS_MAX: usize = 1024;

/// Fewer rows say nothing, and their dictionary costs nothing.
const SAMPLE_ROWS_MIN: usize = 64;

/// A column is written without a dictionary when more than this share of the rows looked at have
/// a value of their own. Among 1,024 rows that is the case from about 2,000 values on.
const DISTINCT_PERCENT_MAX: usize = 75;

/// Beginnings are left out when this share of a column's bytes can be.
const SHARED_PERCENT_MIN: usize = 25;

/// Distances are written when they take at most this share of the numbers' own bits: what differs
/// in nearly every bit would take longer to read and save next to nothing.
const DISTANCE_PERCENT_MAX: usize = 75;

/// Distances that are looked at together, as Parquet's writer does with about as many.
const DISTANCES: usize = 128;

/// The properties of a file that begins with `rows`, and per field whether it gets a dictionary of
/// ours, for which Parquet's own writer needs none.
pub(super) fn properties(
    options: &WriteOptions,
    rows: &RecordBatch,
) -> Result<(WriterProperties, Vec<bool>)> {
    let compression = match options.codec {
        Codec::Snappy => Compression::SNAPPY,
        Codec::Zstd => Compression::ZSTD(
            ZstdLevel::try_new(ZSTD_LEVEL)
                .map_err(|e| Error::bug("the compression level does not exist").because(e))?,
        ),
    };
    let mut properties = WriterProperties::builder()
        .set_compression(compression)
        .set_created_by(concat!("sluice ", env!("CARGO_PKG_VERSION")).to_string());
    let mut ours = Vec::with_capacity(rows.num_columns());
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let unique = !field.data_type().is_nested() && nearly_unique(column)?;
        let own =
            options.codec == Codec::Zstd && !unique && DictionaryColumn::takes(field.data_type());
        let path = ColumnPath::from(field.name().clone());
        if unique || own {
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
        }
        // Also what a column goes on with that turns out to have too many values for a dictionary.
        if let Some(encoding) = plain_encoding(column) {
            properties = properties.set_column_encoding(path, encoding);
        }
        ours.push(own);
    }
    Ok((properties.build(), ours))
}

/// How values are written that get no dictionary, if not one behind the other as they are.
fn plain_encoding(column: &ArrayRef) -> Option<Encoding> {
    match column.data_type() {
        DataType::Utf8 => neighbours_share(column).then_some(Encoding::DELTA_BYTE_ARRAY),
        _ => neighbours_are_near(column).then_some(Encoding::DELTA_BINARY_PACKED),
    }
}

/// Whether nearly every row of `column` has a value of its own.
fn nearly_unique(column: &dyn Array) -> Result<bool> {
    let sample = column.slice(0, column.len().min(SAMPLE_ROWS_MAX));
    let rows = sample.len() - sample.null_count();
    if rows < SAMPLE_ROWS_MIN {
        return Ok(false);
    }
    let distinct = Codes::of(&sample)?.count;
    Ok(distinct * 100 > rows * DISTINCT_PERCENT_MAX)
}

/// Whether texts mostly begin like the one before them.
fn neighbours_share(column: &dyn Array) -> bool {
    let Some(texts) = column.as_string_opt::<i32>() else { return false };
    let (mut bytes, mut shared, mut before) = (0, 0, "");
    for text in texts.iter().take(SAMPLE_ROWS_MAX).flatten() {
        shared += before.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        bytes += text.len();
        before = text;
    }
    shared * 100 > bytes * SHARED_PERCENT_MIN
}

/// Whether distances between numbers take fewer bits than the numbers. Parquet's encoder of them sets
/// aside a megabyte for each column at once, so they are only for files that begin with many rows:
/// not for those of thousands of partitions.
fn neighbours_are_near(column: &ArrayRef) -> bool {
    if column.len() < SAMPLE_ROWS_MAX {
        return false;
    }
    let sample = column.slice(0, SAMPLE_ROWS_MAX);
    let Some((numbers, width)) = whole_numbers(&sample) else { return false };
    let distances = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let distances: Vec<i64> = distances.collect();
    let bits = |block: &[i64]| {
        let spread = block.iter().max()?.wrapping_sub(*block.iter().min()?);
        Some(block.len() * (u64::BITS - (spread as u64).leading_zeros()) as usize)
    };
    let taken: usize = distances.chunks(DISTANCES).filter_map(bits).sum();
    taken * 100 <= distances.len() * width * DISTANCE_PERCENT_MAX
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray};

    use super::*;

    fn column(values: impl Iterator<Item = Option<i64>> + Clone) -> [ArrayRef; 2] {
        let texts = values.clone().map(|v| v.map(|v| format!("M{v}")));
        [Arc::new(Int64Array::from_iter(values)), Arc::new(StringArray::from_iter(texts))]
    }

    #[test]
    fn keys_get_no_dictionary_and_categories_do() {
        let cases: [(&str, [ArrayRef; 2], bool); 6] = [
            ("a key", column((0..5000).map(Some)), true),
            ("few rows", column((0..20).map(Some)), false),
            ("twenty values", column((0..5000).map(|v| Some(v % 20))), false),
            ("one value", column((0..5000).map(|_| Some(1))), false),
            ("mostly null", column((0..5000).map(|v| (v % 100 == 0).then_some(v))), false),
            ("half null, else a key", column((0..5000).map(|v| (v % 2 == 0).then_some(v))), true),
        ];
        for (what, columns, unique) in cases {
            for column in columns {
                assert_eq!(nearly_unique(&column).unwrap(), unique, "{what}");
            }
        }
    }

    #[test]
    fn running_numbers_are_written_without_their_beginnings() {
        let texts = |text: &dyn Fn(u64) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter((0..5000).map(|row| Some(text(row)))))
        };
        let scattered = |row: u64| row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let cases = [
            ("running numbers", texts(&|row| format!("M{:07}", 20 * row)), true),
            ("paths", texts(&|row| format!("/var/log/{:x}", scattered(row))), true),
            ("hashes", texts(&|row| format!("{:016x}", scattered(row))), false),
            ("nothing", texts(&|_| String::new()), false),
        ];
        for (what, column, shared) in cases {
            assert_eq!(neighbours_share(&column), shared, "{what}");
            let rows = RecordBatch::try_from_iter([("text", column)]).unwrap();
            let (properties, _) = properties(&WriteOptions::default(), &rows).unwrap();
            let encoding = properties.encoding(&ColumnPath::from("text"));
            assert_eq!(encoding, shared.then_some(Encoding::DELTA_BYTE_ARRAY), "{what}");
        }
    }

    #[test]
    fn numbers_near_each_other_are_written_as_distances() {
        let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
        let scattered = |row: i64| spread(spread(row) ^ (spread(row) >> 29));
        let within = |row: i64, most: i64| scattered(row).rem_euclid(most);
        let rows = 0..5000_i64;
        let wide = |of: &dyn Fn(i64) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.clone().map(of)))
        };
        let days = rows.clone().map(|row| within(row, 2500) as i32);
        let fractions = rows.clone().map(|row| row as f64);
        let cents = rows.clone().map(|row| i128::from(within(row, 10_000_000)));
        let cents = |precision| -> ArrayRef {
            let cents = Decimal128Array::from_iter_values(cents.clone());
            Arc::new(cents.with_precision_and_scale(precision, 2).unwrap())
        };
        let cases: [(&str, ArrayRef, bool); 9] = [
            ("running numbers", wide(&|row| 1_000_000_000_000 + 3 * row), true),
            ("some of a million", wide(&|row| within(row, 1_000_000)), true),
            ("any number at all", wide(&scattered), false),
            ("ends of all numbers", wide(&|row| [i64::MIN, i64::MAX][row as usize % 2]), true),
            ("few rows", Arc::new(Int64Array::from_iter_values(0..1000)), false),
            ("days", Arc::new(Date32Array::from_iter_values(days)), true),
            ("amounts", cents(18), true),
            ("amounts of sixteen bytes", cents(30), false),
            ("fractions", Arc::new(Float64Array::from_iter_values(fractions)), false),
        ];
        for (what, column, near) in cases {
            assert_eq!(neighbours_are_near(&column), near, "{what}");
            let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
            let (properties, _) = properties(&WriteOptions::default(), &rows).unwrap();
            let encoding = properties.encoding(&ColumnPath::from("n"));
            assert_eq!(encoding, near.then_some(Encoding::DELTA_BINARY_PACKED), "{what}");
        }
    }
}
