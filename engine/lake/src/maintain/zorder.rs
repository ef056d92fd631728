//! Z-order: rows that are alike in several columns lie in the same files, so that statistics of
//! files are narrow in all of them.
//!
//! In: which columns. Out: which files to sort, and for each row one number to sort by: the ranks
//! of its values among a sample, their bits interleaved. Ranks make columns of any type and spread
//! count alike; nulls come first, and long texts are told apart by their beginning. The sorting
//! itself is the caller's.

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, SortField};
use futures::stream::TryStreamExt;
use sha2::{Digest, Sha256};

use sluice_core::{Error, Result};

use super::compact::{CompactOptions, Group, age, check_rows, partitions, within_budget};
use crate::manifest::DataFile;
use crate::parquet::{Layout, Read, read_file};

/// Columns that one curve can hold: 64 bits for ranks of 16. More would hardly narrow any of them.
pub const ZORDER_COLUMNS_MAX: usize = 4;

/// Rows whose values are kept to tell ranks: files are cut far coarser than into 16,384 pieces.
const SAMPLE_MAX: usize = 16_384;

/// Bytes of a value that count. Texts that agree so far have the same rank.
const PREFIX_BYTES: usize = 64;

/// What names of files begin with whose rows are sorted by these columns. The name is the only
/// place that every writer of the log keeps.
pub fn zorder_mark(columns: &[String]) -> String {
    let hash = Sha256::digest(columns.join("\0").as_bytes());
    let hex: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("z{hex}")
}

/// Which of a table's files one round sorts, a group per partition.
///
/// A partition is due when `files_min` files of at least `sort_bytes_min` together have come that
/// are not sorted by the columns of `mark`, or when so many sorted ones are small. They are sorted among themselves, or together
/// with all others when they are half of the partition: what is sorted at least doubles each time,
/// so that a byte is rewritten as often as the partition doubles. A group that exceeds the round's
/// budget is cut, the unsorted first.
pub fn plan_zorder(files: &[DataFile], mark: &str, options: CompactOptions) -> Vec<Group> {
    let mut groups = Vec::new();
    for (values, all) in partitions(files.iter()) {
        let loose: Vec<u64> = all.iter().filter(|f| !is_sorted(f, mark)).map(|f| f.bytes).collect();
        let few = loose.len() < options.files_min.max(1)
            || loose.iter().sum::<u64>() < options.sort_bytes_min;
        let small = |f: &&&DataFile| is_sorted(f, mark) && options.is_small(f);
        let small = all.iter().filter(small).count();
        if few && small < options.files_min.max(2) {
            continue;
        }
        let is_wanted = |f: &&DataFile| !is_sorted(f, mark) || options.is_small(f);
        let wanted: u64 = all.iter().filter(|f| is_wanted(f)).map(|f| f.bytes).sum();
        let whole = wanted.saturating_mul(2) >= all.iter().map(|f| f.bytes).sum();
        let mut chosen: Vec<&DataFile> =
            all.into_iter().filter(|f| whole || is_wanted(f)).collect();
        chosen.sort_by(|a, b| {
            let key = |f| (is_sorted(f, mark), age(f));
            key(*a).cmp(&key(*b))
        });
        let files = cut(chosen, options);
        if !files.is_empty() {
            groups.push(Group { partition_values: values.clone(), files });
        }
    }
    within_budget(groups, options)
}

/// Whether a file's rows are sorted by the columns of `mark`.
pub fn is_sorted(file: &DataFile, mark: &str) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    name.strip_prefix(mark).is_some_and(|rest| rest.starts_with('-'))
}

/// The first files that a whole round could read.
fn cut(files: Vec<&DataFile>, options: CompactOptions) -> Vec<DataFile> {
    let mut left = options.round_bytes;
    let fits = |file: &&DataFile| {
        let fits = file.bytes <= left;
        left -= if fits { file.bytes } else { 0 };
        fits
    };
    files.into_iter().filter(fits).take(options.round_files).cloned().collect()
}

/// Reads the columns of the group's files to learn how their values are spread. Gives the rows too.
pub async fn survey(layout: &Layout, group: &Group, columns: &[String]) -> Result<(Curve, u64)> {
    let mut survey = Survey::new(&layout.schema, columns)?;
    let mut total = 0;
    for file in &group.files {
        let mut rows = 0;
        let mut batches = read_file(layout, file, Read::columns(columns)).await?;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows() as u64;
            survey.take(batch.columns())?;
        }
        check_rows(file, rows)?;
        total += rows;
    }
    Ok((survey.curve(), total))
}

