//! State files: what operators and sources keep between epochs, as Parquet beside the manifests.
//!
//! In: rows of one owner. Out: files named by the manifest that seals them. A base holds
//! everything, deltas what changed since; a new base is written when deltas weigh more than it.
//! It knows nothing about what the rows mean.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sluice_core::{Error, Result};
use sluice_lake::manifest::FileRef;
use sluice_lake::store::Location;

/// More deltas than this are folded into a base: each is one request at every restart.
const DELTAS_MAX: usize = 16;

/// Below this many bytes a base is not worth saving on: it is always rewritten with the deltas.
const BASE_BYTES_SMALL: u64 = 256 * 1024;

/// Whether rows go into a new base or a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    Base,
    /// What changed.
    Delta,
}

/// What to write next, given the bytes of the files that make up the state now, base first.
pub fn next_part(files: &[u64]) -> Part {
    let Some((base, deltas)) = files.split_first() else { return Part::Base };
    let weight: u64 = deltas.iter().sum();
    if deltas.len() >= DELTAS_MAX || weight > (*base).max(BASE_BYTES_SMALL) {
        Part::Base
    } else {
        Part::Delta
    }
}

/// The folder of state files of one job.
#[derive(Debug, Clone)]
pub struct StateFolder {
    folder: Location,
}

impl StateFolder {
    /// `<lake>/_sluice/<job>/state`.
    pub fn new(lake: &Location, job: &str) -> Self {
        Self { folder: lake.child("_sluice").child(job).child("state") }
    }

    /// Where the files are.
    pub fn location(&self) -> &Location {
        &self.folder
    }

    /// Writes rows of `owner` for `epoch`; `unique` keeps attempts apart.
    pub async fn write(
        &self,
        owner: &str,
        epoch: u64,
        unique: &str,
        rows: &[RecordBatch],
    ) -> Result<Option<FileRef>> {
        let Some(first) = rows.first() else { return Ok(None) };
        let bytes = encode(first.schema(), rows)?;
        let file = self.folder.child(owner).child(&format!("{epoch:020}-{unique}.parquet"));
        let size = bytes.len() as u64;
        file.store.put(&file.path, bytes).await?;
        Ok(Some(FileRef { path: file.path.to_string(), bytes: size, sha256: None }))
    }

    /// Reads files in order. A file that is gone or cut is an error that names it.
    pub async fn read(&self, files: &[FileRef]) -> Result<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        for file in files {
            let path = Path::parse(&file.path).map_err(|e| gone(&file.path).because(e))?;
            let bytes = self.folder.store.get(&path).await?.ok_or_else(|| gone(&file.path))?;
            if bytes.len() as u64 != file.bytes {
                return Err(gone(&file.path));
            }
            rows.extend(decode(bytes).map_err(|e| gone(&file.path).because(e))?);
        }
        Ok(rows)
    }
}

fn gone(path: &str) -> Error {
    Error::conflict(format!("a state file is missing or damaged path={path}"))
        .hint("run with --rebuild to work everything out again from the sources")
}

/// Rows as one Parquet file.
pub fn encode(schema: SchemaRef, rows: &[RecordBatch]) -> Result<Bytes> {
    let level = ZstdLevel::try_new(1).map_err(|e| Error::bug("no zstd level 1").because(e))?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    let broken = |e| Error::bug("cannot encode state rows").because(e);
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(broken)?;
    for batch in rows {
        writer.write(batch).map_err(broken)?;
    }
    Ok(Bytes::from(writer.into_inner().map_err(broken)?))
}

fn decode(bytes: Bytes) -> std::result::Result<Vec<RecordBatch>, parquet::errors::ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    reader.collect::<Result<Vec<_>, _>>().map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_written_first_and_when_deltas_outweigh_it() {
        let big = BASE_BYTES_SMALL * 4;
        let cases = [
            (vec![], Part::Base),
            (vec![big], Part::Delta),
            (vec![big, big / 2], Part::Delta),
            (vec![big, big, 1], Part::Base),
            (vec![100, BASE_BYTES_SMALL + 1], Part::Base),
            ([vec![big], vec![1; DELTAS_MAX]].concat(), Part::Base),
        ];
        for (files, part) in cases {
            assert_eq!(next_part(&files), part, "{files:?}");
        }
    }
}
