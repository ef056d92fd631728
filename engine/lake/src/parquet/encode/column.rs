//! Columns of few distinct values: every value is looked up once, the rest is numbers.
//!
//! In: arrays of one column of a row group. Out: the column's chunk, a dictionary and pages of
//! numbers, with statistics and indexes. Parquet's own writer does the same for all types, slower:
//! it hashes and compares every value of every column several times. Types that are rarely
//! categories, nested columns and other codecs than Zstandard are left to it.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_writer::PageStore;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::Page;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::ColumnDescPtr;

use super::spool::{PageKey, Pages};
use super::values::Values;
use super::{Workshop, bits, press, values};
use crate::parquet::texts::TooMany;

/// Rows of a page: as in Parquet's own writer.
const PAGE_ROWS: usize = 20_000;

/// One column of a row group that is being written.
pub(super) struct DictionaryColumn {
    descriptor: ColumnDescPtr,
    compression: Compression,
    press: press::Press,
    values: Values,
    /// The numbers of the page at hand, without those of nulls.
    codes: Vec<u32>,
    /// One per row of the page at hand, 1 where there is a value; none while all have one.
    valid: Option<Vec<u32>>,
    rows: usize,
    pages: Pages,
    written: Vec<Written>,
    /// Which values the page at hand has.
    seen: Vec<bool>,
    /// How many numbers and values belong to rows that were put.
    kept: (usize, usize),
}

/// A finished page.
struct Written {
    key: PageKey,
    rows: usize,
    nulls: u64,
    stored_bytes: usize,
    plain_bytes: usize,
    bounds: Option<values::Bounds>,
}

impl DictionaryColumn {
    /// Whether columns of this type can have it.
    pub(super) fn takes(data_type: &DataType) -> bool {
        Values::of(data_type).is_some()
    }

    /// A column without rows; none for types that are not taken.
    pub(super) fn new(
        data_type: &DataType,
        descriptor: ColumnDescPtr,
        compression: Compression,
        shared: &Workshop,
    ) -> Option<Self> {
        Some(Self {
            descriptor,
            compression,
            press: shared.press.clone(),
            values: Values::of(data_type)?,
            codes: Vec::new(),
            valid: None,
            rows: 0,
            pages: shared.spool.pages(),
            written: Vec::new(),
            seen: Vec::new(),
            kept: (0, 0),
        })
    }

    /// Numbers the values of `column`; its rows are put next, or it is undone.
    pub(super) fn number(&mut self, column: &ArrayRef) -> std::result::Result<(), TooMany> {
        self.values.number(column, &mut self.codes)
    }

    /// Forgets what was numbered and not put. The column takes nothing more.
    pub(super) fn undo(&mut self) {
        self.codes.truncate(self.kept.0);
        self.values.truncate(self.kept.1);
    }

    /// Takes the rows of `column`, whose values were numbered just now.
    pub(super) fn put(&mut self, column: &ArrayRef) -> Result<()> {
        if column.null_count() > 0 {
            let before = self.rows;
            let valid = self.valid.get_or_insert_with(|| vec![1; before]);
            valid.extend((0..column.len()).map(|row| u32::from(column.is_valid(row))));
        } else if let Some(valid) = &mut self.valid {
            valid.extend(std::iter::repeat_n(1, column.len()));
        }
        self.rows += column.len();
        if self.rows >= PAGE_ROWS {
            self.end_page()?;
        }
        self.kept = (self.codes.len(), self.values.len());
        Ok(())
    }

