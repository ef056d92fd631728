//! Rows to the bytes of one Parquet file.
//!
//! In: batches of one schema. Out: bytes, row group by row group, and the file's metadata. It is
//! `parquet`'s own writer with two differences: columns of few values are encoded by `column`, and
//! finished pages wait in `spool`, outside of memory when they are many. Where the bytes go is not
//! its concern.

mod bits;
mod choice;
mod column;
mod group;
mod press;
mod spool;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::writer::SerializedFileWriter;
use sluice_core::Error;

use self::group::{Group, Recipe};
use self::press::Press;
use self::spool::Spool;
use super::writer::WriteOptions;

/// A row group is cut at this size even if it has few rows: readers hold whole row groups.
const ROW_GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What all files of one writer share.
#[derive(Clone)]
pub(crate) struct Workshop {
    press: Press,
    spool: Spool,
}

impl Workshop {
    /// For files written with `options`.
    pub(crate) fn new(options: &WriteOptions) -> sluice_core::Result<Self> {
        let press = Press::new(choice::ZSTD_LEVEL)
            .map_err(|e| Error::bug("cannot make a compressor").because(e))?;
        Ok(Self { press, spool: Spool::new(options.spool_bytes) })
    }
}

/// One file being encoded.
pub(super) struct Encoder {
    file: SerializedFileWriter<Vec<u8>>,
    recipe: Recipe,
    group: Option<Group>,
    row_group_rows: usize,
}

impl Encoder {
    /// Begins a file for rows of `schema`; `first` are rows it will hold, for how to encode them.
    pub(super) fn new(
        schema: SchemaRef,
        options: &WriteOptions,
        shared: &Workshop,
        first: &RecordBatch,
    ) -> sluice_core::Result<std::result::Result<Self, parquet::errors::ParquetError>> {
        let (properties, dictionaries) = choice::properties(options, first)?;
        let begun = || {
            let options = ArrowWriterOptions::new().with_properties(properties);
            let writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options)?;
            writer.into_serialized_writer()
        };
        Ok(begun().map(|(file, factory)| {
            let factory = factory.with_page_store_factory(Arc::new(shared.spool.clone()));
            let shared = shared.clone();
            Self {
                file,
                recipe: Recipe { schema, dictionaries, factory, shared },
                group: None,
                row_group_rows: options.row_group_rows.max(1),
            }
        }))
    }

    /// Takes rows; ends row groups that are large enough.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut rows = rows.clone();
        while rows.num_rows() > 0 {
            let group = match &mut self.group {
                Some(group) => group,
                none => none.insert(Group::begin(&self.recipe, &self.file)?),
            };
            let fitting = rows.num_rows().min(self.row_group_rows - group.rows());
            match group.write(&self.recipe.schema, &rows.slice(0, fitting))? {
                Ok(()) => rows = rows.slice(fitting, rows.num_rows() - fitting),
                Err(field) => {
                    self.recipe.dictionaries[field] = false;
                    self.flush()?;
                    continue;
                }
            }
            if group.rows() >= self.row_group_rows || group.encoded_bytes() >= ROW_GROUP_BYTES_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the row group.
    pub(super) fn flush(&mut self) -> Result<()> {
        match self.group.take() {
            Some(group) if group.rows() > 0 => group.close(&mut self.file),
            _ => Ok(()),
        }
    }

    /// Ends the file.
    pub(super) fn finish(&mut self) -> Result<ParquetMetaData> {
        self.flush()?;
        self.file.finish()
    }

    /// Bytes that are encoded and have not been taken.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        self.file.inner_mut()
    }

    /// Bytes of the file so far, taken or not.
    pub(super) fn bytes_written(&self) -> usize {
        self.file.bytes_written()
    }

    /// What the row group at hand would add to the file, roughly.
    pub(super) fn group_bytes(&self) -> usize {
        self.group.as_ref().map_or(0, Group::encoded_bytes)
    }

    /// What is held in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.group.as_ref().map_or(0, Group::memory_bytes) + self.file.inner().len()
    }
}
