//! The settings of a `files` source: as they are written, and as they are meant.
//!
//! In: a `sources:` entry. Out: [`Settings`] without an open question, or everything that is wrong
//! with the entry. It opens nothing.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sluice_core::{Config, parse_duration};

use super::dialect;
use super::pattern::Pattern;
use crate::format::encoding::Encoding;
use crate::format::{csv, json, parquet};
use crate::settings::{Faults, OneOrMany, Size, check_fields, size};

/// A bigger CSV file is read in several pieces at once: small enough that a file of 100 MiB uses
/// all cores, large enough that opening a piece costs nothing against reading it.
const SPLIT_BYTES: u64 = 32 * 1024 * 1024;

/// Settings of a `files` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A file, a folder or a pattern, or a list of them: `./data/*.csv`, `s3://bucket/sales`.
    /// `*` and `?` stay within a name, `**` crosses folders, `[a-z]` and `{a,b}` choose. A folder
    /// means all files of the format in it and below.
    pub path: OneOrMany,
    /// The format of the files. Default: by their ending.
    #[serde(default)]
    pub format: Option<Format>,
    /// How files are compressed. Default: `auto`, by their ending; CSV and JSON only.
    #[serde(default)]
    pub compression: Compression,
    /// How characters are written. Default: `utf-8`; CSV and JSON only.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// The character between fields. Default: `,`; CSV only.
    #[serde(default)]
    pub delimiter: Option<String>,
    /// The character around fields, or `none`. Default: `"`; CSV only.
    #[serde(default)]
    pub quote: Option<String>,
    /// The character behind which any other stands for itself. Default: none; CSV only.
    #[serde(default)]
    pub escape: Option<String>,
    /// What stands for null, one text or several. Default: the empty field; CSV only.
    #[serde(default)]
    pub null: Option<OneOrMany>,
    /// The sign before the fraction of numbers, `.` or `,`. Default: `.`; CSV only.
    #[serde(default)]
    pub decimal: Option<String>,
    /// The sign between groups of three digits. Default: none; CSV only.
    #[serde(default)]
    pub thousands: Option<String>,
    /// Whether the first record holds names. Default: true. Without names the columns are those of
    /// the schema, in order; CSV only.
    #[serde(default)]
    pub header: Option<bool>,
    /// When a file lacks a column of the schema. Default: `fail`.
    #[serde(default)]
    #[schemars(schema_with = "fail_or_null")]
    pub on_missing_column: OnMissingColumn,
    /// When a file has a column that the schema does not have. Default: `fail`.
    #[serde(default)]
    pub on_new_column: OnNewColumn,
    /// When the content of a file changes after it was taken. Default: `warn`.
    #[serde(default)]
    pub on_changed_file: OnChangedFile,
    /// Files changed within this time are left for later, since they may still be written.
    /// Default: `0s`.
    #[serde(default)]
    pub min_age: Option<String>,
    /// Bigger files are read in several pieces at once. Default: `32MiB`.
    #[serde(default)]
    pub split_bytes: Option<Size>,
}

/// What files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text with delimiters.
    Csv,
    /// An object per line, or one list of objects.
    Json,
    /// Apache Avro object containers; sources only.
    Avro,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    const ALL: [Format; 4] = [Format::Csv, Format::Json, Format::Avro, Format::Parquet];

    /// As the job file says it.
    fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Avro => "avro",
            Format::Parquet => "parquet",
        }
    }

    /// Whether files are text, which may be compressed as a whole.
    fn is_text(self) -> bool {
        matches!(self, Format::Csv | Format::Json)
    }

    /// Endings of the files that a folder is searched for.
    pub(super) fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Csv => &[".csv", ".csv.gz", ".csv.zst"],
            Format::Json => &[
                ".json",
                ".json.gz",
                ".json.zst",
                ".jsonl",
                ".jsonl.gz",
                ".jsonl.zst",
                ".ndjson",
                ".ndjson.gz",
                ".ndjson.zst",
            ],
            Format::Avro => &[".avro"],
            Format::Parquet => &[".parquet"],
        }
    }

    /// The format that the ending of `path` says.
    pub(super) fn of(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let ends = |f: Format| f.endings().iter().any(|e| path.ends_with(e));
        Format::ALL.into_iter().find(|f| ends(*f))
    }
}

