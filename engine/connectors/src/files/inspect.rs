//! What has to be known about a file before its rows are read: header or footer.
//!
//! In: one file that is to be taken. Out: its pieces; text in one, which [`super::cut`] may cut. The columns are compared with the schema
//! here, so that a file that does not fit is refused before anything of it is taken.

use serde::{Deserialize, Serialize};
use sluice_core::{Error, FieldSpec, Result};

use super::config::{Compression, Decoding, OnMissingColumn, OnNewColumn, Settings};
use super::object::Object;
use super::text::{Stored, first_bytes};
use crate::format::compress::Codec;
use crate::format::csv::{self, Dialect, HEADER_BYTES_MAX, Header};
use crate::format::encoding::Encoding;
use crate::format::parquet::{self, Footer};
use crate::format::sniff::sniff;
use crate::format::{avro, json};

/// The header is looked for in this much first: names of a hundred columns fit ten times.
const HEADER_BYTES: u64 = 64 * 1024;

/// Bytes of a row when nothing is known; and by how much text shrinks when compressed.
const ROW_BYTES: u64 = 64;
const CODEC_RATIO: u64 = 5;

/// A part of a file that is read by itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// Bytes of a text file as stored, row groups of a Parquet file.
    pub(super) range: (u64, u64),
    /// Rows, about.
    pub(super) rows: u64,
    /// Bytes as stored.
    pub(super) bytes: u64,
    pub(super) shape: Shape,
}

/// What the reader must know besides the range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub(super) enum Shape {
    /// CSV.
    Csv {
        /// How it is compressed as a whole.
        codec: Option<Codec>,
        /// Where in the uncompressed file the rows of the piece begin.
        start: u64,
        /// Fields per record.
        width: usize,
        /// The field of each column of the schema.
        fields: Vec<Option<usize>>,
        /// Fields that the schema does not have and whose values are kept, with their names.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rescued: Vec<(usize, String)>,
    },
    /// JSON.
    Json {
        /// How it is compressed as a whole.
        codec: Option<Codec>,
        /// Where in the uncompressed file the piece begins.
        start: u64,
        /// Whether the file is one list.
        list: bool,
    },
    /// Avro.
    Avro,
    /// Parquet.
    Parquet {
        /// The number of the first row within the file.
        row: u64,
    },
}

/// A file that was looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Inspected {
    pub(super) pieces: Vec<Piece>,
    /// Its columns that the schema does not have, as they would be added to it.
    pub(super) new: Vec<FieldSpec>,
}

/// The pieces of `object`; of its bytes after `tail` only, if given. Big CSV files are one piece
/// until [`cut`] is asked.
pub(super) async fn inspect(
    object: &Object,
    settings: &Settings,
    tail: Option<u64>,
) -> Result<Inspected> {
    match &settings.decoding {
        Decoding::Csv(layout, header) => csv_piece(object, settings, (layout, *header), tail).await,
        Decoding::Json(layout) => {
            let codec = codec_of(settings.compression, &object.found().path);
            json_piece(object, Stored { codec, encoding: layout.encoding() }, tail).await
        }
        Decoding::Avro(layout) => avro_piece(object, settings, layout).await,
        Decoding::Parquet(layout) => {
            let path = object.found().path.clone();
            let footer = Footer::read(object.clone(), layout, &path).await?;
            let wanted = layout.fields().iter().map(|f| (f.origin(), f.required)).collect();
            let columns =
                columns(&Columns { wanted, found: &footer.names, path: &path }, settings)?;
            let new = new_columns(&columns.new, &footer.types, settings, &path)?;
            Ok(Inspected { pieces: row_groups(&footer, settings.split_bytes), new })
        }
    }
}

/// How a file is compressed as a whole.
pub(super) fn codec_of(compression: Compression, path: &str) -> Option<Codec> {
    match compression {
        Compression::Auto => Codec::of(path),
        Compression::None => None,
        Compression::Gzip => Some(Codec::Gzip),
        Compression::Zstd => Some(Codec::Zstd),
    }
}

