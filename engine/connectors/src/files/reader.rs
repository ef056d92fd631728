//! Splits of files to rows.
//!
//! In: a split as the source cut it. Out: decoded chunks, while the next bytes are on their way.
//! A split says all that is needed, so splits are read in any order, together or alone, and again.
//! What it holds is reserved: for more than it needs, only as long as that is a small part of the
//! pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sluice_core::{
    Common, Decoded, Error, Memory, REJECTED_FILE_COLUMN, Reader, Rejected, Reservation, Result,
    RowStream, Scan, Share, Split,
};
use sluice_lake::store::Store;
use tokio::sync::Mutex;

use super::config::{Decoding, Settings};
use super::inspect::{Shape, inspect};
use super::object::{Found, Object};
use super::text::{Stored, Text};
use crate::format::encoding::Encoding;
use crate::format::{Decode, avro, csv, json, parquet};

/// All splits of a source read ahead, and in large pieces, within this part of the pool; then they
/// read what they need. In 1 GiB it is enough for eight cores, and plans notice little of it.
const DECODING_SHARE: usize = 8;

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
    stores: Vec<Store>,
    decoding: Decoding,
    /// What all splits hold of their files.
    memory: Common,
}

impl Reader for FileReader {
    fn schema(&self) -> SchemaRef {
        self.decoding.schema().clone()
    }

    fn open(&self, split: Split, scan: &Scan) -> RowStream {
        let opened = self.prepare(split, scan);
        let chunks = futures::stream::once(async { opened });
        let chunks = chunks.flat_map(|opened| match opened {
            Ok(opening) => opening.chunks(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        });
        chunks.boxed()
    }
}

impl FileReader {
    /// A reader for the files of `source` on `stores`.
    pub(super) fn new(
        source: &str,
        stores: Vec<Store>,
        decoding: Decoding,
        memory: &dyn Memory,
    ) -> Self {
        let share = memory.bytes_max().map_or(usize::MAX, |bytes| bytes / DECODING_SHARE);
        let owner = format!("decoding of source {source}");
        let memory = Common::of(Share::of(memory, &owner, share));
        Self { stores, decoding, memory }
    }

