//! The `files` sink: rows to the bytes of CSV, JSON and Parquet files.
//!
//! In: the settings of a sink. Out: encoders. Where files are staged, how they are named and when
//! they become visible is the engine's business.

use arrow::datatypes::SchemaRef;
use sluice_core::{Error, FileEncoder, FileSink, FileSizing, Result};

use super::config::Format;
use super::output::Output;
use crate::format::compress::Codec;
use crate::format::{csv, json, parquet};

/// A sink that writes files.
#[derive(Debug)]
pub(super) struct Files {
    output: Output,
}

impl Files {
    /// A sink that does as `output` says.
    pub(super) fn new(output: Output) -> Self {
        Self { output }
    }
}

impl FileSink for Files {
    fn path(&self) -> &str {
        &self.output.path
    }

    fn extension(&self) -> &str {
        match (self.output.format, self.output.codec) {
            (Format::Csv, None) => "csv",
            (Format::Csv, Some(Codec::Gzip)) => "csv.gz",
            (Format::Csv, Some(Codec::Zstd)) => "csv.zst",
            (Format::Json, None) => "jsonl",
            (Format::Json, Some(Codec::Gzip)) => "jsonl.gz",
            (Format::Json, Some(Codec::Zstd)) => "jsonl.zst",
            (Format::Avro, _) => "avro",
            (Format::Parquet, _) => "parquet",
        }
    }

    fn sizing(&self) -> FileSizing {
        self.output.sizing
    }

    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn FileEncoder>> {
        let Output { dialect, header, codec, .. } = self.output;
        Ok(match self.output.format {
            Format::Csv => Box::new(csv::Encoder::new(schema, dialect, header, codec)?),
            Format::Json => Box::new(json::Encoder::new(&schema, codec)?),
            Format::Avro => return Err(Error::config("avro is only read, not written")),
            Format::Parquet => Box::new(parquet::Encoder::new(schema)?),
        })
    }
}