    /// What the column takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let codes = self.codes.capacity() + self.valid.as_ref().map_or(0, Vec::capacity);
        codes * size_of::<u32>() + self.values.memory_bytes() + self.pages.memory_size()
    }

    /// What the column would take in the file if it ended here, roughly.
    pub(super) fn encoded_bytes(&self) -> usize {
        let pages: usize = self.written.iter().map(|page| page.stored_bytes).sum();
        let width = usize::from(bits::width_of(self.values.len()));
        pages + self.codes.len() * width / 8
    }

    fn end_page(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return Ok(());
        }
        let nulls = (rows - self.codes.len()) as u64;
        let mut page = Vec::with_capacity(self.codes.len() + 64);
        if self.descriptor.max_def_level() > 0 {
            self.levels(rows, &mut page);
        }
        let width = bits::width_of(self.values.len()).max(1);
        page.push(width);
        bits::encode(&self.codes, width, &mut page);
        let bounds = self.page_bounds();
        self.codes.clear();
        self.valid = None;
        let plain_bytes = page.len();
        let buf = Bytes::from(self.press.compress(&page)?);
        let page = Page::DataPage {
            buf,
            num_values: rows as u32,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let (bytes, header) = press::serialized(page, plain_bytes)?;
        let (stored_bytes, plain_bytes) = (bytes.len(), plain_bytes + header);
        let key = self.pages.put(bytes.into())?;
        self.written.push(Written { key, rows, nulls, stored_bytes, plain_bytes, bounds });
        Ok(())
    }

    /// Which rows of the page have a value.
    fn levels(&self, rows: usize, page: &mut Vec<u8>) {
        let start = page.len();
        page.extend_from_slice(&[0; 4]);
        match &self.valid {
            Some(valid) => bits::encode(valid, 1, page),
            None => bits::encode_run(1, rows, 1, page),
        }
        let len = (page.len() - start - 4) as u32;
        page[start..start + 4].copy_from_slice(&len.to_le_bytes());
    }

    fn page_bounds(&mut self) -> Option<values::Bounds> {
        self.seen.clear();
        self.seen.resize(self.values.len(), false);
        for code in &self.codes {
            self.seen[*code as usize] = true;
        }
        let seen = self.seen.iter().enumerate().filter(|(_, seen)| **seen);
        self.values.bounds(seen.map(|(code, _)| code))
    }

    /// Ends the column and appends it to a row group.
    pub(super) fn close(mut self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<()> {
        self.end_page()?;
        let plain = self.values.page();
        let dictionary = Page::DictionaryPage {
            buf: Bytes::from(self.press.compress(&plain)?),
            num_values: self.values.len() as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        let (mut chunk, header) = press::serialized(dictionary, plain.len())?;
        let data_offset = chunk.len();
        let mut offsets = OffsetIndexBuilder::new();
        let mut index = ColumnIndexBuilder::new(self.descriptor.physical_type());
        let (mut rows, mut nulls, mut plain_bytes) = (0, 0, plain.len() + header);
        for page in std::mem::take(&mut self.written) {
            offsets.append_offset_and_size(chunk.len() as i64, page.stored_bytes as i32);
            offsets.append_row_count(page.rows as i64);
            let (is_null, bounds) = (page.bounds.is_none(), page.bounds.map(values::Bounds::bytes));
            let (min, max) = bounds.unwrap_or_default();
            index.append(is_null, min, max, page.nulls as i64);
            chunk.extend_from_slice(&self.pages.take(page.key)?);
            rows += page.rows as u64;
            nulls += page.nulls;
            plain_bytes += page.plain_bytes;
        }
        let bounds = self.values.bounds(0..self.values.len());
        let statistics = match bounds {
            Some(bounds) => bounds.statistics(nulls),
            None => self.values.no_bounds(nulls),
        };
        let metadata = ColumnChunkMetaData::builder(self.descriptor)
            .set_compression(self.compression)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_total_compressed_size(chunk.len() as i64)
            .set_total_uncompressed_size(plain_bytes as i64)
            .set_num_values(rows as i64)
            .set_dictionary_page_offset(Some(0))
            .set_data_page_offset(data_offset as i64)
            .set_statistics(statistics)
            .build()?;
        let closed = ColumnCloseResult {
            bytes_written: chunk.len() as u64,
            rows_written: rows,
            metadata,
            bloom_filter: None,
            column_index: Some(index.build()?),
            offset_index: Some(offsets.build()),
        };
        group.append_column(&Bytes::from(chunk), closed)
    }
}
