//! Where a big text file may be cut, so that all cores read it.
//!
//! In: a file's one piece. Out: pieces that begin where records begin. Where that is, is guessed from
//! the bytes around each cut; reading a piece to its end finds out a wrong guess, and the file is
//! then cut by all its quotes. Compressed files and those whose bytes are no text as they stand stay
//! whole.

use futures::{StreamExt, TryStreamExt};
use sluice_core::{Error, Result};

use super::config::{Decoding, Settings};
use super::inspect::{Piece, Shape};
use super::object::{Object, PIECE_BYTES};
use super::text::Stored;
use crate::format::csv::{Dialect, Scan, State, guess};

/// Parts of one file that are scanned at once: enough for the cores of most machines, and at
/// [`PIECE_BYTES`] each no burden to memory.
const SCANS_AT_ONCE: usize = 8;

/// The end of a line is looked for in this much at once.
const LINE_BYTES: u64 = 64 * 1024;

/// Bytes looked at behind each cut. Text within quotes is rarely longer, and a line hardly ever.
const GUESS_BYTES: u64 = 64 * 1024;

/// Pieces that are not at least this much larger than what is looked at are cut by all their quotes:
/// a guess would save nothing.
const GUESS_SHARE: u64 = 16;

/// Whether a file may be cut by a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Where records seem to begin.
    Likely,
    /// Where they do.
    Exact,
}

/// Cuts a piece of text into several of about `split_bytes` that begin where records begin.
pub(super) async fn cut(
    object: &Object,
    settings: &Settings,
    piece: Piece,
    how: Cut,
) -> Result<Vec<Piece>> {
    let (start, end) = piece.range;
    if end - start <= settings.split_bytes {
        return Ok(vec![piece]);
    }
    let starts = match (&settings.decoding, &piece.shape) {
        (Decoding::Csv(layout, _), Shape::Csv { codec, .. }) => {
            let stored = Stored { codec: *codec, encoding: layout.dialect().encoding };
            match stored.is_plain() {
                true => records(object, layout.dialect(), piece.range, settings, how).await?,
                false => return Ok(vec![piece]),
            }
        }
        (Decoding::Json(layout), Shape::Json { codec, list: false, .. }) => {
            let stored = Stored { codec: *codec, encoding: layout.encoding() };
            match stored.is_plain() {
                true => cut_lines(object, piece.range, settings.split_bytes).await?,
                false => return Ok(vec![piece]),
            }
        }
        _ => return Ok(vec![piece]),
    };
    let ends = starts.iter().skip(1).copied().chain([end]);
    let pieces = starts.iter().zip(ends).map(|(from, to)| {
        let mut shape = piece.shape.clone();
        if let Shape::Csv { start, .. } | Shape::Json { start, .. } = &mut shape {
            *start = *from;
        }
        let share = u128::from(piece.rows) * u128::from(to - from) / u128::from(end - start);
        Piece { range: (*from, to), rows: share as u64, bytes: to - from, shape }
    });
    Ok(pieces.collect())
}

/// Where lines begin, the first at the beginning and then one in each `split_bytes`.
async fn cut_lines(object: &Object, range: (u64, u64), split_bytes: u64) -> Result<Vec<u64>> {
    let (start, end) = range;
    let mut starts = vec![start];
    let mut wanted = start.saturating_add(split_bytes);
    while wanted < end {
        let mut at = wanted;
        let line = loop {
            let to = (at + LINE_BYTES).min(end);
            let bytes = object.read(at..to).await?;
            match memchr::memchr(b'\n', &bytes) {
                Some(line) => break at + line as u64 + 1,
                None if to == end => break end,
                None => at = to,
            }
        };
        if line >= end {
            break;
        }
        starts.push(line);
        wanted = line.saturating_add(split_bytes);
    }
    Ok(starts)
}

/// Where records begin.
async fn records(
    object: &Object,
    dialect: Dialect,
    range: (u64, u64),
    settings: &Settings,
    how: Cut,
) -> Result<Vec<u64>> {
    if how == Cut::Likely
        && settings.split_bytes >= GUESS_SHARE * GUESS_BYTES
        && let Some(starts) = guess_records(object, dialect, range, settings.split_bytes).await?
    {
        return Ok(starts);
    }
    cut_records(object, dialect, range, settings).await
}

/// Where records seem to begin; none where that cannot be told.
async fn guess_records(
    object: &Object,
    dialect: Dialect,
    (start, end): (u64, u64),
    split_bytes: u64,
) -> Result<Option<Vec<u64>>> {
    let step = usize::try_from(split_bytes).unwrap_or(usize::MAX);
    let guesses = (start..end).step_by(step).skip(1).map(|at| async move {
        let bytes = object.read(at..(at + GUESS_BYTES).min(end)).await?;
        Ok::<_, Error>(guess(dialect, &bytes).map(|border| at + border as u64))
    });
    let guesses: Vec<Option<u64>> =
        futures::stream::iter(guesses).buffered(SCANS_AT_ONCE).try_collect().await?;
    let starts = std::iter::once(Some(start)).chain(guesses).collect::<Option<Vec<u64>>>();
    Ok(starts.map(|starts| starts.into_iter().filter(|at| *at < end).collect()))
}

/// Where records begin, for certain.
///
/// All is scanned for quotes, in parts at once: only all quotes before a line break tell whether
/// it ends a record.
async fn cut_records(
    object: &Object,
    dialect: Dialect,
    (start, end): (u64, u64),
    settings: &Settings,
) -> Result<Vec<u64>> {
    let split_bytes = settings.split_bytes;
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
    Ok(starts)
}

/// Whether the first `size` bytes of a file end within quotes.
pub(super) async fn ends_in_quotes(
    object: &Object,
    settings: &Settings,
    size: u64,
) -> Result<bool> {
    let Decoding::Csv(layout, _) = &settings.decoding else { return Ok(false) };
    let stored = Stored { codec: None, encoding: layout.dialect().encoding };
    if !stored.is_plain() {
        return Ok(false);
    }
    let scan = scan(object.clone(), layout.dialect(), (0, size)).await?;
    Ok(scan.from(State::Field).0 == State::Quoted)
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
