//! The settings of a `files` sink: as they are written, and as they are meant.
//!
//! In: a `sinks:` entry. Out: [`Output`] without an open question, or everything that is wrong with
//! the entry.

use schemars::JsonSchema;
use serde::Deserialize;
use sluice_core::{Config, FileSizing, Result};

use super::config::{Compression, Format, says_nothing};
use super::dialect;
use crate::format::compress::Codec;
use crate::format::csv::Dialect;
use crate::settings::{Faults, Size, size};

/// What sinks aim at: readers open few files and still read several at once.
const FILE_BYTES: u64 = 128 * 1024 * 1024;

/// Settings of a `files` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The folder that files are written to, on the lake's store.
    pub path: String,
    /// The format of the files. Default: `csv`.
    #[serde(default)]
    pub format: Option<Format>,
    /// How files are compressed. Default: `none`; CSV and JSON only.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Whether files begin with a record of names. Default: true; CSV only.
    #[serde(default)]
    pub header: Option<bool>,
    /// The character between fields. Default: `,`; CSV only.
    #[serde(default)]
    pub delimiter: Option<String>,
    /// Exactly this many files per epoch. Not together with `file_size`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000))]
    pub files: Option<u32>,
    /// About this much per file. Default: `128MiB`.
    #[serde(default)]
    pub file_size: Option<Size>,
}

/// What a `files` sink is to do.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) path: String,
    pub(super) format: Format,
    pub(super) codec: Option<Codec>,
    pub(super) header: bool,
    pub(super) dialect: Dialect,
    pub(super) sizing: FileSizing,
}

impl Output {
    /// Reads an entry. Errors: everything that is wrong with it.
    pub(super) fn read(config: &Config) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let written: SinkConfig = match config.parse() {
            Ok(written) => written,
            Err(error) => return Err(faults.with("", error)),
        };
        let format = written.format.unwrap_or(Format::Csv);
        let dialect = dialect::dialect(&mut faults, written.delimiter.as_deref(), None);
        let codec = match written.compression {
            Some(Compression::Gzip) => Some(Codec::Gzip),
            Some(Compression::Zstd) => Some(Codec::Zstd),
            Some(Compression::Auto | Compression::None) | None => None,
        };
        if written.compression == Some(Compression::Auto) {
            let hint = "use none, gzip or zstd";
            faults.add("/compression", "auto means nothing when files are written", hint);
        }
        if format == Format::Avro {
            faults.add("/format", "avro is only read, not written", "use csv, json or parquet");
        }
        let of_csv =
            [("/header", written.header.is_some()), ("/delimiter", written.delimiter.is_some())];
        let of_text = [("/compression", written.compression.is_some())];
        says_nothing(&mut faults, format, &of_csv, &of_text);
        if written.files.is_some() && written.file_size.is_some() {
            faults.add("/files", "files and file_size cannot both hold", "remove one of them");
        }
        if written.files == Some(0) {
            faults.add("/files", "rows need at least one file", "give a number from 1");
        }
        let bytes = size(&mut faults, "/file_size", written.file_size.as_ref());
        let sizing = match written.files {
            Some(files) => FileSizing::Count(files),
            None => FileSizing::TargetBytes(bytes.unwrap_or(FILE_BYTES)),
        };
        let header = written.header.unwrap_or(true);
        let output = Self { path: written.path, format, codec, header, dialect, sizing };
        if faults.is_empty() { Ok(output) } else { Err(faults) }
    }
}