async fn csv_piece(
    object: &Object,
    settings: &Settings,
    (layout, has_header): (&csv::Layout, bool),
    tail: Option<u64>,
) -> Result<Inspected> {
    let codec = codec_of(settings.compression, &object.found().path);
    let stored = Stored { codec, encoding: layout.dialect().encoding };
    let (sample, ended) = first_bytes(object, stored, HEADER_BYTES).await?;
    check_sign(object, &sample)?;
    if Header::ends_in_cr(layout.dialect(), &sample) {
        let path = &object.found().path;
        return Err(Error::unreadable(format!("the lines of the file end in CR only path={path}"))
            .hint("end them in LF or CRLF: save the file again, or run `tr '\\r' '\\n'` over it"));
    }
    let (header, sample) = match has_header {
        false => (Header { names: Vec::new(), end: Header::mark(&sample) as u64 }, sample),
        true => match read_header(object, layout.dialect(), &sample, ended)? {
            Some(header) => (header, sample),
            None => {
                let (more, ended) = first_bytes(object, stored, HEADER_BYTES_MAX as u64).await?;
                let header = read_header(object, layout.dialect(), &more, ended)?;
                (header.ok_or_else(|| no_header(object))?, more)
            }
        },
    };
    let end = usize::try_from(header.end).unwrap_or(usize::MAX).min(sample.len());
    check_text(object, stored.encoding, if has_header { &sample[..end] } else { &[] })?;
    if has_header && header.names.is_empty() {
        return Ok(Inspected::default());
    }
    let (width, places) = if has_header {
        let wanted = layout.origins().collect();
        let found = &header.names;
        let path = &object.found().path;
        (found.len(), columns(&Columns { wanted, found, path }, settings)?)
    } else {
        let width = layout.columns().len();
        (width, Places { fields: (0..width).map(Some).collect(), new: Vec::new() })
    };
    let Places { fields, new } = places;
    let learned = learn(new.iter().map(|(_, name)| (name.as_str(), "string")), settings);
    let rescued = if settings.on_new_column == OnNewColumn::Rescue { new } else { Vec::new() };
    let start = header.end.max(tail.unwrap_or(0));
    let shape = Shape::Csv { codec, start, width, fields, rescued };
    Ok(Inspected { pieces: text_piece(object, stored, start, &sample, shape), new: learned })
}

/// Refuses a file whose header is no text in the encoding it is read in.
fn check_text(object: &Object, encoding: Encoding, header: &[u8]) -> Result<()> {
    let Some(trouble) = Header::trouble(encoding, header) else { return Ok(()) };
    let message = format!("{trouble} path={}", object.found().path);
    Err(Error::unreadable(message).hint("say its `encoding`, or leave it out of the path"))
}

async fn json_piece(object: &Object, stored: Stored, tail: Option<u64>) -> Result<Inspected> {
    let (sample, _) = first_bytes(object, stored, HEADER_BYTES).await?;
    check_sign(object, &sample)?;
    let mark = Header::mark(&sample);
    let list = json::begins_list(&sample[mark..]).unwrap_or(false);
    if list && tail.is_some() {
        let path = &object.found().path;
        return Err(Error::data(format!("the file is one list and cannot grow path={path}"))
            .hint("write an object per line, or choose another `on_changed_file`"));
    }
    let start = tail.unwrap_or(mark as u64);
    let shape = Shape::Json { codec: stored.codec, start, list };
    let pieces = text_piece(object, stored, start, &sample, shape);
    Ok(Inspected { pieces, new: Vec::new() })
}

