//! The settings of the `files` connector: as they are written, and as they are meant.
//!
//! In: a `sources:` or `sinks:` entry. Out: [`Settings`] or [`Output`] without an open question,
//! or everything that is wrong with the entry. It opens nothing.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_core::{Config, Error, FileSizing, Problems, Result, parse_bytes, parse_duration};

use super::pattern::Pattern;
use crate::format::csv::Dialect;
use crate::format::{csv, parquet};

/// A bigger CSV file is read in several pieces at once: small enough that a file of 100 MiB uses
/// all cores, large enough that opening a piece costs nothing against reading it.
const SPLIT_BYTES: u64 = 32 * 1024 * 1024;

/// What sinks aim at: readers open few files and still read several at once.
const FILE_BYTES: u64 = 128 * 1024 * 1024;

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
    /// How files are compressed. Default: `auto`, by their ending; CSV only.
    #[serde(default)]
    pub compression: Compression,
    /// The character between fields. Default: `,`; CSV only.
    #[serde(default)]
    pub delimiter: Option<String>,
    /// The character around fields. Default: `"`; CSV only.
    #[serde(default)]
    pub quote: Option<String>,
    /// Whether the first record holds names. Default: true. Without names the columns are those of
    /// the schema, in order; CSV only.
    #[serde(default)]
    pub header: Option<bool>,
    /// When a file lacks a column of the schema. Default: `fail`.
    #[serde(default)]
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

/// One text or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// A number of bytes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// In bytes.
    Bytes(u64),
    /// `64MiB`, `1GB`.
    Text(String),
}

/// What files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text with delimiters.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// Endings of the files that a folder is searched for.
    pub(super) fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Csv => &[".csv", ".csv.gz"],
            Format::Parquet => &[".parquet"],
        }
    }

    /// The format that the ending of `path` says.
    pub(super) fn of(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let ends = |f: Format| f.endings().iter().any(|e| path.ends_with(e));
        [Format::Csv, Format::Parquet].into_iter().find(|f| ends(*f))
    }
}

/// How the bytes of a file are compressed as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip when the name ends with `.gz`.
    #[default]
    Auto,
    /// Not.
    None,
    /// gzip.
    Gzip,
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

/// What to do when a file has a column of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNewColumn {
    /// Stop and name the file and the column.
    #[default]
    Fail,
    /// Read the file without it.
    Ignore,
    /// It is a column of the source from the epoch on that takes the file.
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
    /// Read what was added at the end; uncompressed CSV only.
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
    /// As Parquet.
    Parquet(Arc<parquet::Layout>),
}

