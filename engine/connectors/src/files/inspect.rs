//! What has to be known about a file before its rows are read: header or footer, and where it may
//! be cut.
//!
//! In: one file that is to be taken. Out: its pieces. The columns are compared with the schema
//! here, so that a file that does not fit is refused before anything of it is taken.

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sluice_core::{Error, FieldSpec, Result};

use super::config::{Compression, Decoding, OnMissingColumn, OnNewColumn, Settings};
use super::gzip::Gunzip;
use super::object::{Object, PIECE_BYTES};
use crate::format::csv::{self, Dialect, HEADER_BYTES_MAX, Header, Scan, State};
use crate::format::parquet::Footer;

/// The header is looked for in this much first: names of a hundred columns fit ten times.
const HEADER_BYTES: u64 = 64 * 1024;

/// Parts of one file that are scanned at once: enough for the cores of most machines, and at
/// [`PIECE_BYTES`] each no burden to memory.
const SCANS_AT_ONCE: usize = 8;

/// Bytes of a row when nothing is known; and by how much text shrinks in gzip.
const ROW_BYTES: u64 = 64;
const GZIP_RATIO: u64 = 5;

/// A part of a file that is read by itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// Bytes of a CSV file as stored, row groups of a Parquet file.
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
        /// Whether it is gzipped as a whole.
        gzip: bool,
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
        Decoding::Csv(layout, header) => {
            let gzip = is_gzip(settings.compression, &object.found().path);
            csv_piece(object, settings, layout, *header, gzip, tail).await
        }
        Decoding::Parquet(layout) => {
            let path = object.found().path.clone();
            let footer = Footer::read(object.clone(), layout, &path).await?;
            let wanted = layout.fields().iter().map(|f| (f.origin(), f.required)).collect();
            let columns =
                columns(&Columns { wanted, found: &footer.names, path: &path }, settings)?;
            let new = new_columns(&columns.new, &footer, settings, &path)?;
            Ok(Inspected { pieces: row_groups(&footer, settings.split_bytes), new })
        }
    }
}

/// Whether a file is gzipped as a whole.
pub(super) fn is_gzip(compression: Compression, path: &str) -> bool {
    match compression {
        Compression::Auto => path.to_ascii_lowercase().ends_with(".gz"),
        Compression::None => false,
        Compression::Gzip => true,
    }
}

async fn csv_piece(
    object: &Object,
    settings: &Settings,
    layout: &csv::Layout,
    has_header: bool,
    gzip: bool,
    tail: Option<u64>,
) -> Result<Inspected> {
    let size = object.found().size;
    let (sample, ended) = first_bytes(object, gzip, HEADER_BYTES).await?;
    check_text(object, &sample, 0)?;
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
                let (more, ended) = first_bytes(object, gzip, HEADER_BYTES_MAX as u64).await?;
                let header = read_header(object, layout.dialect(), &more, ended)?;
                (header.ok_or_else(|| no_header(object))?, more)
            }
        },
    };
    check_text(object, &sample, if has_header { header.end } else { 0 })?;
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
    let (range, bytes) =
        if gzip { ((0, size), size) } else { ((start, size), size.saturating_sub(start)) };
    if bytes == 0 {
        return Ok(Inspected { pieces: Vec::new(), new: learned });
    }
    let ratio = if gzip { GZIP_RATIO } else { 1 };
    let rows = bytes.saturating_mul(ratio) / row_bytes(&sample);
    let shape = Shape::Csv { gzip, start, width, fields, rescued };
    Ok(Inspected { pieces: vec![Piece { range, rows, bytes, shape }], new: learned })
}

/// Refuses a file whose bytes are no text in the encoding it is read in.
fn check_text(object: &Object, sample: &[u8], end: u64) -> Result<()> {
    let Some(trouble) = Header::trouble(sample, end) else { return Ok(()) };
    let message = format!("{trouble} path={}", object.found().path);
    Err(Error::unreadable(message).hint("say its `encoding`, or leave it out of the path"))
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

/// The first bytes of the uncompressed file, and whether they are all of it.
async fn first_bytes(object: &Object, gzip: bool, wanted: u64) -> Result<(Vec<u8>, bool)> {
    let size = object.found().size;
    let end = wanted.min(size);
    let bytes = object.read(0..end).await?;
    if !gzip {
        return Ok((bytes.to_vec(), end == size));
    }
    let mut gunzip = Gunzip::new(&object.found().path);
    let mut plain = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() && (plain.len() as u64) < wanted {
        rest = gunzip.push(rest, &mut plain)?;
    }
    let ended = rest.is_empty() && end == size;
    if ended {
        gunzip.finish(&mut plain)?;
    }
    Ok((plain, ended))
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
fn learn<'a>(
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

/// The new columns of a Parquet file with the types they would have. Errors: `Data` when a schema
/// has no word for one.
fn new_columns(
    new: &[(usize, String)],
    footer: &Footer,
    settings: &Settings,
    path: &str,
) -> Result<Vec<FieldSpec>> {
    if settings.on_new_column != OnNewColumn::Add {
        return Ok(Vec::new());
    }
    let mut columns = Vec::with_capacity(new.len());
    for (at, name) in new {
        let Some(data_type) = footer.types.get(*at).and_then(Option::as_deref) else {
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

/// Cuts a CSV piece into several of about `split_bytes` that begin where records begin.
///
/// The whole piece is scanned for quotes, in parts at once: only all quotes before a line break
/// tell whether it ends a record.
pub(super) async fn cut(
    object: &Object,
    dialect: Dialect,
    piece: Piece,
    split_bytes: u64,
) -> Result<Vec<Piece>> {
    let Shape::Csv { gzip: false, width, fields, rescued, .. } = &piece.shape else {
        return Ok(vec![piece]);
    };
    let (start, end) = piece.range;
    if end - start <= split_bytes {
        return Ok(vec![piece]);
    }
    let parts: Vec<(u64, u64)> = (start..end)
        .step_by(usize::try_from(split_bytes).unwrap_or(usize::MAX))
        .map(|from| (from, from.saturating_add(split_bytes).min(end)))
        .collect();
    let scans: Vec<Scan> = futures::stream::iter(parts)
        .map(|part| scan(object.clone(), dialect, part))
        .buffered(SCANS_AT_ONCE)
        .try_collect()
        .await?;
    let mut starts = vec![start];
    let mut state = State::Field;
    for (i, scan) in scans.iter().enumerate() {
        let (after, border) = scan.from(state);
        state = after;
        starts.extend(border.filter(|at| i > 0 && *at < end));
    }
    let ends = starts.iter().skip(1).copied().chain([end]);
    let pieces = starts.iter().zip(ends).map(|(from, to)| Piece {
        range: (*from, to),
        rows: (u128::from(piece.rows) * u128::from(to - from) / u128::from(end - start)) as u64,
        bytes: to - from,
        shape: Shape::Csv {
            gzip: false,
            start: *from,
            width: *width,
            fields: fields.clone(),
            rescued: rescued.clone(),
        },
    });
    Ok(pieces.collect())
}

async fn scan(object: Object, dialect: Dialect, part: (u64, u64)) -> Result<Scan> {
    let mut scan = Scan::new(dialect, part.0);
    let mut at = part.0;
    while at < part.1 {
        let end = (at + PIECE_BYTES).min(part.1);
        let bytes = object.read(at..end).await?;
        let scanned = tokio::task::spawn_blocking(move || {
            scan.push(&bytes);
            scan
        });
        scan = scanned.await.map_err(|e| Error::bug("scanning stopped").because(e))?;
        at = end;
    }
    Ok(scan)
}