/// How the bytes of a file are compressed as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip when the name ends with `.gz`, zstd when it ends with `.zst`.
    #[default]
    Auto,
    /// Not.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// What to do when a file lacks a column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnMissingColumn {
    /// Stop and name the file and the column.
    #[default]
    Fail,
    /// Its values are null. A required column still fails.
    Null,
}

/// As plain choices, so that `null` is found among them.
fn fail_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["fail", "null"] })
}

/// What to do when a file has a column of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNewColumn {
    /// Stop and name the file and the column.
    #[default]
    Fail,
    /// Read the file without it.
    Ignore,
    /// It is a column of the source from the epoch on that takes the file; in JSON from the epoch
    /// behind the one that met it, whose values are in `_rescued`.
    Add,
    /// Its values go into the column `_rescued`, as the text of a JSON object per row.
    Rescue,
}

/// What to do when a file changes after it was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnChangedFile {
    /// Say so, once per change, and keep the rows that were taken.
    #[default]
    Warn,
    /// Stop and name the file.
    Fail,
    /// Take the rows of the old content back and read the file again; Delta tables only.
    Replace,
    /// Read what was added at the end; uncompressed CSV and JSON lines only.
    AppendTail,
}

impl OnChangedFile {
    /// Whether rows of an earlier content are taken back.
    pub(super) fn replaces(self) -> bool {
        self == OnChangedFile::Replace
    }
}

/// What a `files` source is to do.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) patterns: Vec<Pattern>,
    pub(super) format: Format,
    pub(super) compression: Compression,
    pub(super) decoding: Decoding,
    pub(super) on_missing_column: OnMissingColumn,
    pub(super) on_new_column: OnNewColumn,
    /// Names of the schema's columns in SQL.
    pub(super) names: Vec<String>,
    /// Names in the data of columns that files taught.
    pub(super) learned: Vec<String>,
    pub(super) on_changed_file: OnChangedFile,
    pub(super) min_age_ms: i64,
    pub(super) split_bytes: u64,
}

/// How files become rows.
#[derive(Debug, Clone)]
pub(super) enum Decoding {
    /// As CSV; the flag says whether files have a header.
    Csv(Arc<csv::Layout>, bool),
    /// As JSON.
    Json(Arc<json::Layout>),
    /// As Avro.
    Avro(Arc<parquet::Layout>),
    /// As Parquet.
    Parquet(Arc<parquet::Layout>),
}

impl Decoding {
    /// The rows' schema, position last.
    pub(super) fn schema(&self) -> &SchemaRef {
        match self {
            Decoding::Csv(layout, _) => layout.schema(),
            Decoding::Json(layout) => layout.schema(),
            Decoding::Avro(layout) | Decoding::Parquet(layout) => layout.schema(),
        }
    }
}

impl Settings {
    /// Reads an entry. Errors: everything that is wrong with it.
    pub(super) fn read(config: &Config) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let written: SourceConfig = match config.parse() {
            Ok(written) => written,
            Err(error) => return Err(faults.with("", error)),
        };
        let texts = written.path.texts("/path");
        if texts.is_empty() {
            faults.add("/path", "no path is given", "name a file, a folder or a pattern");
        }
        let patterns: Vec<Pattern> = texts
            .iter()
            .filter_map(|(pointer, text)| faults.keep(pointer, Pattern::new(text)))
            .collect();
        let format = written.format.or_else(|| {
            let mut formats = texts.iter().map(|(_, text)| Format::of(text));
            let first = formats.next().flatten();
            first.filter(|_| formats.all(|f| f == first))
        });
        if format.is_none() && faults.is_empty() {
            let hint = "add `format: csv`, `json`, `avro` or `parquet`";
            faults.add("/path", "the path does not say what format its files have", hint);
        }
        let min_age = written.min_age.as_deref().map(parse_duration);
        let min_age = min_age.and_then(|age| faults.keep("/min_age", age)).unwrap_or_default();
        let split_bytes = size(&mut faults, "/split_bytes", written.split_bytes.as_ref());
        let decoding = format.and_then(|f| decoding(config, &written, f, &mut faults));
        let fields = || config.schema.iter().flat_map(|schema| &schema.fields);
        match (format, decoding) {
            (Some(format), Some(decoding)) if faults.is_empty() => Ok(Self {
                patterns,
                format,
                compression: written.compression,
                decoding,
                on_missing_column: written.on_missing_column,
                on_new_column: written.on_new_column,
                names: fields().map(|f| f.name.clone()).collect(),
                learned: fields().filter(|f| f.learned).map(|f| f.origin().to_string()).collect(),
                on_changed_file: written.on_changed_file,
                min_age_ms: i64::try_from(min_age.as_millis()).unwrap_or(i64::MAX),
                split_bytes: split_bytes.unwrap_or(SPLIT_BYTES),
            }),
            _ => Err(faults),
        }
    }
}