async fn avro_piece(
    object: &Object,
    settings: &Settings,
    layout: &parquet::Layout,
) -> Result<Inspected> {
    let (size, path) = (object.found().size, &object.found().path);
    let head = avro_head(object, layout).await?;
    let wanted = layout.fields().iter().map(|f| (f.origin(), f.required)).collect();
    let names = head.names();
    let columns = columns(&Columns { wanted, found: &names, path }, settings)?;
    let new = new_columns(&columns.new, &head.types(), settings, path)?;
    let rows = size / ROW_BYTES;
    let piece = Piece { range: (0, size), rows, bytes: size, shape: Shape::Avro };
    Ok(Inspected { pieces: vec![piece], new })
}

/// The header of an Avro file whose columns can be read by `layout`.
pub(super) async fn avro_head(object: &Object, layout: &parquet::Layout) -> Result<avro::Head> {
    let (size, path) = (object.found().size, &object.found().path);
    let mut wanted = HEADER_BYTES.min(size);
    loop {
        let bytes = object.read(0..wanted).await?;
        if let Some(head) = avro::Head::read(&bytes, wanted == size, layout, path)? {
            return Ok(head);
        }
        wanted = (4 * wanted).min(size);
    }
}

/// The one piece of a text file whose rows begin at `start`; none when there are none.
fn text_piece(
    object: &Object,
    stored: Stored,
    start: u64,
    sample: &[u8],
    shape: Shape,
) -> Vec<Piece> {
    let size = object.found().size;
    let range = if stored.is_plain() { (start, size) } else { (0, size) };
    let bytes = size.saturating_sub(range.0);
    if bytes == 0 {
        return Vec::new();
    }
    let ratio = if stored.codec.is_some() { CODEC_RATIO } else { 1 };
    let rows = bytes.saturating_mul(ratio) / row_bytes(sample);
    vec![Piece { range, rows, bytes, shape }]
}

/// Refuses a file that is something else than the text it is meant to be.
fn check_sign(object: &Object, sample: &[u8]) -> Result<()> {
    let Some(sign) = sniff(sample) else { return Ok(()) };
    let (what, key, value) = sign.meaning();
    let path = &object.found().path;
    Err(Error::unreadable(format!("the file is {what}, which `{key}` does not say path={path}"))
        .hint(format!("set `{key}: {value}`, or leave it out of the path")))
}

fn read_header(
    object: &Object,
    dialect: Dialect,
    bytes: &[u8],
    ended: bool,
) -> Result<Option<Header>> {
    Header::read(dialect, bytes, ended).map_err(|e| {
        let hint = e.hint_text().unwrap_or("check delimiter, quote and header").to_string();
        let message = format!("the file does not begin as it should path={}", object.found().path);
        Error::unreadable(message).hint(hint).because(e)
    })
}

fn no_header(object: &Object) -> Error {
    let max = sluice_core::format_bytes(HEADER_BYTES_MAX as u64);
    let path = &object.found().path;
    Error::unreadable(format!("no header ends within the first {max} path={path}"))
        .hint("check delimiter and quote, or set `header: false`")
}

/// Bytes of a row, on average over the lines of `sample`.
fn row_bytes(sample: &[u8]) -> u64 {
    let lines = memchr::memchr_iter(b'\n', sample).count() as u64;
    if lines < 2 { ROW_BYTES } else { (sample.len() as u64 / lines).max(1) }
}

/// The columns that a schema wants and those that a file has.
struct Columns<'a> {
    wanted: Vec<(&'a str, bool)>,
    found: &'a [String],
    path: &'a str,
}

/// Where the columns of a file stand.
struct Places {
    /// For each wanted column its place in the file.
    fields: Vec<Option<usize>>,
    /// Columns that are not wanted, with their places.
    new: Vec<(usize, String)>,
}

