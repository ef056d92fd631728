//! Rows to a Parquet file, zstd inside.
//!
//! In: batches. Out: bytes in order. A row group is closed when it is large in memory, so that a
//! file of any size needs a bounded amount of it.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use sluice_core::{Error, FileEncoder, Result};

/// Encoded bytes at which a row group is closed: large enough to be read at full speed, small
/// enough that a writer per core fits into any memory we run in.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// The encoder of one Parquet file.
#[derive(Debug)]
pub struct Encoder {
    writer: ArrowWriter<Vec<u8>>,
}

impl Encoder {
    /// Begins a file for rows of `schema`. Errors: `Config` when a type has no place in Parquet.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("sluice ", env!("CARGO_PKG_VERSION")).into())
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(|e| {
            Error::config("these columns cannot be written as parquet")
                .hint("cast the column in the SQL")
                .because(e)
        })?;
        Ok(Self { writer })
    }
}

impl FileEncoder for Encoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).map_err(failed)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    fn memory_bytes(&self) -> usize {
        self.writer.memory_size() + self.writer.inner().capacity()
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>> {
        self.writer.into_inner().map_err(failed)
    }
}

fn failed(error: ParquetError) -> Error {
    Error::data("rows cannot be written as parquet").because(error)
}