/// The layout of the rows; reports what does not go with the format.
fn decoding(
    config: &Config,
    written: &SourceConfig,
    format: Format,
    faults: &mut Faults,
) -> Option<Decoding> {
    let dialect = dialect::of_source(faults, written);
    let spelling = dialect::spelling(faults, written);
    let compressed = matches!(written.compression, Compression::Gzip | Compression::Zstd);
    let of_csv = [
        ("/delimiter", written.delimiter.is_some()),
        ("/quote", written.quote.is_some()),
        ("/escape", written.escape.is_some()),
        ("/header", written.header.is_some()),
        ("/null", written.null.is_some()),
        ("/decimal", written.decimal.is_some()),
        ("/thousands", written.thousands.is_some()),
    ];
    let of_text = [("/compression", compressed), ("/encoding", written.encoding.is_some())];
    says_nothing(faults, format, &of_csv, &of_text);
    let tails = written.on_changed_file == OnChangedFile::AppendTail;
    let utf16 = dialect.encoding.transcoder().is_some();
    if tails && (!format.is_text() || compressed || utf16) {
        let hint = "use warn, fail or replace";
        let message = "append_tail needs uncompressed csv or json, not in utf-16";
        faults.add("/on_changed_file", message, hint);
    }
    let Some(schema) = &config.schema else {
        let hint = "add `schema: <file>` or `schema: {fields: [{name: …, type: …}]}`";
        let message = "a schema is needed to plan SQL without opening files";
        faults.add("", message, hint);
        return None;
    };
    check_fields(faults, schema);
    let rescues = written.on_new_column == OnNewColumn::Rescue;
    if matches!(format, Format::Avro | Format::Parquet) {
        let layout = faults.keep("/schema", parquet::Layout::new(schema))?;
        let layout = Arc::new(if rescues { layout.rescuing() } else { layout });
        return Some(match format {
            Format::Avro => Decoding::Avro(layout),
            _ => Decoding::Parquet(layout),
        });
    }
    if format == Format::Json {
        let unknown = match written.on_new_column {
            OnNewColumn::Fail => json::Unknown::Fail,
            OnNewColumn::Ignore => json::Unknown::Ignore,
            OnNewColumn::Rescue => json::Unknown::Rescue,
            OnNewColumn::Add => json::Unknown::Add,
        };
        let layout = json::Layout::new(schema, unknown, dialect.encoding);
        return Some(Decoding::Json(Arc::new(faults.keep("/schema", layout)?)));
    }
    let layout = faults.keep("/schema", csv::Layout::new(dialect, schema))?.spelled(spelling);
    let layout = if rescues { layout.rescuing() } else { layout };
    Some(Decoding::Csv(Arc::new(layout), written.header.unwrap_or(true)))
}

/// Reports the settings that do not go with `format`: some are of CSV only, some of all text.
pub(super) fn says_nothing(
    faults: &mut Faults,
    format: Format,
    of_csv: &[(&str, bool)],
    of_text: &[(&str, bool)],
) {
    let of_csv = of_csv.iter().filter(|_| format != Format::Csv);
    let of_text = of_text.iter().filter(|_| !format.is_text());
    for (pointer, _) in of_csv.chain(of_text).filter(|(_, given)| *given) {
        let message = format!("{} says nothing about {}", &pointer[1..], format.name());
        faults.add(pointer, &message, "remove it, or use `format: csv`");
    }
}