impl Settings {
    /// Reads an entry. Errors: everything that is wrong with it.
    pub(super) fn read(config: &Config) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let written: SourceConfig = match config.parse() {
            Ok(written) => written,
            Err(error) => return Err(faults.with("", error)),
        };
        let texts = match &written.path {
            OneOrMany::One(path) => vec![("/path".to_string(), path)],
            OneOrMany::Many(paths) => {
                let pointers = (0..paths.len()).map(|i| format!("/path/{i}"));
                pointers.zip(paths).collect()
            }
        };
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
        if format.is_none() && faults.list.is_empty() {
            let hint = "add `format: csv` or `format: parquet`";
            faults.add("/path", "the path does not say what format its files have", hint);
        }
        let min_age = written.min_age.as_deref().map(parse_duration);
        let min_age = min_age.and_then(|age| faults.keep("/min_age", age)).unwrap_or_default();
        let split_bytes = size(&mut faults, "/split_bytes", written.split_bytes.as_ref());
        let decoding = format.and_then(|f| decoding(config, &written, f, &mut faults));
        let fields = || config.schema.iter().flat_map(|schema| &schema.fields);
        match (format, decoding) {
            (Some(format), Some(decoding)) if faults.list.is_empty() => Ok(Self {
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
    let dialect = dialect(faults, written.delimiter.as_deref(), written.quote.as_deref());
    if format == Format::Parquet {
        let only_csv = [
            ("/delimiter", written.delimiter.is_some()),
            ("/quote", written.quote.is_some()),
            ("/header", written.header.is_some()),
            ("/compression", written.compression == Compression::Gzip),
        ];
        for (pointer, _) in only_csv.iter().filter(|(_, given)| *given) {
            let message = format!("{} says nothing about parquet", &pointer[1..]);
            faults.add(pointer, &message, "remove it, or use `format: csv`");
        }
    }
    let tails = written.on_changed_file == OnChangedFile::AppendTail;
    if tails && (format == Format::Parquet || written.compression == Compression::Gzip) {
        let hint = "use warn, fail or replace";
        faults.add("/on_changed_file", "append_tail needs uncompressed csv", hint);
    }
    let Some(schema) = &config.schema else {
        let hint = "add `schema: <file>` or `schema: {fields: [{name: …, type: …}]}`";
        let message = "a schema is needed to plan SQL without opening files";
        faults.add("", message, hint);
        return None;
    };
    for (i, field) in schema.fields.iter().enumerate() {
        if schema.fields[..i].iter().any(|f| f.name == field.name) {
            let message = format!("a field comes twice in the schema field={}", field.name);
            faults.add("/schema", &message, "give every field a name of its own");
        }
        if field.name.starts_with('_') {
            let message = format!("names that begin with _ are reserved field={}", field.name);
            faults.add("/schema", &message, "rename it with `from:`");
        }
    }
    let rescues = written.on_new_column == OnNewColumn::Rescue;
    if format == Format::Parquet {
        let layout = faults.keep("/schema", parquet::Layout::new(schema))?;
        let layout = if rescues { layout.rescuing() } else { layout };
        return Some(Decoding::Parquet(Arc::new(layout)));
    }
    let layout = faults.keep("/schema", csv::Layout::new(dialect, schema))?;
    let layout = if rescues { layout.rescuing() } else { layout };
    Some(Decoding::Csv(Arc::new(layout), written.header.unwrap_or(true)))
}

/// Settings of a `files` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The folder that files are written to, on the lake's store.
    pub path: String,
    /// The format of the files. Default: `csv`.
    #[serde(default)]
    pub format: Option<Format>,
    /// How files are compressed. Default: `none`; CSV only.
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
    pub(super) gzip: bool,
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
        let dialect = dialect(&mut faults, written.delimiter.as_deref(), None);
        let gzip = written.compression == Some(Compression::Gzip);
        if written.compression == Some(Compression::Auto) {
            let hint = "use none or gzip";
            faults.add("/compression", "auto means nothing when files are written", hint);
        }
        if format == Format::Parquet {
            let only_csv = [
                ("/compression", written.compression.is_some()),
                ("/header", written.header.is_some()),
                ("/delimiter", written.delimiter.is_some()),
            ];
            for (pointer, _) in only_csv.iter().filter(|(_, given)| *given) {
                let message = format!("{} says nothing about parquet", &pointer[1..]);
                faults.add(pointer, &message, "remove it, or use `format: csv`");
            }
        }
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
        let output = Self { path: written.path, format, gzip, header, dialect, sizing };
        if faults.list.is_empty() { Ok(output) } else { Err(faults) }
    }
}

fn dialect(faults: &mut Faults, delimiter: Option<&str>, quote: Option<&str>) -> Dialect {
    let mut dialect = Dialect::default();
    let mut one = |pointer: &str, text: Option<&str>, value: &mut u8| match text {
        None => {}
        Some(r"\t") => *value = b'\t',
        Some(text) => match text.as_bytes() {
            [b] if b.is_ascii_punctuation() || matches!(b, b'\t' | b' ') => *value = *b,
            _ => {
                let message = format!("not a character that can separate or quote text={text:?}");
                faults.add(pointer, &message, r#"use one such as "," ";" "|" or "\t""#);
            }
        },
    };
    one("/delimiter", delimiter, &mut dialect.delimiter);
    one("/quote", quote, &mut dialect.quote);
    if dialect.delimiter == dialect.quote {
        let hint = "use different characters";
        faults.add("/delimiter", "delimiter and quote are the same character", hint);
    }
    dialect
}

fn size(faults: &mut Faults, pointer: &str, size: Option<&Size>) -> Option<u64> {
    let bytes = match size? {
        Size::Bytes(bytes) => *bytes,
        Size::Text(text) => faults.keep(pointer, parse_bytes(text))?,
    };
    if bytes == 0 {
        faults.add(pointer, "a size of zero", "give a size such as 32MiB");
    }
    Some(bytes)
}

/// What is wrong with an entry.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<(String, Error)>,
}

impl Faults {
    fn add(&mut self, pointer: &str, message: &str, hint: &str) {
        self.list.push((pointer.to_string(), Error::config(message).hint(hint)));
    }

    fn with(mut self, pointer: &str, error: Error) -> Self {
        self.list.push((pointer.to_string(), error));
        self
    }

    fn keep<T>(&mut self, pointer: &str, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.list.push((pointer.to_string(), error))).ok()
    }

    /// As problems of the job file.
    pub(super) fn report(&self, config: &Config, problems: &mut Problems) {
        for (pointer, error) in &self.list {
            let hint = error.hint_text().unwrap_or("see connectors/files.md");
            config.problem(problems, pointer, &error.chain(), hint);
        }
    }

    /// The first, for whoever builds without having checked.
    pub(super) fn first(self, config: &Config) -> Error {
        let first = self.list.into_iter().next();
        first.map_or_else(
            || Error::bug(format!("settings are refused for no reason name={}", config.name)),
            |(_, error)| error,
        )
    }
}