    fn prepare(&self, split: Split, scan: &Scan) -> Result<Opening> {
        let strange = || Error::bug(format!("a split of another source object={}", split.object));
        let detail: Detail =
            serde_json::from_value(split.detail.clone()).map_err(|e| strange().because(e))?;
        let store = self.stores.get(detail.found.root).ok_or_else(strange)?;
        let object = Object::new(store.clone(), detail.found)?;
        let (path, size, file) = (object.found().path.clone(), object.found().size, detail.file);
        let memory = self.memory.part();
        match (&self.decoding, detail.shape) {
            (Decoding::Csv(layout, _), Shape::Csv { codec, start, width, fields, rescued }) => {
                let origin = csv::Origin { object: path, file, start };
                let mapping = csv::Mapping { width, fields, rescued };
                let stored = Stored { codec, encoding: layout.dialect().encoding };
                let text = Text::new(object, split.range, stored, start)?;
                let followed = split.range.1 < size;
                let decoder = csv::Decoder::new(layout.clone(), mapping, origin).followed(followed);
                Ok(Opening::Pushed(Box::new(Rows::new(text, Box::new(decoder), memory))))
            }
            (Decoding::Json(layout), Shape::Json { codec, start, list }) => {
                let origin = json::Origin { object: path, file, start, list };
                let stored = Stored { codec, encoding: layout.encoding() };
                let text = Text::new(object, split.range, stored, start)?;
                let decoder = json::Decoder::new(layout.clone(), origin);
                Ok(Opening::Pushed(Box::new(Rows::new(text, Box::new(decoder), memory))))
            }
            (Decoding::Avro(layout), Shape::Avro) => {
                let stored = Stored { codec: None, encoding: Encoding::Utf8 };
                let bytes = Text::new(object, split.range, stored, 0)?;
                let decoder = avro::Decoder::new(layout.clone(), path, file);
                Ok(Opening::Pushed(Box::new(Rows::new(bytes, Box::new(decoder), memory))))
            }
            (Decoding::Parquet(layout), Shape::Parquet { row }) => {
                let origin = parquet::Origin { object: path, file, row };
                let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                let groups = index(split.range.0)..index(split.range.1);
                let (object, layout) = (Box::new(object), layout.clone());
                let scan = scan.clone();
                Ok(Opening::Parquet { object, layout, groups, origin, scan, memory })
            }
            _ => Err(strange()),
        }
    }
}

/// A split about to be read.
enum Opening {
    Pushed(Box<Rows>),
    Parquet {
        object: Box<Object>,
        layout: Arc<parquet::Layout>,
        groups: std::ops::Range<usize>,
        origin: parquet::Origin,
        scan: Scan,
        memory: Box<dyn Reservation>,
    },
}

impl Opening {
    fn chunks(self) -> RowStream {
        match self {
            Opening::Pushed(rows) => futures::stream::try_unfold(rows, |mut rows| async move {
                Ok(rows.next().await?.map(|decoded| (decoded, rows)))
            })
            .boxed(),
            Opening::Parquet { object, layout, groups, origin, scan, memory } => {
                let open = parquet::Rows::open(*object, layout, groups, origin, scan, memory);
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

/// The rows of a split that is read from its beginning to its end.
struct Rows {
    text: Text,
    decoder: Box<dyn Decode>,
    memory: Box<dyn Reservation>,
    ended: bool,
}

impl Rows {
    fn new(text: Text, decoder: Box<dyn Decode>, memory: Box<dyn Reservation>) -> Self {
        Self { text, decoder, memory, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Decoded>> {
        loop {
            if let Some(decoded) = self.decoder.next(self.ended)? {
                return Ok(Some(decoded));
            }
            if self.ended {
                return Ok(None);
            }
            let beside = self.decoder.bytes();
            match self.text.next(self.memory.as_mut(), beside).await? {
                Some(bytes) => {
                    self.decoder.push(&bytes);
                    let held = self.text.bytes() + bytes.len() + self.decoder.bytes();
                    self.memory.insist(held)?;
                }
                None => self.ended = true,
            }
        }
    }
}

/// Why a file that could not be read stays rejected: its row is not one of its records.
const NO_BYTES: &str = "nothing of it was kept: it was no record but a file";

/// Reads rejected rows of files once more, each as a record of its own.
#[derive(Debug, Clone)]
pub(super) struct Again(Arc<Known>);

/// The files that a source has now, whose headers say what the fields of their rows are.
#[derive(Debug)]
struct Known {
    settings: Settings,
    stores: Vec<Store>,
    found: BTreeMap<String, Found>,
    /// What was found of a file that was looked into, or why its rows cannot be read.
    shapes: Mutex<BTreeMap<String, std::result::Result<Shape, String>>>,
}

impl Again {
    /// A reader for rows of `found`, files of a source on `stores`.
    pub(super) fn new(settings: Settings, stores: Vec<Store>, found: Vec<Found>) -> Self {
        let found = found.into_iter().map(|file| (file.path.clone(), file)).collect();
        Self(Arc::new(Known { settings, stores, found, shapes: Mutex::default() }))
    }

    async fn decode(&self, split: Split) -> Result<Decoded> {
        let strange = || Error::bug("these are no rejected rows");
        let rows = split.held.get::<RecordBatch>().ok_or_else(strange)?;
        let column = |name: &str| rows.column_by_name(name).ok_or_else(strange);
        let objects = column(REJECTED_FILE_COLUMN)?.as_string_opt::<i32>().ok_or_else(strange)?;
        let places = column("position")?.as_primitive_opt::<Int64Type>().ok_or_else(strange)?;
        let bytes = column("bytes")?.as_binary_opt::<i32>().ok_or_else(strange)?;
        let (mut good, mut rejected) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let (object, record) = (objects.value(row), bytes.value(row));
            let decoded = match record.is_empty() {
                true => Err(NO_BYTES.to_string()),
                false => match self.shape(object).await? {
                    Ok(shape) => self.record(object, shape, record)?,
                    Err(reason) => Err(reason),
                },
            };
            match decoded {
                Ok(rows) => good.extend(rows),
                Err(reason) => rejected.push(Rejected {
                    object: object.to_string(),
                    position: places.value(row).unsigned_abs(),
                    bytes: record.to_vec(),
                    reason,
                }),
            }
        }
        let rows = arrow::compute::concat_batches(&self.schema(), &good)?;
        Ok(Decoded::new(rows, rejected))
    }

    /// What is known of a file, which is looked into once.
    async fn shape(&self, path: &str) -> Result<std::result::Result<Shape, String>> {
        let mut shapes = self.0.shapes.lock().await;
        if let Some(shape) = shapes.get(path) {
            return Ok(shape.clone());
        }
        let shape = match (&self.0.settings.decoding, self.0.found.get(path)) {
            (Decoding::Json(_), _) => Ok(Shape::Json { codec: None, start: 0, list: false }),
            (_, Some(found)) => {
                let store = self.0.stores.get(found.root);
                let store = store.ok_or_else(|| Error::bug("a file has no store"))?;
                let object = Object::new(store.clone(), found.clone())?;
                match inspect(&object, &self.0.settings, None).await {
                    Ok(found) => match found.pieces.into_iter().next() {
                        Some(piece) => Ok(piece.shape),
                        None => Err("its file holds nothing now".to_string()),
                    },
                    Err(error) if error.retry() => return Err(error),
                    Err(error) => Err(error.chain()),
                }
            }
            (_, None) => Err("its file is gone, whose header said what its fields are".to_string()),
        };
        shapes.insert(path.to_string(), shape.clone());
        Ok(shape)
    }

    /// The rows of one record, or why it cannot be decoded.
    fn record(
        &self,
        object: &str,
        shape: Shape,
        record: &[u8],
    ) -> Result<std::result::Result<Vec<RecordBatch>, String>> {
        let (object, file, start) = (object.to_string(), 0, 0);
        let mut decoder: Box<dyn Decode> = match (&self.0.settings.decoding, shape) {
            (Decoding::Csv(layout, _), Shape::Csv { width, fields, rescued, .. }) => {
                let mapping = csv::Mapping { width, fields, rescued };
                let origin = csv::Origin { object, file, start };
                Box::new(csv::Decoder::new(layout.clone(), mapping, origin))
            }
            (Decoding::Json(layout), _) => {
                let origin = json::Origin { object, file, start, list: false };
                Box::new(json::Decoder::new(layout.clone(), origin))
            }
            _ => return Err(Error::bug(format!("a file of another format object={object}"))),
        };
        decoder.push(record);
        decoder.push(b"\n");
        let mut rows = Vec::new();
        while let Some(decoded) = decoder.next(true)? {
            if let Some(rejected) = decoded.rejected.into_iter().next() {
                return Ok(Err(rejected.reason));
            }
            rows.push(decoded.rows);
        }
        Ok(match rows.iter().any(|rows| rows.num_rows() > 0) {
            true => Ok(rows),
            false => Err("there is no record in it".to_string()),
        })
    }
}

impl Reader for Again {
    fn schema(&self) -> SchemaRef {
        self.0.settings.decoding.schema().clone()
    }

    fn open(&self, split: Split, _scan: &Scan) -> RowStream {
        let again = self.clone();
        futures::stream::once(async move { again.decode(split).await }).boxed()
    }
}
