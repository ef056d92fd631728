//! Splits of files to rows.
//!
//! In: a split as the source cut it. Out: decoded chunks, while the next bytes are on their way.
//! A split says all that is needed, so splits are read in any order, together or alone, and again.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sluice_core::{Decoded, Error, Reader, Result, RowStream, Split};
use sluice_lake::store::Store;
use tokio::task::JoinHandle;

use super::config::Decoding;
use super::gzip::Gunzip;
use super::inspect::Shape;
use super::object::{Found, Object, PIECE_BYTES};
use crate::format::{csv, parquet};

/// Plain bytes taken out of gzip before they are decoded.
const GUNZIP_BYTES: usize = 1024 * 1024;

/// A split's `detail`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Detail {
    pub(super) found: Found,
    /// The file's number within its intake.
    pub(super) file: u32,
    pub(super) shape: Shape,
}

/// Opens splits of one source.
#[derive(Debug)]
pub(super) struct FileReader {
    /// The store of each path of the source.
    pub(super) stores: Vec<Store>,
    pub(super) decoding: Decoding,
}

impl Reader for FileReader {
    fn schema(&self) -> SchemaRef {
        match &self.decoding {
            Decoding::Csv(layout, _) => layout.schema().clone(),
            Decoding::Parquet(layout) => layout.schema().clone(),
        }
    }

    fn open(&self, split: Split) -> RowStream {
        let opened = self.prepare(split);
        let chunks = futures::stream::once(async { opened });
        let chunks = chunks.flat_map(|opened| match opened {
            Ok(opening) => opening.chunks(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        });
        chunks.boxed()
    }
}

impl FileReader {
    fn prepare(&self, split: Split) -> Result<Opening> {
        let strange = || Error::bug(format!("a split of another source object={}", split.object));
        let detail: Detail =
            serde_json::from_value(split.detail.clone()).map_err(|e| strange().because(e))?;
        let store = self.stores.get(detail.found.root).ok_or_else(strange)?;
        let object = Object::new(store.clone(), detail.found)?;
        let (path, file) = (object.found().path.clone(), detail.file);
        match (&self.decoding, detail.shape) {
            (Decoding::Csv(layout, _), Shape::Csv { gzip, start, width, fields, rescued }) => {
                let origin = csv::Origin { object: path.clone(), file, start };
                let mapping = csv::Mapping { width, fields, rescued };
                Ok(Opening::Csv(Box::new(CsvRows {
                    decoder: csv::Decoder::new(layout.clone(), mapping, origin),
                    gunzip: gzip.then(|| Gunzip::new(&path)),
                    skip: if gzip { start } else { 0 },
                    pieces: Pieces::new(object, split.range),
                    input: Bytes::new(),
                    ended: false,
                })))
            }
            (Decoding::Parquet(layout), Shape::Parquet { row }) => {
                let origin = parquet::Origin { object: path, file, row };
                let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                let groups = index(split.range.0)..index(split.range.1);
                let (object, layout) = (Box::new(object), layout.clone());
                Ok(Opening::Parquet { object, layout, groups, origin })
            }
            _ => Err(strange()),
        }
    }
}

/// A split about to be read.
enum Opening {
    Csv(Box<CsvRows>),
    Parquet {
        object: Box<Object>,
        layout: Arc<parquet::Layout>,
        groups: std::ops::Range<usize>,
        origin: parquet::Origin,
    },
}

impl Opening {
    fn chunks(self) -> RowStream {
        match self {
            Opening::Csv(rows) => futures::stream::try_unfold(rows, |mut rows| async move {
                Ok(rows.next().await?.map(|decoded| (decoded, rows)))
            })
            .boxed(),
            Opening::Parquet { object, layout, groups, origin } => {
                let open = parquet::Rows::open(*object, layout, groups.collect(), origin);
                futures::stream::once(open)
                    .flat_map(|opened| match opened {
                        Ok(rows) => futures::stream::try_unfold(rows, |mut rows| async move {
                            Ok(rows.next().await?.map(|decoded| (decoded, rows)))
                        })
                        .boxed(),
                        Err(error) => futures::stream::once(async { Err(error) }).boxed(),
                    })
                    .boxed()
            }
        }
    }
}

/// The rows of a CSV split.
struct CsvRows {
    pieces: Pieces,
    gunzip: Option<Gunzip>,
    /// Plain bytes before the first row, still to be dropped.
    skip: u64,
    /// Compressed bytes not yet taken.
    input: Bytes,
    decoder: csv::Decoder,
    ended: bool,
}

impl CsvRows {
    async fn next(&mut self) -> Result<Option<Decoded>> {
        loop {
            if let Some(decoded) = self.decoder.next(self.ended)? {
                return Ok(Some(decoded));
            }
            if self.ended {
                return Ok(None);
            }
            match self.gunzip.is_some() {
                true => self.feed_gzip().await?,
                false => match self.pieces.next().await? {
                    Some(bytes) => self.decoder.push(&bytes),
                    None => self.ended = true,
                },
            }
        }
    }

    async fn feed_gzip(&mut self) -> Result<()> {
        let Some(gunzip) = &mut self.gunzip else { return Ok(()) };
        let mut plain = Vec::new();
        while plain.len() < GUNZIP_BYTES && !self.ended {
            if self.input.is_empty() {
                match self.pieces.next().await? {
                    Some(bytes) => self.input = bytes,
                    None => {
                        gunzip.finish(&mut plain)?;
                        self.ended = true;
                        break;
                    }
                }
            }
            let left = gunzip.push(&self.input, &mut plain)?.len();
            self.input.advance(self.input.len() - left);
        }
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(plain.len());
        self.skip -= skipped as u64;
        self.decoder.push(&plain[skipped..]);
        Ok(())
    }
}

/// The bytes of a range in order, one request ahead.
struct Pieces {
    object: Object,
    at: u64,
    end: u64,
    ahead: Option<Request>,
}

impl Pieces {
    fn new(object: Object, (at, end): (u64, u64)) -> Self {
        Self { object, at, end, ahead: None }
    }

    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(mut current) = self.ahead.take().or_else(|| self.request()) else {
            return Ok(None);
        };
        self.ahead = self.request();
        let read = (&mut current.0).await;
        read.map_err(|e| Error::bug("reading stopped").because(e))?.map(Some)
    }

    fn request(&mut self) -> Option<Request> {
        if self.at >= self.end {
            return None;
        }
        let range = self.at..(self.at + PIECE_BYTES).min(self.end);
        self.at = range.end;
        let object = self.object.clone();
        Some(Request(tokio::spawn(async move { object.read(range).await })))
    }
}

/// A request under way; dropping it ends it.
struct Request(JoinHandle<Result<Bytes>>);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.abort();
    }
}