/// The places of the columns. Errors: `Data` naming file and column; `Unreadable` when the file has
/// none of them, as one with another delimiter.
fn columns(columns: &Columns<'_>, settings: &Settings) -> Result<Places> {
    let Columns { wanted, found, path } = columns;
    if wanted.len() > 1 && !wanted.iter().any(|(name, _)| found.iter().any(|f| f == name)) {
        let found = found.join(", ");
        let message = format!("no column of the schema is in the file path={path}");
        return Err(Error::unreadable(message)
            .hint(format!("check delimiter and header; the file has {found:?}")));
    }
    let mut places = Vec::with_capacity(wanted.len());
    for (name, required) in wanted {
        let place = found.iter().position(|f| f == name);
        let learned = settings.learned.iter().any(|l| l == name);
        let strict = settings.on_missing_column == OnMissingColumn::Fail && !learned;
        let fails = *required || strict;
        if place.is_none() && fails {
            let message = format!("a column is missing in the file column={name} path={path}");
            let found = found.join(", ");
            let hint = match required {
                true => format!("the schema requires it; the file has {found}"),
                false => format!(
                    "set `on_missing_column: null` to read nulls, or correct the schema; \
                     the file has {found}"
                ),
            };
            return Err(Error::data(message).hint(hint));
        }
        places.push(place);
    }
    let unknown = |(_, f): &(usize, &String)| !wanted.iter().any(|(name, _)| name == f);
    let new: Vec<(usize, String)> =
        found.iter().enumerate().filter(unknown).map(|(i, name)| (i, name.clone())).collect();
    match new.first() {
        Some((_, name)) if settings.on_new_column == OnNewColumn::Fail => {
            let message = format!("the file has a column of its own column={name} path={path}");
            let hint = "add it to the schema, or set `on_new_column` to ignore, add or rescue";
            Err(Error::data(message).hint(hint))
        }
        _ => Ok(Places { fields: places, new }),
    }
}

/// The fields that new columns would be.
pub(super) fn learn<'a>(
    columns: impl Iterator<Item = (&'a str, &'a str)>,
    settings: &Settings,
) -> Vec<FieldSpec> {
    let mut fields: Vec<FieldSpec> = Vec::new();
    if settings.on_new_column != OnNewColumn::Add {
        return fields;
    }
    for (origin, data_type) in columns {
        let taken = settings.names.iter().map(String::as_str);
        let taken: Vec<&str> = taken.chain(fields.iter().map(|f| f.name.as_str())).collect();
        fields.push(FieldSpec::learned(origin, data_type, &taken));
    }
    fields
}

/// The new columns of a Parquet or Avro file with the types they would have. Errors: `Data` when a schema
/// has no word for one.
fn new_columns(
    new: &[(usize, String)],
    types: &[Option<String>],
    settings: &Settings,
    path: &str,
) -> Result<Vec<FieldSpec>> {
    if settings.on_new_column != OnNewColumn::Add {
        return Ok(Vec::new());
    }
    let mut columns = Vec::with_capacity(new.len());
    for (at, name) in new {
        let Some(data_type) = types.get(*at).and_then(Option::as_deref) else {
            let message = format!(
                "a new column is of a type that schemas cannot hold column={name} path={path}"
            );
            return Err(Error::data(message).hint("set `on_new_column` to rescue or ignore"));
        };
        columns.push((name.as_str(), data_type));
    }
    Ok(learn(columns.into_iter(), settings))
}

/// Row groups that lie next to each other, up to about `split_bytes` in a piece.
fn row_groups(footer: &Footer, split_bytes: u64) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut row = 0;
    for (i, group) in footer.groups.iter().enumerate() {
        let i = i as u64;
        match pieces.last_mut().filter(|p| p.bytes + group.bytes <= split_bytes) {
            Some(piece) => {
                piece.range.1 = i + 1;
                piece.rows += group.rows;
                piece.bytes += group.bytes;
            }
            None => pieces.push(Piece {
                range: (i, i + 1),
                rows: group.rows,
                bytes: group.bytes,
                shape: Shape::Parquet { row },
            }),
        }
        row += group.rows;
    }
    pieces
}
