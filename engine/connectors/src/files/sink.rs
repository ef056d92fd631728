//! The `files` sink: rows to the bytes of CSV and Parquet files.
//!
//! In: the settings of a sink. Out: encoders. Where files are staged, how they are named and when
//! they become visible is the engine's business.

use arrow::datatypes::SchemaRef;
use sluice_core::{FileEncoder, FileSink, FileSizing, Result};

use super::config::{Format, Output};
use crate::format::{csv, parquet};

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
        match self.output.format {
            Format::Csv if self.output.gzip => "csv.gz",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        }
    }

    fn sizing(&self) -> FileSizing {
        self.output.sizing
    }

    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn FileEncoder>> {
        let Output { dialect, header, gzip, .. } = self.output;
        Ok(match self.output.format {
            Format::Csv => Box::new(csv::Encoder::new(schema, dialect, header, gzip)?),
            Format::Parquet => Box::new(parquet::Encoder::new(schema)?),
        })
    }
}