/// The values of one row of so many.
#[derive(Debug)]
struct Survey {
    converters: Vec<RowConverter>,
    samples: Vec<Vec<Vec<u8>>>,
    /// One row of so many is kept.
    stride: usize,
    /// Rows to pass over until the next is kept.
    skip: usize,
}

impl Survey {
    fn new(schema: &Schema, columns: &[String]) -> Result<Self> {
        if columns.is_empty() || columns.len() > ZORDER_COLUMNS_MAX {
            let (n, max) = (columns.len(), ZORDER_COLUMNS_MAX);
            return Err(Error::bug(format!("a curve over {n} columns, 1 to {max} are possible")));
        }
        let mut converters = Vec::with_capacity(columns.len());
        for name in columns {
            let field = SortField::new(schema.field_with_name(name)?.data_type().clone());
            converters.push(RowConverter::new(vec![field])?);
        }
        let samples = vec![Vec::new(); columns.len()];
        Ok(Self { converters, samples, stride: 1, skip: 0 })
    }

    /// Takes the next rows in.
    fn take(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let rows = columns.first().map_or(0, |c| c.len());
        let mut encoded = Vec::with_capacity(columns.len());
        for (converter, column) in self.converters.iter().zip(columns) {
            encoded.push(converter.convert_columns(std::slice::from_ref(column))?);
        }
        while self.skip < rows {
            for (sample, column) in self.samples.iter_mut().zip(&encoded) {
                sample.push(prefix(column.row(self.skip).as_ref()).to_vec());
            }
            self.skip += self.stride;
            if self.samples.first().is_some_and(|s| s.len() >= SAMPLE_MAX) {
                self.thin();
            }
        }
        self.skip -= rows;
        Ok(())
    }

    /// Forgets every second row.
    fn thin(&mut self) {
        for sample in &mut self.samples {
            let mut nth = 0;
            sample.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
        }
        self.stride *= 2;
    }

    fn curve(mut self) -> Curve {
        self.samples.iter_mut().for_each(|sample| sample.sort_unstable());
        Curve { converters: self.converters, samples: self.samples }
    }
}

/// Gives rows their number on the curve.
#[derive(Debug)]
pub struct Curve {
    converters: Vec<RowConverter>,
    /// Per column, sorted.
    samples: Vec<Vec<Vec<u8>>>,
}

impl Curve {
    /// A number per row, to sort by; `columns` are those of the curve, in its order.
    pub fn keys(&self, columns: &[ArrayRef]) -> Result<UInt64Array> {
        let rows = columns.first().map_or(0, |c| c.len());
        let mut ranks = vec![Vec::with_capacity(rows); columns.len()];
        let parts = self.converters.iter().zip(&self.samples).zip(columns);
        for (((converter, sample), column), ranks) in parts.zip(&mut ranks) {
            let encoded = converter.convert_columns(std::slice::from_ref(column))?;
            ranks.extend(encoded.iter().map(|row| rank(sample, prefix(row.as_ref()))));
        }
        let key = |row: usize| interleave(ranks.iter().map(|column| column[row]));
        Ok(UInt64Array::from_iter_values((0..rows).map(key)))
    }
}

fn prefix(encoded: &[u8]) -> &[u8] {
    &encoded[..encoded.len().min(PREFIX_BYTES)]
}

/// Where a value stands in the sample, from 0 to 65,535.
fn rank(sample: &[Vec<u8>], value: &[u8]) -> u16 {
    let below = sample.partition_point(|known| known.as_slice() < value);
    let scaled = below * usize::from(u16::MAX) / sample.len().max(1);
    u16::try_from(scaled).unwrap_or(u16::MAX)
}

/// The bits of all ranks, the highest of each first.
fn interleave(ranks: impl Iterator<Item = u16> + Clone) -> u64 {
    let mut key = 0;
    for bit in (0..u16::BITS).rev() {
        for rank in ranks.clone() {
            key = key << 1 | u64::from(rank >> bit & 1);
        }
    }
    key
}
